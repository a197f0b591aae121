"""GeoJSON with the outlines of nuclei, one feature a line, as QuPath opens it (drag the file onto the image).

Points are x, y in pixels of the image, y down, pixel (0, 0) covering [0, 1] x [0, 1], which is QuPath's way; outlines
run along the edges of pixels, so the masks come back exactly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError, located
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.outlines import Polygon, outlines
from maskseg.formats.classes import NUCLEUS, colours
from maskseg.formats.geojson_reader import load
from maskseg.formats.reviewed import REVIEWED, region_of
from maskseg.formats.writer import StreamWriter
from maskseg.imaging.reading import ImageFile

# QuPath draws a class in its colour: where there is but one, in red.
_RED = (255, 0, 0)


class GeoJsonWriter:
    """A feature collection that is written nucleus by nucleus and appears, whole, when its block ends well.

    Only one nucleus is held at a time, so a slide of any size can be written tile by tile.

    Parameters
    ----------
    path : path-like
        The file to write.
    scale : float
        The points are multiplied by it: pixels of the full size of a slide in one of the masks', as QuPath counts them.
    names : sequence of str
        What the classes of the masks are called.

    Examples
    --------
    >>> with GeoJsonWriter("slide.geojson") as writer:  # doctest: +SKIP
    ...     for masks, x, y in tiles:
    ...         writer.write(masks, (x, y))
    """

    def __init__(self, path: str | os.PathLike[str], scale: float = 1.0, names: Sequence[str] = (NUCLEUS,)) -> None:
        self._path, self._scale = path, scale
        colour_of = colours(names) if len(names) > 1 else {names[0]: _RED}
        self._classes = [{"name": name, "color": list(colour_of[name])} for name in names]
        self._stack = ExitStack()
        self._separator = ""

    def __enter__(self) -> GeoJsonWriter:
        self._file = self._stack.enter_context(write_whole(self._path, "w", encoding="utf-8"))
        self._file.write('{"type": "FeatureCollection", "features": [\n')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            # Inside the stack's care: a disk that is full here still leaves no half a file.
            self._stack.callback(self._file.write, "\n]}\n")
        self._stack.__exit__(kind, error, traceback)

    def add(self, bitmap: NDArray[np.bool_], origin: tuple[int, int], score: float = 1.0, kind: int = 0) -> None:
        """Write one nucleus; one without a pixel has no outline and is left out.

        Parameters
        ----------
        bitmap : bool array (h, w)
        origin : (int, int)
            x, y of its top left pixel.
        score : float
            Becomes a measurement, as the area in pixels does.
        kind : int
            The class, by its place among the names.
        """
        properties = {
            "objectType": "detection",
            "classification": self._classes[kind],
            # str of a float32 has the digits that it needs and no more.
            "measurements": {"score": float(str(np.float32(score))), "area": int(np.count_nonzero(bitmap))},
        }
        self._feature(bitmap, origin, properties)

    def mark(self, region: NDArray[np.bool_]) -> None:
        """Write what was reviewed, bool (H, W), as an annotation of that name."""
        self._feature(region, (0, 0), {"objectType": "annotation", "name": REVIEWED})

    def _feature(self, bitmap: NDArray[np.bool_], origin: tuple[int, int], properties: dict[str, Any]) -> None:
        polygons = outlines(bitmap, origin)
        if self._scale != 1:
            polygons = [[ring * self._scale for ring in polygon] for polygon in polygons]
        if polygons:
            feature = {"type": "Feature", "geometry": _geometry(polygons), "properties": properties}
            self._file.write(self._separator + json.dumps(feature, allow_nan=False))
            self._separator = ",\n"

    def write(self, masks: CropMasks, origin: tuple[int, int] = (0, 0)) -> None:
        """Write the nuclei of an image, or of a tile of it whose top left pixel is `origin` (x, y)."""
        corners, kinds = masks.boxes[:, :2].tolist(), masks.classes.tolist()
        for bitmap, (x0, y0), score, kind in zip(masks.bitmaps, corners, masks.scores, kinds, strict=True):
            self.add(bitmap, (x0 + origin[0], y0 + origin[1]), score, kind)


def write_geojson(path: str | os.PathLike[str], masks: CropMasks, names: Sequence[str] = (NUCLEUS,)) -> None:
    """Write the nuclei of an image as GeoJSON, whole or not at all; empty masks are left out.

    `names` are those of the classes of the masks.
    """
    with GeoJsonWriter(path, names=names) as writer:
        writer.write(masks)


class GeoJsonFiles(StreamWriter):
    """A GeoJSON file of each image."""

    @contextmanager
    def stream(self) -> Iterator[Callable[[CropMasks, int], None]]:
        """See `StreamWriter`."""
        with GeoJsonWriter(self.path, self.image.scale, self.image.class_names) as writer:
            region = region_of(self.image.fields, self.image.shape)
            if region is not None:
                writer.mark(region)
            yield lambda masks, settled: writer.write(masks)


def read_geojson(path: str | os.PathLike[str], shape: tuple[int, int]) -> CropMasks:
    """Masks from the polygons of a GeoJSON file, ours or one that QuPath exported.

    Parameters
    ----------
    path : path-like
        A feature collection, a list of features or one feature. A pixel belongs to a polygon that its centre lies in.
    shape : (int, int)
        Height and width of the image; what lies outside is cut off.

    Returns
    -------
    CropMasks
        One mask a feature, in the order of the file. Scores are the measurement ``score``, 1 where there is none.

    Raises
    ------
    InputError
        If the file cannot be read, or a feature is no nucleus.
    """
    path = Path(path)
    nuclei = load(ImageFile(path.stem, path), shape)
    for one in nuclei.left_out:
        raise InputError(located(one.file, one.reason))
    return nuclei.masks


def _geometry(polygons: list[Polygon]) -> dict[str, Any]:
    # GeoJSON repeats the first point of a ring at its end.
    closed = [[[*points, points[0]] for points in (ring.tolist() for ring in polygon)] for polygon in polygons]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}

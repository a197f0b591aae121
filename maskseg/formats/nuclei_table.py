"""The table of nuclei: one row each, with its place, size, shape and intensity.

Everything is what `skimage.measure.regionprops` measures on the label image, taken on the box of each nucleus only:
lengths and areas in pixels, pixel centres at whole numbers, orientation in radians from the axis that points down to
the major axis, counter-clockwise. Intensities are those of the image file, also where it has 16 bits, by channel.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.optional import need
from maskseg.core.tables import write_csv
from maskseg.formats.image_table import class_counts, failed_row, summary_row, write_table
from maskseg.formats.writer import ImageInfo, Joined, Writer
from maskseg.imaging.windows import Source

Row = list[str | int | float | None]

_SHAPE = ("axis_major_length", "axis_minor_length", "orientation", "eccentricity", "solidity")
_CHANNELS = 3
# The same for every image, so that tables can be joined: what is not known stays empty.
COLUMNS: dict[str, type] = {
    "image_id": str,
    "label": int,
    "score": float,
    "area": int,
    "centroid_x": float,
    "centroid_y": float,
    "x0": int,
    "y0": int,
    "x1": int,
    "y1": int,
    **dict.fromkeys(_SHAPE, float),
    **{f"intensity_mean_{channel}": float for channel in range(_CHANNELS)},
    "area_um2": float,
    "axis_major_length_um": float,
    "axis_minor_length_um": float,
}
# The last column, where there are several classes.
CLASS = "class"
# Rows that are written to Parquet at once.
_ROWS = 1 << 16


def nucleus_rows(
    image_id: str,
    masks: CropMasks,
    pixels: NDArray[Any] | _Values,
    microns_per_pixel: float | None = None,
    first: int = 1,
    names: Sequence[str] = (),
) -> list[Row]:
    """Rows of the nuclei of an image, with one value for each of `COLUMNS`, and the class where there are several.

    Parameters
    ----------
    image_id : str
    masks : CropMasks
        Mask i has the label first + i, as in `CropMasks.to_labels`. An empty mask has no row.
    pixels : array (H, W, C), or what gives such boxes of one
        C of 1 to 3 channels; the columns of further ones stay empty.
    microns_per_pixel : float, optional
        Side of a pixel in micrometres; where not given, the columns in micrometres stay empty.
    first : int
        Label of the first mask.
    names : sequence of str
        What the classes of the masks are called.
    """
    rows: list[Row] = []
    size = microns_per_pixel
    for label, (bitmap, (left, top, right, bottom), score) in enumerate(
        zip(masks.bitmaps, masks.boxes.tolist(), masks.scores, strict=True), start=first
    ):
        if not bitmap.any():
            continue
        (region,) = regionprops(bitmap.view(np.uint8), pixels[top:bottom, left:right])
        y0, x0, y1, x1 = region.bbox
        y, x = map(float, region.centroid)
        area = int(region.area)
        shape = [float(region[name]) for name in _SHAPE]
        means = region.intensity_mean.tolist()
        rows.append(
            # str of a float32 has the digits that it needs and no more.
            [image_id, label, float(str(score)), area, x + left, y + top, x0 + left, y0 + top, x1 + left, y1 + top]
            + shape
            + means
            + [None] * (_CHANNELS - len(means))
            + ([None] * 3 if size is None else [area * size**2, shape[0] * size, shape[1] * size])
            + ([names[masks.classes[label - first]]] if len(names) > 1 else [])
        )
    return rows


def write_nuclei(path: str | os.PathLike[str], rows: Iterable[Row], classified: bool = False) -> None:
    """Write the rows of `nucleus_rows` as CSV, whole or not at all; they are taken one at a time.

    `classified`: the last column is that of the class.
    """
    # Eight digits are a thousandth of a pixel in the largest image.
    cells = ([f"{value:.8g}" if isinstance(value, float) else value for value in row] for row in rows)
    write_csv(path, (*COLUMNS, *[CLASS] * classified), cells)


def write_nuclei_parquet(path: str | os.PathLike[str], rows: Iterable[Row], classified: bool = False) -> None:
    """Write the rows of `nucleus_rows` as Parquet, whole or not at all; see `write_nuclei`.

    Raises
    ------
    InputError
        pyarrow is not installed, or the file cannot be written.
    """
    pyarrow = need("pyarrow", "parquet", "--formats parquet")
    from pyarrow import parquet

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    columns_of = {**COLUMNS, **({CLASS: str} if classified else {})}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns_of.items()])
    with write_whole(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for some in _by(_ROWS, rows):
            columns = [
                pyarrow.array(column, kind) for column, kind in zip(zip(*some, strict=True), schema.types, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def _by(size: int, rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in lists of `size`, the last one shorter."""
    rows = iter(rows)
    while some := list(islice(rows, size)):
        yield some


class TableWriter(Writer):
    """The rows of an image and of its nuclei, for the tables of all images."""

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._rows: list[Row] = []
        self._areas = [np.zeros(0, np.int64)]
        self._scores = [np.zeros(0, np.float32)]
        self._classes = [np.zeros(0, np.int32)]
        self._count = 0

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        image = self.image
        assert image.source is not None, "the registry says that pixels are needed"
        values = _Values(image.source)
        self._rows += nucleus_rows(
            image.image_id, masks, values, image.microns_per_pixel, self._count + 1, image.class_names
        )
        self._areas.append(masks.areas)
        self._scores.append(masks.scores)
        self._classes.append(masks.classes)
        self._count += len(masks)

    def close(self) -> dict[str, Any]:
        """See `Writer`."""
        areas, scores = np.concatenate(self._areas), np.concatenate(self._scores)
        image = self.image
        row = summary_row(image.image_id, image.shape, areas, scores, image.seconds())
        further = class_counts(image.class_names, np.concatenate(self._classes)) if image.classified else {}
        return {"row": {**row, **further}, "nuclei": self._rows, "further": list(further)}


class _Values:
    """The values of a source as an array from which boxes are taken."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = place
        return self._source.values((columns.start, rows.start, columns.stop, rows.stop))


def join_tables(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the table of images and that of nuclei; the images are taken one at a time."""
    of_images, of_nuclei = paths
    rows: list[dict[str, str | int]] = []
    further, images = _further(images)

    def nuclei() -> Iterator[Row]:
        for image in images:
            if image.reason:
                rows.append(failed_row(image.image_id, image.reason))
            else:
                rows.append(image.record["row"])
                yield from image.record["nuclei"]

    write_nuclei(of_nuclei, nuclei(), bool(further))
    write_table(of_images, rows, further)


def join_parquet(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the table of nuclei as Parquet; the images are taken one at a time."""
    (path,) = paths
    further, images = _further(images)
    rows = (row for image in images if not image.reason for row in image.record["nuclei"])
    write_nuclei_parquet(path, rows, bool(further))


def _further(images: Iterable[Joined]) -> tuple[list[str], Iterator[Joined]]:
    """Columns that the table of images has for its classes, by the first image that was not left out."""
    images = iter(images)
    begun: list[Joined] = []
    for image in images:
        begun.append(image)
        if not image.reason:
            return image.record.get("further", []), chain(begun, images)
    return [], iter(begun)

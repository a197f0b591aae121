"""One large image to files, in memory that follows the tile and not the image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.formats.geojson import GeoJsonWriter
from maskseg.formats.image_table import summary_row
from maskseg.formats.nuclei_table import nucleus_rows
from maskseg.formats.ome_zarr import zarr_labels
from maskseg.formats.overlay import overlay, write_picture
from maskseg.formats.tiled_labels import label_rows, write_tiled_labels
from maskseg.imaging.windows import Resized, Source
from maskseg.inference.stitching import Settled
from maskseg.inference.tiling import CONTEXT, SIDE, TiledImage, TiledPredictor

T = TypeVar("T")

# The overlay of an image with a longer side than this is made on a smaller copy.
_OVERLAY = 4096


def predict_large(
    predictor: TiledPredictor,
    source: Source,
    image_id: str,
    out: Path,
    parts: Path,
    formats: Sequence[str],
    tta: str | None = None,
    scale: float = 1.0,
    microns_per_pixel: float | None = None,
    side: int = SIDE,
    context: int = CONTEXT,
) -> dict[str, Any]:
    """Segment an image tile by tile and write what belongs to it alone.

    Writes ``labels/ID.tif`` (a tiled TIFF), ``zarr/ID.zarr``, ``geojson/ID.geojson`` and ``overlays/ID.png``, each
    nucleus as soon as it is settled. Nothing is kept of a nucleus but its area and score, and its run lengths where
    they are asked for.

    Parameters
    ----------
    predictor : TiledPredictor
    source : Source
    image_id : str
    out, parts : Path
        Folder of the results, and of the tiles that are done.
    formats : sequence of str
        ``labels``, ``zarr``, ``geojson`` and ``overlay`` are written; ``table`` and ``parquet`` need the rows of
        nuclei; all others need run lengths.
    tta : str, optional
        See `Predictor.segment`.
    scale : float
        Pixels of the full size of a slide in one of the source: what GeoJSON counts in.
    microns_per_pixel : float, optional
        Of the source; for the rows of nuclei and the size of a pixel in Zarr.
    side, context : int
        See `Tiling`.

    Returns
    -------
    dict
        ``row`` (see `image_row`), ``nuclei``, ``shape``, ``scores`` and ``rle``, as the part file of an image has them.
    """
    begin = time.perf_counter()
    image = TiledImage(predictor, source, parts, tta, side, context)
    at_most = image.predict()
    areas, scores, runs, nuclei = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], [], []
    keep_runs = bool(set(formats) - {"labels", "zarr", "geojson", "overlay", "table", "parquet"})
    step = -(-max(source.shape) // _OVERLAY)
    small = np.zeros([-(-length // step) for length in source.shape] if "overlay" in formats else (0, 0), np.int32)

    def through(writer: GeoJsonWriter | None) -> Iterator[Settled]:
        for masks, rows in image.settled():
            if writer:
                writer.write(masks)
            count = sum(map(len, scores))
            if "overlay" in formats:
                _paint(small, masks, step, count)
            if keep_runs:
                runs.extend(masks.to_rle())
            if "table" in formats or "parquet" in formats:
                rows_of_nuclei = nucleus_rows(image_id, masks, _Pixels(source), microns_per_pixel, count + 1)
                nuclei.extend(rows_of_nuclei)
            areas.append(masks.areas)
            scores.append(masks.scores)
            yield Settled(masks, rows)

    with ExitStack() as stack:
        writer = None
        if "geojson" in formats:
            writer = stack.enter_context(GeoJsonWriter(out / "geojson" / f"{image_id}.geojson", scale))
        dtype, rows = label_rows(source.shape, through(writer), at_most)
        if "zarr" in formats:
            path = out / "zarr" / f"{image_id}.zarr"
            rows = _passed(rows, stack.enter_context(zarr_labels(path, source.shape, dtype, microns_per_pixel)))
        if "labels" in formats:
            write_tiled_labels(out / "labels" / f"{image_id}.tif", source.shape, dtype, rows)
        else:
            for _ in rows if "zarr" in formats else through(writer):
                pass
    if "overlay" in formats:
        height, width = small.shape
        picture = (source if step == 1 else Resized(source, (height, width))).read((0, 0, width, height))
        write_picture(out / "overlays" / f"{image_id}.png", overlay(picture, prediction=small))
    row = summary_row(
        image_id, source.shape, np.concatenate(areas), np.concatenate(scores), time.perf_counter() - begin
    )
    kept = np.concatenate(scores).tolist() if runs else []
    return {"row": row, "nuclei": nuclei, "shape": source.shape, "scores": kept, "rle": runs}


def _passed(items: Iterable[T], to: Callable[[T], None]) -> Iterator[T]:
    """The items, each given to a function too."""
    for item in items:
        to(item)
        yield item


class _Pixels:
    """The values of a source as an array from which boxes are taken."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = place
        return self._source.values((columns.start, rows.start, columns.stop, rows.stop))


def _paint(small: NDArray[np.int32], masks: CropMasks, step: int, count: int) -> None:
    """Draw masks on a label image of which a pixel is every `step`-th one of the image; labels follow `count`."""
    for label, ((x0, y0, x1, y1), bitmap) in enumerate(
        zip(masks.boxes.tolist(), masks.bitmaps, strict=True), start=count + 1
    ):
        part = bitmap[-y0 % step :: step, -x0 % step :: step]
        place = small[-(-y0 // step) : -(-y1 // step), -(-x0 // step) : -(-x1 // step)]
        place[part] = label

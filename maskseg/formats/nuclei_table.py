"""The table of nuclei: one row each, with its place, size, shape and intensity.

Everything is what `skimage.measure.regionprops` measures on the label image, taken on the box of each nucleus only:
lengths and areas in pixels, pixel centres at whole numbers, orientation in radians from the axis that points down to
the major axis, counter-clockwise. Intensities are those of the image file, also where it has 16 bits, in each channel
that the file has. Where nuclei are grown to cells, ring and cell are measured too; see `maskseg.formats.measures`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from maskseg.core.cells import Cell, Growing
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.optional import need
from maskseg.core.tables import write_csv
from maskseg.formats.image_table import class_counts, failed_row, summary_row, write_table
from maskseg.formats.measures import TEXTURE, texture
from maskseg.formats.writer import ImageInfo, Joined, Writer
from maskseg.imaging.windows import Source, all_values, channel_names

Value = str | int | float | None
Row = list[Value]

_SHAPE = ("axis_major_length", "axis_minor_length", "orientation", "eccentricity", "solidity")
_CHANNELS = 3
_PLACE: dict[str, type] = {
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
}
# The last column, where there are several classes.
CLASS = "class"
_MICRONS = ("area_um2", "axis_major_length_um", "axis_minor_length_um")


def columns_of(
    channels: int = _CHANNELS, cells: bool = False, textures: bool = False, classified: bool = False
) -> dict[str, type]:
    """Names and types of the columns: the same for every image of a run, so that what is not known stays empty.

    Parameters
    ----------
    channels : int
        The most that an image has; there are columns for three at least.
    cells : bool
        Ring and cell are measured.
    textures : bool
        Texture is measured.
    classified : bool
        There are several classes.
    """
    numbers = range(max(_CHANNELS, channels))
    names = [*_SHAPE, *(f"intensity_mean_{number}" for number in numbers), *_MICRONS]
    columns: dict[str, type] = {**_PLACE, **dict.fromkeys(names, float)}
    if cells:
        columns |= {"neighbours": int, "ring_area": int, "cell_area": int, "cell_area_um2": float}
        for part in ("ring", "cell"):
            columns |= {f"{part}_intensity_mean_{number}": float for number in numbers}
    if textures:
        columns |= {f"intensity_std_{number}": float for number in numbers}
        columns |= {f"texture_{name}_{number}": float for name in TEXTURE for number in numbers}
    return {**columns, CLASS: str} if classified else columns


COLUMNS = columns_of()
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
        The columns of channels beyond C stay empty, and channels beyond three have none.
    microns_per_pixel : float, optional
        Side of a pixel in micrometres; where not given, the columns in micrometres stay empty.
    first : int
        Label of the first mask.
    names : sequence of str
        What the classes of the masks are called.
    """
    classified = len(names) > 1
    nuclei = zip(masks.bitmaps, masks.boxes.tolist(), masks.scores, masks.classes.tolist(), strict=True)
    rows = [
        _nucleus(image_id, label, score, bitmap, box, pixels[box[1] : box[3], box[0] : box[2]], microns_per_pixel)
        | ({CLASS: names[kind]} if classified else {})
        for label, (bitmap, box, score, kind) in enumerate(nuclei, start=first)
        if bitmap.any()
    ]
    return [[row.get(name) for name in columns_of(classified=classified)] for row in rows]


def _nucleus(
    image_id: str,
    label: int,
    score: float | np.floating[Any],
    bitmap: NDArray[np.bool_],
    box: Sequence[int],
    values: NDArray[Any],
    microns_per_pixel: float | None,
) -> dict[str, Value]:
    """What is measured on a nucleus, by column; bitmap (h, w) and values (h, w, C) are those of the box."""
    left, top, _, _ = box
    (region,) = regionprops(bitmap.view(np.uint8), values)
    y0, x0, y1, x1 = region.bbox
    y, x = map(float, region.centroid)
    area = int(region.area)
    # str of a float32 has the digits that it needs and no more.
    place = (image_id, label, float(str(score)), area, x + left, y + top, x0 + left, y0 + top, x1 + left, y1 + top)
    row: dict[str, Value] = dict(zip(_PLACE, place, strict=True))
    row |= {name: float(region[name]) for name in _SHAPE}
    row |= _numbered("intensity_mean", region.intensity_mean.tolist())
    if (size := microns_per_pixel) is not None:
        lengths = (float(region[name]) * size for name in _SHAPE[:2])
        row |= dict(zip(_MICRONS, (area * size**2, *lengths), strict=True))
    return row


def _cell(cell: Cell, values: NDArray[Any], microns_per_pixel: float | None) -> dict[str, Value]:
    """What is measured on the ring and the cell, by column; `values` (h, w, C) of the box of the cell."""
    area = int(np.count_nonzero(cell.cell))
    row: dict[str, Value] = {"neighbours": cell.neighbours, "cell_area": area}
    if microns_per_pixel is not None:
        row["cell_area_um2"] = area * microns_per_pixel**2
    row["ring_area"] = int(np.count_nonzero(cell.ring))
    for name, part in (("ring", cell.ring), ("cell", cell.cell)):
        if part.any():
            row |= _numbered(f"{name}_intensity_mean", values[part].mean(axis=0, dtype=np.float64).tolist())
    return row


def _numbered(name: str, figures: Sequence[float | None]) -> dict[str, Value]:
    """A figure of each channel, by column."""
    return {f"{name}_{number}": figure for number, figure in enumerate(figures)}


def write_nuclei(path: str | os.PathLike[str], rows: Iterable[Row], columns: Iterable[str] = COLUMNS) -> None:
    """Write the rows of `nucleus_rows`, or of other columns, as CSV, one at a time, whole or not at all."""
    # Eight digits are a thousandth of a pixel in the largest image.
    cells = ([f"{value:.8g}" if isinstance(value, float) else value for value in row] for row in rows)
    write_csv(path, tuple(columns), cells)


def write_nuclei_parquet(path: str | os.PathLike[str], rows: Iterable[Row], columns: dict[str, type] = COLUMNS) -> None:
    """Write the rows of `nucleus_rows`, or of other columns, as Parquet, whole or not at all.

    Raises
    ------
    InputError
        pyarrow is not installed, or the file cannot be written.
    """
    pyarrow = need("pyarrow", "parquet", "--formats parquet")
    from pyarrow import parquet

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with write_whole(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for some in _by(_ROWS, rows):
            arrays = [
                pyarrow.array(column, kind) for column, kind in zip(zip(*some, strict=True), schema.types, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


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
        self._classes: list[int] = []

    def open(self) -> None:
        """See `Writer`."""
        image = self.image
        assert image.source is not None, "the registry says that pixels are needed"
        self._values = _Values(image.source)
        self._channels = channel_names(image.source)
        self._columns = columns_of(len(self._channels), image.expand is not None, image.texture, image.classified)
        self._growing = None if image.expand is None else Growing(image.shape, image.expand)

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        first = len(self._classes) + 1
        self._areas.append(masks.areas)
        self._scores.append(masks.scores)
        self._classes += masks.classes.tolist()
        if self._growing:
            self._measure_cells(self._growing.add(masks, settled))
        else:
            nuclei = zip(masks.bitmaps, masks.boxes.tolist(), masks.scores, strict=True)
            for label, (bitmap, box, score) in enumerate(nuclei, start=first):
                self._measure(label, score, bitmap, box)

    def _measure_cells(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            self._measure(cell.number + 1, np.float32(cell.score), cell.nucleus, cell.box, cell)

    def _measure(
        self,
        label: int,
        score: np.floating[Any],
        bitmap: NDArray[np.bool_],
        box: Sequence[int],
        cell: Cell | None = None,
    ) -> None:
        """Add the row of a nucleus; what is empty has none."""
        image = self.image
        if not bitmap.any():
            return
        x0, y0, x1, y1 = box
        values = self._values[y0:y1, x0:x1]
        row = _nucleus(image.image_id, label, score, bitmap, box, values, image.microns_per_pixel)
        if cell:
            row |= _cell(cell, values, image.microns_per_pixel)
        if image.texture:
            for name, figures in texture(bitmap, values).items():
                row |= _numbered("intensity_std" if name == "std" else f"texture_{name}", figures)
        if image.classified:
            row[CLASS] = image.class_names[self._classes[label - 1]]
        self._rows.append([row.get(name) for name in self._columns])

    def close(self) -> dict[str, Any]:
        """See `Writer`."""
        if self._growing:
            self._measure_cells(self._growing.close())
            # In tiles a cell may be known before that of an earlier nucleus.
            at = list(self._columns).index("label")
            self._rows.sort(key=lambda row: row[at])  # type: ignore[arg-type,return-value]
        areas, scores = np.concatenate(self._areas), np.concatenate(self._scores)
        image = self.image
        row = summary_row(image.image_id, image.shape, areas, scores, image.seconds())
        further = class_counts(image.class_names, np.array(self._classes, np.int32)) if image.classified else {}
        return {
            "row": {**row, **further},
            "nuclei": self._rows,
            "channels": list(self._channels),
            "measured": [image.expand is not None, image.texture, image.classified],
            "further": list(further),
        }


class _Values:
    """The values of a source, in every channel, as an array from which boxes are taken."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = place
        return all_values(self._source, (columns.start, rows.start, columns.stop, rows.stop))


class _Tables(NamedTuple):
    """The rows of all images, in columns that are the same for all."""

    images: list[dict[str, str | int]]
    columns: dict[str, type]
    nuclei: Iterator[Row]
    channels: list[str]
    further: list[str]


@contextmanager
def tables(images: Iterable[Joined]) -> Iterator[_Tables]:
    """The rows of all images, taken one image at a time; those of nuclei are kept on the disk until all are known.

    How many channels there are is known after the last image.
    """
    rows: list[dict[str, str | int]] = []
    channels: list[str] = []
    further: list[str] = []
    cells = textures = classified = False
    # In a form that is read back line by line.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        for image in images:
            if image.reason:
                rows.append(failed_row(image.image_id, image.reason))
                continue
            record = image.record
            rows.append(record["row"])
            names, (of_cells, of_texture, of_class) = record["channels"], record["measured"]
            cells, textures, classified = cells or of_cells, textures or of_texture, classified or of_class
            channels, further = _common_names(channels, names), further or record["further"]
            kept.write(json.dumps([len(names), of_cells, of_texture, of_class, record["nuclei"]]) + "\n")
        columns = columns_of(len(channels), cells, textures, classified)
        kept.seek(0)
        yield _Tables(rows, columns, _rows_in(columns, kept), channels, further)


def _common_names(names: list[str], others: list[str]) -> list[str]:
    """Names of channels that images have together: by number, and empty where they differ."""
    if not names:
        return others
    pairs = zip_longest(names, others)
    return [a if b is None or a == b else b if a is None else "" for a, b in pairs]


def _rows_in(columns: dict[str, type], lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        count, cells, textures, classified, rows = json.loads(line)
        own = columns_of(count, cells, textures, classified)
        if list(own) == list(columns):
            yield from rows
            continue
        place = {name: number for number, name in enumerate(own)}
        order = [place.get(name) for name in columns]
        for row in rows:
            yield [None if number is None else row[number] for number in order]


def join_tables(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the table of images and that of nuclei; the images are taken one at a time."""
    of_images, of_nuclei = paths
    with tables(images) as joined:
        write_nuclei(of_nuclei, joined.nuclei, joined.columns)
        write_table(of_images, joined.images, joined.further)


def join_parquet(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the table of nuclei as Parquet; the images are taken one at a time."""
    (path,) = paths
    with tables(images) as joined:
        write_nuclei_parquet(path, joined.nuclei, joined.columns)

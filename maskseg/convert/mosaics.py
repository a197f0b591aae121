"""Mosaics rebuilt from tiles of one field, with the nuclei that the seams cut joined again."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from maskseg.convert.conversion import Converted, ConvertedImage, PendingImage, Summary, convert_images
from maskseg.convert.mosaic_search import Edges, Place, edges, find_mosaics
from maskseg.convert.mosaic_table import Tile, read_table
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.processes import in_order
from maskseg.core.tables import write_csv
from maskseg.data.dataset import dataset_dicts, unreviewed
from maskseg.formats.coco import to_annotations
from maskseg.formats.reader import LeftOut
from maskseg.formats.reviewed import REVIEWED, as_field
from maskseg.imaging.reading import read_image

# Written beside the mosaics: which tile lies where.
TABLE = "mosaics.csv"
# Two pieces of a nucleus share more than this part of the border pixels that either has at the seam.
SHARED_BORDER = 0.5
# Pixels of a side; more is built as several mosaics, since each is made in memory.
LARGEST_SIDE = 8192

Record = Mapping[str, Any]


def rebuild_mosaics(
    spec: str | os.PathLike[str],
    out: str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Summary:
    """Rebuild mosaics from the tiles of a data set.

    A mosaic with gaps is built as its largest full rectangle of tiles, then the largest of what is left, and so on; no
    tile is used twice, and one that is left alone is not written. An L of three tiles becomes a mosaic of two.

    Parameters
    ----------
    spec : str or path
        ``DIR`` or ``DIR:part``, a converted data set.
    out : path
        Gets ``images/``, ``mosaics.csv`` (every tile with its mosaic, row and column, also those left alone) and
        ``annotations.json``, in which each image names its ``tiles``, row by row.
    table : path, optional
        See `maskseg.convert.mosaic_table.read_table`. Without it the images themselves say which belong together.
    workers : int
        Processes.
    progress : bool
        Show bars on a terminal.

    Returns
    -------
    Summary
        Counts pieces of nuclei in the tiles. Left out are tiles that the table names and the data set has not, and
        mosaics whose tiles cannot be laid out.

    Raises
    ------
    InputError
        If a source is bad or there is nothing to build.
    """
    out = Path(out)
    summary = Summary("nuclei in tiles")
    records = {record["image_id"]: record for record in dataset_dicts(str(spec))}
    if (out / "images").resolve() in {Path(record["file_name"]).parent.resolve() for record in records.values()}:
        raise InputError(f"{out}: holds the tiles themselves; choose another folder for the mosaics")
    laid: dict[str, dict[str, Place]] = {}
    groups: list[Sequence[str]] = [list(records)]
    if table is not None:
        laid, groups = _from_table(table, records, summary.left_out)
    for mosaic in _found(records, groups, summary.left_out, workers, progress):
        # Called after its first tile, whatever else is found.
        laid[min(mosaic, key=mosaic.__getitem__)] = mosaic
    if not laid and table is None:
        raise InputError(
            f"{spec}: no two of its {len(records)} images were found to lie side by side; "
            "give a --table if you know which do"
        )
    rectangles = [
        rectangle
        for name, mosaic in laid.items()
        if _fits_together(name, mosaic, records, summary.left_out)
        for rectangle in full_rectangles(mosaic, *_size(records[next(iter(mosaic))]))
    ]
    pending = [
        PendingImage(
            f"{spec}: mosaic {_name(rectangle)}",
            [[records[tile] for tile in row] for row in rectangle],
            _name(rectangle),
            sum(len(records[tile]["annotations"]) for row in rectangle for tile in row),
        )
        for rectangle in rectangles
    ]
    expected = f"two or more tiles of one mosaic of {table or spec}"
    convert_images(pending, _build, out, summary, expected=expected, workers=workers, progress=progress)
    _write_table(out / TABLE, laid)
    return summary


def _size(record: Record) -> tuple[int, int]:
    return record["height"], record["width"]


def _name(rectangle: Sequence[Sequence[str]]) -> str:
    """Stable, and readable: the top left tile and the number of rows and columns."""
    return f"{rectangle[0][0]}_{len(rectangle)}x{len(rectangle[0])}"


def _write_table(path: Path, laid: Mapping[str, Mapping[str, Place]]) -> None:
    rows = (
        (tile, name, *place)
        for name, mosaic in laid.items()
        for tile, place in sorted(mosaic.items(), key=lambda item: item[1])
    )
    write_csv(path, ("img_id", "mosaic_idx", "row", "column"), rows)


# ---- which tiles belong together ----


def _from_table(
    table: str | os.PathLike[str], records: Mapping[str, Record], left_out: list[LeftOut]
) -> tuple[dict[str, dict[str, Place]], list[Sequence[str]]]:
    """Mosaics laid out by a table, and groups of tiles of one mosaic whose places are still to be found."""
    rows: dict[str, list[Tile]] = defaultdict(list)
    for tile in read_table(table):
        rows[tile.mosaic].append(tile)
    laid: dict[str, dict[str, Place]] = {}
    groups: list[Sequence[str]] = []
    for mosaic, tiles in rows.items():
        here = [tile for tile in tiles if tile.image in records]
        if not here:  # a mosaic of another part, or of another data set
            continue
        where = f"{table}: mosaic {mosaic}"
        for tile in tiles:
            if tile.image not in records:
                at = f" (row {tile.place[0]}, column {tile.place[1]})" if tile.place else ""
                reason = f"image {tile.image}{at} is not in the data set; add it"
                left_out.append(LeftOut(where, "tile missing", reason))
        placed = {tile.image: tile.place for tile in here if tile.place is not None}
        if len(set(placed.values())) < len(placed):
            left_out.append(LeftOut(where, "two tiles in one place", "give each its own; the mosaic is not built"))
        elif placed:
            laid[mosaic] = placed
        else:
            groups.append([tile.image for tile in here])
    if not laid and not groups and not left_out:
        raise InputError(f"{table}: names no tile among the images; give the table of this data set")
    return laid, groups


def _found(
    records: Mapping[str, Record],
    groups: Sequence[Sequence[str]],
    left_out: list[LeftOut],
    workers: int,
    progress: bool,
) -> Iterator[dict[str, Place]]:
    """Mosaics found in each group by the edges of its images."""
    names = [name for group in groups for name in group]
    files = [records[name]["file_name"] for name in names]
    tiles: dict[str, Edges] = {}
    with closing(in_order(_edges_of, files, workers)) as read:
        bar = tqdm(read, "edges", len(names), unit="image", disable=None if progress and names else True)
        for name, file, outcome in zip(names, files, bar, strict=True):
            if isinstance(outcome, str):
                left_out.append(LeftOut(file, "image left out", outcome))
            else:
                tiles[name] = outcome
    for group in groups:
        yield from find_mosaics({name: tiles[name] for name in group if name in tiles})


def _edges_of(file: str) -> Edges | str:
    try:
        return edges(read_image(file))
    except InputError as error:
        return str(error)


def _fits_together(
    name: str, mosaic: Mapping[str, Place], records: Mapping[str, Record], left_out: list[LeftOut]
) -> bool:
    sizes = {_size(records[tile]) for tile in mosaic}
    if len(sizes) > 1:
        text = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        left_out.append(LeftOut(f"mosaic {name}", "tiles of other sizes", f"{text} pixels; make them equal"))
    return len(sizes) == 1


def full_rectangles(mosaic: Mapping[str, Place], height: int, width: int) -> list[list[list[str]]]:
    """Full rectangles of two or more tiles that a mosaic with gaps is built as.

    The largest first, without a tile used twice; of equally large ones the most nearly square, then the one that goes
    across, then the topmost and leftmost.

    Parameters
    ----------
    mosaic : mapping of tile to (row, column)
    height, width : int
        Of a tile, in pixels. No side of a rectangle is longer than LARGEST_SIDE.

    Returns
    -------
    list of list (rows) of list (columns) of tile
    """
    free = {place: tile for tile, place in mosaic.items()}
    most_rows, most_columns = max(1, LARGEST_SIDE // height), max(1, LARGEST_SIDE // width)
    rectangles: list[list[list[str]]] = []
    while True:
        best = max(
            (
                (rows * columns, -abs(rows * height - columns * width), columns, -top, -left)
                for top, left in free
                for rows, columns in _from_corner(free, top, left, most_rows, most_columns)
            ),
            default=(0,) * 5,
        )
        if best[0] < 2:
            return rectangles
        area, _, columns, top, left = best
        rectangles.append([[free.pop((r - top, c - left)) for c in range(columns)] for r in range(area // columns)])


def _from_corner(
    free: Mapping[Place, str], top: int, left: int, most_rows: int, most_columns: int
) -> Iterator[tuple[int, int]]:
    """Rows and columns of the widest full rectangle of each height with this top left corner."""
    columns = most_columns
    for rows in range(1, most_rows + 1):
        wide = 0
        while wide < columns and (top + rows - 1, left + wide) in free:
            wide += 1
        if wide == 0:
            return
        columns = wide
        yield rows, columns


# ---- building one ----


def _build(rectangle: Sequence[Sequence[Record]]) -> Converted:
    pixels = np.concatenate([np.concatenate([_tile(record) for record in row], axis=1) for row in rectangle])
    pieces = [[_masks(record) for record in row] for row in rectangle]
    masks = join_tiles(pieces)
    grey = (pixels == pixels[:, :, :1]).all()
    encoded = cv2.imencode(".png", pixels[:, :, 0] if grey else pixels[:, :, ::-1])[1].tobytes()
    names = [[record["image_id"] for record in row] for row in rectangle]
    fields: dict[str, Any] = {"tiles": names}
    modalities = {record["modality"] for row in rectangle for record in row}
    if len(modalities) == 1 and modalities != {""}:
        fields["modality"] = modalities.pop()
    seen = [[unreviewed(record, _size(record)) for record in row] for row in rectangle]
    if any(one is not None for row in seen for one in row):
        parts = [
            [np.ones(_size(record), bool) if one is None else ~one for record, one in zip(records, row, strict=True)]
            for records, row in zip(rectangle, seen, strict=True)
        ]
        fields[REVIEWED] = as_field(np.block(parts))
    classes = rectangle[0][0]["categories"]
    image = ConvertedImage(f"{_name(names)}.png", encoded, masks.shape, to_annotations(masks), fields, classes)
    return Converted([image], sum(len(piece) for row in pieces for piece in row))


def _masks(record: Record) -> CropMasks:
    place = {name: index for index, name in enumerate(record["categories"])}
    items = record["annotations"]
    classes = [place[item["class"]] for item in items]
    return CropMasks.from_rle([item["segmentation"] for item in items], _size(record), classes=classes)


def _tile(record: Record) -> NDArray[np.uint8]:
    image = read_image(record["file_name"])
    if image.shape[:2] != _size(record):
        raise InputError(f"{record['file_name']}: not of the size in annotations.json; convert the data set again")
    return image


def join_tiles(grid: Sequence[Sequence[CropMasks]]) -> CropMasks:
    """Masks of a mosaic from those of its tiles, with the nuclei that a seam cuts joined.

    Two masks of one class on both sides of a seam are one nucleus if they touch along more than SHARED_BORDER of the
    border pixels that either of them has there (intersection over union of their border pixels). A nucleus cut by two
    seams is joined over both.

    Parameters
    ----------
    grid : rows of CropMasks of equal shape

    Returns
    -------
    CropMasks
        In the order of the tiles, row by row; a joined nucleus stands where its first piece stood.
    """
    height, width = grid[0][0].shape
    first: dict[Place, int] = {}
    bitmaps: list[NDArray[np.bool_]] = []
    boxes: list[NDArray[np.int32]] = []
    classes: list[int] = []
    for row, column in product(range(len(grid)), range(len(grid[0]))):
        first[row, column] = len(bitmaps)
        bitmaps += grid[row][column].bitmaps
        classes += grid[row][column].classes.tolist()
        boxes.append(grid[row][column].boxes + np.array([column * width, row * height] * 2, np.int32))
    links = [
        (first[row, column] + i, first[row + down, column + across] + j)
        for row, column in first
        for down, across in ((1, 0), (0, 1))
        if (row + down, column + across) in first
        for i, j in cut_pairs(grid[row][column], grid[row + down][column + across], down == 0)
        if grid[row][column].classes[i] == grid[row + down][column + across].classes[j]
    ]
    box = np.concatenate(boxes)
    start, end = np.array(links, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(links)), (start, end)), shape=(len(bitmaps),) * 2)
    _, whole = connected_components(graph, directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for index, nucleus in enumerate(whole.tolist()):
        members[nucleus].append(index)
    united = [_union(box[own], [bitmaps[i] for i in own]) for own in members.values()]
    shape = (len(grid) * height, len(grid[0]) * width)
    masks = CropMasks(shape, np.array([b for b, _ in united], np.int32), [bitmap for _, bitmap in united])
    masks.classes = np.array([classes[own[0]] for own in members.values()], np.int32)
    return masks


def _union(
    boxes: NDArray[np.int32], bitmaps: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    if len(bitmaps) == 1:
        return boxes[0], bitmaps[0]
    x0, y0 = boxes[:, :2].min(axis=0)
    x1, y1 = boxes[:, 2:].max(axis=0)
    bitmap = np.zeros((y1 - y0, x1 - x0), bool)
    for (left, top, right, bottom), part in zip(boxes, bitmaps, strict=True):
        bitmap[top - y0 : bottom - y0, left - x0 : right - x0] |= part
    return np.array((x0, y0, x1, y1), np.int32), bitmap


def cut_pairs(before: CropMasks, after: CropMasks, across: bool) -> list[tuple[int, int]]:
    """Masks of two tiles that are pieces of one nucleus.

    Parameters
    ----------
    before, after : CropMasks
        Of two tiles of which `after` lies to the right (`across`) or below.
    across : bool

    Returns
    -------
    list of (int, int)
        Places in `before` and in `after`.
    """
    i, p = _border(before, across, last=True)
    j, q = _border(after, across, last=False)
    both = p @ q.T
    either = p.sum(axis=1)[:, None] + q.sum(axis=1) - both
    return [(int(i[a]), int(j[b])) for a, b in np.argwhere(both > SHARED_BORDER * either)]


def _border(masks: CropMasks, across: bool, last: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Masks that reach a side of their tile, and their pixels there, (N, length) with 0 and 1."""
    axis = 0 if across else 1  # of the box: x or y
    length, limit = masks.shape[axis], masks.shape[1 - axis]
    reach = masks.boxes[:, axis + 2] == limit if last else masks.boxes[:, axis] == 0
    which = np.flatnonzero(reach & (masks.boxes[:, axis + 2] > masks.boxes[:, axis]))
    pixels = np.zeros((len(which), length), np.float32)
    for line, index in zip(pixels, which, strict=True):
        bitmap = masks.bitmaps[index]
        low = masks.boxes[index, 1 - axis]
        edge = bitmap[:, -1 if last else 0] if across else bitmap[-1 if last else 0]
        line[low : low + len(edge)] = edge
    return which, pixels

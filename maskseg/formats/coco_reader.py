"""COCO files of any program to nuclei: polygons and run lengths, any categories, ids and paths."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.json_files import read_json
from maskseg.core.masks import CropMasks
from maskseg.formats.coco import ANNOTATIONS, PACKED, PREDICTIONS, is_dataset
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, Taken, fault, known_shape
from maskseg.imaging.reading import member_path

# Fields of an image record that have a place of their own.
_STANDARD = ("id", "file_name", "height", "width")
# pycocotools walks along each edge, so a vertex may not lie arbitrarily far outside.
_FARTHEST = 10  # times the longer side of the image
ALL = "all"
# What the beginning of such a file holds, whatever the order of its parts.
_KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"licenses"', b'"info"')
_LOOK = 4096


def recognises(source: Path) -> bool:
    """Whether a path is a COCO file, a data set, or a folder that ``maskseg predict`` wrote."""
    if source.is_dir():
        return is_dataset(source) or (source / PREDICTIONS).is_file()
    if not source.name.lower().endswith((".json", ".json.gz")) or not source.is_file():
        return False
    if source.suffix.lower() == ".gz":
        return True
    try:
        with source.open("rb") as file:
            start = file.read(_LOOK)
    except OSError:
        return False
    return any(key in start for key in _KEYS)


def read(source: Path, categories: Sequence[str] = (ALL,), distinct: bool = False) -> Iterator[Item | LeftOut | Taken]:
    """The images of a COCO file, with the names of the categories as classes.

    Polygons are rasterised by pycocotools, to which they run along the edges of pixels (one drawn through the centres
    of the outermost pixels loses half a pixel all around); the polygons of one annotation are united. Run lengths may
    be compressed or not. Crowd regions, annotations without outline and annotations at fault are left out.

    Parameters
    ----------
    source : Path
        A JSON file, or a folder with ``annotations.json``, ``predictions.json`` or one JSON file.
    categories : sequence of str
        Names of the categories to take, ``all`` for all of them. Where empty: the one category that has annotations,
        otherwise those whose names hold "nucle", otherwise the choice must be given.
    distinct : bool
        Of annotations with the same pixels the first is kept, the others are left out.

    Raises
    ------
    InputError
        If the file is no COCO file, or the categories must be chosen.
    """
    path = json_file(source)
    data = _load(path)
    names = _names(data)
    kept = _of_categories(path, data, names, categories)
    if len(kept) < len(data["annotations"]):
        yield Taken(f"of the categories taken (of {len(data['annotations'])})")
    of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    ids = Counter(_key(record.get("id")) for record in data["images"])
    for item in kept:
        key = _key(item.get("image_id"))
        if key is not None and key in ids:
            of[key].append(item)
        else:
            reason = f"no image {item.get('image_id')!r}; add it"
            yield LeftOut(f"{path}: annotation {item.get('id')}", "annotation left out", reason, found=1)
    # Predictions are numbered by their scores, so all or none of the file count as such.
    scored = any("score" in item for item in kept)
    for record in data["images"]:
        name, key = _name(record), _key(record.get("id"))
        where = f"{path}: image {name or record.get('id')}"
        own = of.pop(key, [])
        if key is None or ids[key] > 1:
            yield fault(where, f"{ids[key]} images have the id {record.get('id')}; number them anew", found=len(own))
            continue
        yield Item(
            member_path(name).stem,
            partial(
                _load_image,
                path,
                own,
                [_category(item, names) for item in own],
                distinct,
            ),
            where,
            _stated(record),
            file_name=name,
            found=len(own),
            fields={key: value for key, value in record.items() if key not in _STANDARD},
            needs_shape=True,
            scored=scored,
        )


def json_file(source: Path) -> Path:
    """The COCO file of a folder, or the file itself.

    Raises
    ------
    InputError
        If a folder holds none, or several.
    """
    if source.is_file():
        return source
    for name in (ANNOTATIONS, PACKED, PREDICTIONS):
        if (source / name).is_file():
            return source / name
    found = sorted(source.glob("*.json"))
    if len(found) != 1:
        raise InputError(f"{source}: {len(found)} JSON files where one is needed; name the file")
    return found[0]


def _load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = read_json(path, "get it again", "COCO")
    for key in ("images", "annotations"):
        rows = data.get(key) if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: no COCO file of instances, it has no list {key!r}; export it as such")
    return data


def _names(data: dict[str, Any]) -> dict[Any, str]:
    listed = data.get("categories")
    rows = listed if isinstance(listed, list) else []
    return {
        row["id"]: str(row["name"])
        for row in rows
        if isinstance(row, dict) and {"id", "name"} <= row.keys() and isinstance(row["id"], int | str)
    }


def _category(item: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    key = item.get("category_id")
    return names.get(key, str(key)) if isinstance(key, int | str) else "none"


def _of_categories(
    path: Path, data: dict[str, Any], names: Mapping[Any, str], wanted: Collection[str]
) -> list[dict[str, Any]]:
    """The annotations of the categories to take; see `read` for the rule."""
    used = Counter(_category(item, names) for item in data["annotations"])
    if not wanted:
        wanted = used if len(used) <= 1 else {name for name in used if "nucle" in name.lower()}
        if used and not wanted:
            choice = ", ".join(f"{name} ({count})" for name, count in used.most_common())
            raise InputError(
                f"{path}: several categories: {choice}; name those that are nuclei with --category, or --category all"
            )
    elif ALL not in wanted:
        unknown = set(wanted) - set(names.values()) - used.keys()
        if unknown:
            raise InputError(f"{path}: no category {sorted(unknown)[0]!r}; it has {', '.join(used)}")
    return [item for item in data["annotations"] if ALL in wanted or _category(item, names) in wanted]


def _key(value: Any) -> Any:
    """An id as a key: 7 and "7", which files mix, are the same."""
    return str(value) if isinstance(value, int | str) else None


def _name(record: Mapping[str, Any]) -> str:
    name = record.get("file_name")
    return name if isinstance(name, str) else ""


def _stated(record: Mapping[str, Any]) -> Shape | None:
    height, width = record.get("height"), record.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _load_image(
    path: Path, items: list[dict[str, Any]], names: list[str], distinct: bool, shape: Shape | None
) -> Nuclei:
    shape = known_shape(shape, str(path))
    runs, left_out = _all_runs(path, items, shape)
    crops: list[Any] = []
    kept: list[int] = []
    first_of: dict[bytes, Any] = {}
    for place, (item, one) in enumerate(zip(items, runs, strict=True)):
        if one is None:
            continue
        first = first_of.setdefault(one[0].tobytes() + one[1].tobytes(), item)
        if distinct and first is not item:
            reason = f"the same pixels as annotation {first.get('id')}; delete one"
            left_out.append(LeftOut(f"{path}: annotation {item.get('id')}", "duplicate annotation", reason))
            continue
        crops.append(rle.runs_to_crop(*one, shape))
        kept.append(place)
    boxes = np.array([box for box, _ in crops], np.int32)
    scores = np.array([_score(items[place]) for place in kept], np.float32)
    masks = CropMasks(shape, boxes, [bitmap for _, bitmap in crops], scores)
    return Nuclei(masks, [names[place] for place in kept], left_out)


def _all_runs(path: Path, items: list[dict[str, Any]], shape: Shape) -> tuple[list[rle.Runs | None], list[LeftOut]]:
    """Runs of each annotation, None for those that are left out."""
    if all(map(_is_plain, items)):
        rles = [item["segmentation"] for item in items]
        try:
            if all(list(one["size"]) == list(shape) for one in rles):
                runs_of_all = _split(*rle.coco_to_runs_of_all(rles, shape), len(rles))
                if all(len(starts) for starts, _ in runs_of_all):
                    return list(runs_of_all), []
        except InputError:
            pass  # which one it is, and why, is found one by one
    runs: list[rle.Runs | None] = []
    left_out: list[LeftOut] = []
    for item in items:
        try:
            if item.get("iscrowd"):
                raise InputError("a crowd region, not one nucleus; outline its nuclei one by one")
            found = segmentation_runs(item.get("segmentation"), shape)
            runs.append(found if len(found[0]) else None)
            if runs[-1] is None:
                reason = "not one pixel in the image; draw it again"
                left_out.append(LeftOut(f"{path}: annotation {item.get('id')}", "empty annotation", reason))
        except InputError as error:
            runs.append(None)
            left_out.append(LeftOut(f"{path}: annotation {item.get('id')}", "annotation left out", str(error)))
    return runs, left_out


def _is_plain(item: Mapping[str, Any]) -> bool:
    """Whether an annotation is run lengths of one nucleus."""
    found = item.get("segmentation")
    return not item.get("iscrowd") and isinstance(found, dict) and {"size", "counts"} <= found.keys()


def _split(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], index: NDArray[np.int64], count: int
) -> list[rle.Runs]:
    ends = np.searchsorted(index, np.arange(count + 1))
    return [rle.joined(starts[low:high], lengths[low:high]) for low, high in pairwise(ends)]


def _score(item: Mapping[str, Any]) -> float:
    score = item.get("score", 1.0)
    return float(score) if isinstance(score, int | float) else 1.0


def segmentation_runs(segmentation: Any, shape: tuple[int, int]) -> rle.Runs:
    """Runs of a COCO segmentation of any kind.

    Parameters
    ----------
    segmentation : list or dict
        Polygons, each ``[x, y, x, y, ...]`` in pixels, which are rasterised by pycocotools and united, without those
        of fewer than three points where there are others; or run lengths,
        ``{"size": [H, W], "counts": text or list}``.
    shape : (int, int)
        Height and width of the image.

    Returns
    -------
    starts, lengths : int64 arrays (R,)
        See `maskseg.core.rle`.

    Raises
    ------
    InputError
        If it is none of these, malformed, or of another size.
    """
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(shape) or "counts" not in segmentation:
            raise InputError(f"run lengths of size {segmentation.get('size')} on an image of {list(shape)}; mend them")
        return rle.coco_to_runs(segmentation)
    if not segmentation or not isinstance(segmentation, list):
        raise InputError("no outline; draw it")
    # Some programs leave out the list around a single polygon.
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    # A point or a line beside a polygon has no pixels.
    polygons = [polygon for polygon in polygons if not (isinstance(polygon, list) and len(polygon) < 6)] or polygons
    limit = _FARTHEST * max(shape)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
            raise InputError("a polygon that is not three points or more, x, y, x, y, ...; draw it again")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in polygon):
            raise InputError("a polygon with coordinates that are no numbers; draw it again")
        if max(map(abs, polygon)) > limit:
            raise InputError(f"a polygon with coordinates of more than {limit} pixels; draw it again")
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, *shape))
    return rle.coco_to_runs(merged)

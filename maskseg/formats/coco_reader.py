"""COCO files of any program to nuclei: polygons and run lengths, any categories, ids and paths."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.classes import NUCLEUS
from maskseg.formats.coco import ANNOTATIONS, PACKED, PREDICTIONS, category_names, is_dataset, key_of
from maskseg.formats.coco_polygons import polygon_runs
from maskseg.formats.costs import Costs
from maskseg.formats.drawing import number, take_runs
from maskseg.formats.reader import Classes, Item, LeftOut, Note, Nuclei, Selection, Shape, known_shape, unreadable_item
from maskseg.formats.reviewed import is_mark
from maskseg.formats.sources import begins_with, files_of, first_bytes, inner_path, json_of, stated_shape, whole_number
from maskseg.imaging.reading import ImageFile, member_path

# Fields of an image record that have a place of their own.
_STANDARD = ("id", "file_name", "height", "width")
ALL = "all"
# Share of the annotations that are crowds, and their size beside others, up to which they may be such.
_FEW_CROWDS, _AS_LARGE = 0.1, 3
# What the beginning of such a file holds, whatever the order of its parts; and of a list of results, of each of which
# the first id counts: to try others after it would take time by their square.
_SIGN = re.compile(
    rb'"(images|annotations|categories|licenses|info)"\s*:'
    rb'|(?:\A|\})(?>[^}]*?"image_id"\s*:)[^}]*?"(segmentation|bbox)"\s*:'
)
_ENDINGS = (".json", ".json.gz")


def recognises(source: Path) -> bool:
    """Whether a path is a COCO file, a data set, a folder or zip file with COCO files, or what ``predict`` wrote."""
    if source.is_dir() and (is_dataset(source) or (source / PREDICTIONS).is_file()):
        return True
    return source.name.lower().endswith(".json.gz") or begins_with(source, _SIGN, *_ENDINGS)


def read(
    source: Path, categories: Sequence[str] = (ALL,), distinct: bool = False
) -> Iterator[Item | LeftOut | Note | Selection | Classes]:
    """The images of a COCO file, with the names of the categories as classes.

    Polygons are rasterised by pycocotools, to which they run along the edges of pixels (one drawn through the centres
    of the outermost pixels loses half a pixel all around); the polygons of one annotation are united. Run lengths may
    be compressed or not. Crowd regions, annotations without outline and annotations at fault are left out. Numbers
    count by their values: 7, 7.0 and "7" are one.

    Run lengths with ``iscrowd`` 1 are a way to store masks (CVAT's) where all annotations are such, where they have
    CVAT's attributes, or where they are many and no larger than others.

    Parameters
    ----------
    source : Path
        A JSON file; a folder with ``annotations.json``, ``predictions.json`` or other COCO files; or a zip file. A
        list of results, ``[{"image_id": ..., "segmentation": ...}, ...]``, names no images: their ids are the names.
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
    files = json_files(source)
    loaded = [_load(file) for file in files]
    names = [category_names(data) for data in loaded]
    wanted = _wanted(str(source), loaded, names, categories)
    yield _classes_of(loaded, names, wanted)
    for file, data, known in zip(files, loaded, names, strict=True):
        folder = inner_path(file, source).parent if len(files) > 1 else PurePosixPath()
        kept = [item for item in data["annotations"] if wanted is None or _is_wanted(_category(item, known), wanted)]
        if len(kept) < len(data["annotations"]):
            yield Selection(f"of the categories taken (of {len(data['annotations'])})")
        if _crowd_is_encoding(kept):
            yield Note("run lengths with iscrowd 1 taken for single nuclei, as CVAT writes masks, not for crowds")
            kept = [{**item, "iscrowd": 0} for item in kept]
        yield from _items(file.name, data["images"], kept, known, folder, distinct)


def _items(
    path: str,
    images: list[dict[str, Any]],
    kept: list[dict[str, Any]],
    names: Mapping[str, str],
    folder: PurePosixPath,
    distinct: bool,
) -> Iterator[Item | LeftOut]:
    of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    ids = Counter(key_of(record.get("id")) for record in images)
    for item in kept:
        key = key_of(item.get("image_id"))
        if key is not None and key in ids:
            of[key].append(item)
        else:
            reason = f"no image {item.get('image_id')!r}; add it"
            yield LeftOut(f"{path}: annotation {item.get('id')}", "annotation left out", reason, annotation_count=1)
    # Predictions are numbered by their scores, so all or none of the file count as such.
    scored = any("score" in item for item in kept)
    for record in images:
        name, key = _name(record), key_of(record.get("id"))
        where = f"{path}: image {name or record.get('id')}"
        own = of.pop(key, [])
        if key is None or ids[key] > 1:
            yield unreadable_item(
                where, f"{ids[key]} images have the id {record.get('id')}; number them anew", annotation_count=len(own)
            )
            continue
        yield Item(
            member_path(name).stem or key,
            partial(_load_image, path, own, [_category(item, names) for item in own], distinct),
            where,
            stated_shape(record.get("height"), record.get("width")),
            file_name=str(folder / name) if name else "",
            annotation_count=len(own),
            fields={key: value for key, value in record.items() if key not in _STANDARD},
            needs_shape=True,
            scored=scored,
        )


def json_files(source: Path) -> list[ImageFile]:
    """The COCO files of a folder or zip file, or the file itself.

    Raises
    ------
    InputError
        If there are none.
    """
    for name in (ANNOTATIONS, PACKED, PREDICTIONS):
        if (source / name).is_file():
            return [ImageFile((source / name).stem, source / name)]
    if source.is_file() and source.suffix.lower() != ".zip":
        return [ImageFile(source.stem, source)]
    files = files_of(source, *_ENDINGS)
    coco_files = [file for file in files if _SIGN.search(first_bytes(file))] or files[:1]
    if not coco_files:
        raise InputError(f"{source}: no COCO file in it; name the JSON file")
    return coco_files


def _load(file: ImageFile) -> dict[str, list[dict[str, Any]]]:
    """Lists of images, annotations and categories."""
    data = json_of(file, "get it again", "COCO")
    if isinstance(data, list) and all(isinstance(row, dict) and "image_id" in row for row in data):
        data = {"annotations": data, "images": list(_images_of_results(data))}
    if isinstance(data, dict) and isinstance(data.get("image"), dict) and "images" not in data:
        data = _of_one_image(data)
    lists: dict[str, Any] = {}
    for key in ("images", "annotations", "categories"):
        rows = data.get(key) if isinstance(data, dict) else None
        # LIVECell has objects by their ids.
        rows = list(rows.values()) if isinstance(rows, dict) else rows
        if key == "categories":
            rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{file.name}: no COCO file of instances, it has no list {key!r}; export it as such")
        lists[key] = rows
    return lists


def _of_one_image(data: dict[str, Any]) -> dict[str, Any]:
    """COCO's form of a file of SA-1B, which holds one image, and masks that do not say of which."""
    image, items = data["image"], data.get("annotations")
    known = key_of(image.get("image_id", image.get("id")))
    if isinstance(items, list) and all(isinstance(item, dict) for item in items):
        items = [{"image_id": known, **item} for item in items]
    return {**data, "images": [{**image, "id": known}], "annotations": items}


def _images_of_results(results: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records of the images that results are of: their ids are all that is known, and their sizes in run lengths."""
    seen: set[str | None] = set()
    for row in results:
        key = key_of(row["image_id"])
        if key not in seen:
            seen.add(key)
            segmentation = row.get("segmentation")
            size = segmentation.get("size") if isinstance(segmentation, dict) else None
            height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
            yield {"id": row["image_id"], "height": height, "width": width}


def _crowd_is_encoding(items: list[dict[str, Any]]) -> bool:
    """Whether ``iscrowd`` says that a mask is stored as run lengths, and no more."""
    crowds = [item for item in items if _is_crowd(item)]
    if not crowds or not all(isinstance(item.get("segmentation"), dict) for item in crowds):
        return False
    marked = all(isinstance(item.get("attributes"), dict) and "occluded" in item["attributes"] for item in crowds)
    if marked or len(crowds) == len(items):
        return True
    # Crowds are few, and larger than what is outlined one by one.
    others = [area for item in items if not _is_crowd(item) and (area := _box_area(item))]
    own = [area for item in crowds if (area := _box_area(item))]
    many = len(crowds) > _FEW_CROWDS * len(items)
    return bool(many and others and own and np.median(own) <= _AS_LARGE * np.median(others))


def _box_area(item: Mapping[str, Any]) -> float:
    try:
        return number(item["bbox"][2]) * number(item["bbox"][3])
    except (InputError, LookupError, TypeError):
        return 0.0


def _is_crowd(item: Mapping[str, Any]) -> bool:
    value = item.get("iscrowd")
    number = whole_number(value)
    return number != 0 if number is not None else value is True or str(value).strip().lower() == "true"


def _category(item: Mapping[str, Any], names: Mapping[str, str]) -> str:
    key = key_of(item.get("category_id"))
    if key is None:
        return "none" if names else NUCLEUS
    return names.get(key, key)


def _is_wanted(name: str, wanted: Collection[str]) -> bool:
    return name in wanted or is_mark(name)


def _classes_of(loaded: list[dict[str, Any]], names: list[dict[str, str]], wanted: Collection[str] | None) -> Classes:
    """The categories that have annotations, in the order in which the files list them."""
    used = {_category(item, known) for data, known in zip(loaded, names, strict=True) for item in data["annotations"]}
    listed = dict.fromkeys([*(name for known in names for name in known.values()), *sorted(used)])
    return Classes(
        tuple(name for name in listed if name in used and not is_mark(name) and (not wanted or name in wanted))
    )


def _wanted(
    where: str, loaded: list[dict[str, Any]], names: list[dict[str, str]], wanted: Collection[str]
) -> Collection[str] | None:
    """The categories to take, None for all; see `read` for the rule."""
    used: Counter[str] = Counter()
    for data, known in zip(loaded, names, strict=True):
        categories = (_category(item, known) for item in data["annotations"])
        used.update(name for name in categories if not is_mark(name))
    if not wanted:
        wanted = used if len(used) <= 1 else {name for name in used if "nucle" in name.lower()}
        if used and not wanted:
            choice = ", ".join(f"{name} ({count})" for name, count in used.most_common())
            raise InputError(
                f"{where}: several categories: {choice}; name those that are nuclei with maskseg convert coco "
                "--category NAME, or take all with --category all"
            )
        return wanted
    if ALL in wanted:
        return None
    unknown = set(wanted) - {name for known in names for name in known.values()} - used.keys()
    if unknown:
        raise InputError(f"{where}: no category {sorted(unknown)[0]!r}; it has {', '.join(used)}")
    return wanted


def _name(record: Mapping[str, Any]) -> str:
    name = record.get("file_name")
    return name if isinstance(name, str) else ""


def _load_image(
    path: str, items: list[dict[str, Any]], names: list[str], distinct: bool, shape: Shape | None
) -> Nuclei:
    shape = known_shape(shape, path)
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


def _all_runs(path: str, items: list[dict[str, Any]], shape: Shape) -> tuple[list[rle.Runs | None], list[LeftOut]]:
    """Runs of each annotation, None for those that are left out."""
    if all(map(_is_plain, items)):
        rles = [item["segmentation"] for item in items]
        try:
            if all(one["size"] == list(shape) for one in rles):
                runs_of_all = _split(*rle.coco_to_runs_of_all(rles, shape), len(rles))
                costs = Costs(shape)
                for one_of_all in runs_of_all:
                    take_runs(costs, one_of_all, shape)
                if all(len(runs[0]) for runs in runs_of_all):
                    return list(runs_of_all), []
        except InputError:
            pass  # which one it is, and why, is found one by one
    runs: list[rle.Runs | None] = []
    left_out: list[LeftOut] = []
    costs = Costs(shape)
    for item in items:
        try:
            if _is_crowd(item):
                raise InputError("a crowd region, not one nucleus; outline its nuclei one by one")
            decoded = segmentation_runs(item.get("segmentation"), shape, costs)
            take_runs(costs, decoded, shape)
            runs.append(decoded if len(decoded[0]) else None)
            if runs[-1] is None:
                reason = "not one pixel in the image; draw it again"
                left_out.append(LeftOut(f"{path}: annotation {item.get('id')}", "empty annotation", reason))
        except InputError as error:
            runs.append(None)
            left_out.append(LeftOut(f"{path}: annotation {item.get('id')}", "annotation left out", str(error)))
    return runs, left_out


def _is_plain(item: Mapping[str, Any]) -> bool:
    """Whether an annotation is run lengths of one nucleus."""
    segmentation = item.get("segmentation")
    return not _is_crowd(item) and isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys()


def _split(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], index: NDArray[np.int64], count: int
) -> list[rle.Runs]:
    ends = np.searchsorted(index, np.arange(count + 1))
    return [rle.joined(starts[low:high], lengths[low:high]) for low, high in pairwise(ends)]


def _score(item: Mapping[str, Any]) -> float:
    try:
        return number(item.get("score", 1.0))
    except InputError:
        return 1.0


def segmentation_runs(segmentation: Any, shape: tuple[int, int], costs: Costs | None = None) -> rle.Runs:
    """Runs of a COCO segmentation of any kind.

    Parameters
    ----------
    segmentation : list or dict
        Polygons, each ``[x, y, x, y, ...]`` in pixels, which are rasterised by pycocotools and united, without those
        of fewer than three points where there are others; or run lengths,
        ``{"size": [H, W], "counts": text or list}``.
    shape : (int, int)
        Height and width of the image.
    costs : Costs, optional
        What the annotations of the image before this one have cost.

    Returns
    -------
    starts, lengths : int64 arrays (R,)
        See `maskseg.core.rle`.

    Raises
    ------
    InputError
        If it is none of these, malformed, of another size, or costs too much.
    """
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if not isinstance(size, list) or list(map(whole_number, size)) != list(shape) or "counts" not in segmentation:
            raise InputError(f"run lengths of size {str(size)[:40]} on an image of {list(shape)}; mend them")
        return rle.coco_to_runs({"size": list(shape), "counts": segmentation["counts"]})
    if not segmentation or not isinstance(segmentation, list):
        raise InputError("no outline; draw it")
    # Some programs leave out the list around a single polygon.
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return polygon_runs(polygons, shape, costs or Costs(shape))

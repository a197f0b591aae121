"""COCO files of other programs to the one form: polygons and run lengths, any categories, ids and paths."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from maskseg.convert.convert import LeftOut, Picture, Result, Summary, Task, annotation, run
from maskseg.core import rle
from maskseg.core.errors import InputError
from maskseg.data.dataset import ANNOTATIONS
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, member_path, read_image

# Fields of an image record, beside the standard ones, that are taken over.
_FIELDS = ("modality", "microns_per_pixel")
# pycocotools walks along each edge, so a vertex may not lie arbitrarily far outside.
_FARTHEST = 10  # times the longer side of the image


class _Image(NamedTuple):
    """An image record of a JSON file, with its image file and its annotations."""

    file: ImageFile
    json: Path
    record: dict[str, Any]
    annotations: list[dict[str, Any]]


def convert(
    source: str | Path,
    out: str | Path,
    images: str | Path | None = None,
    categories: Sequence[str] = (),
    modalities: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Summary:
    """Convert a COCO file to a COCO data set with run lengths and the one category, nucleus.

    Polygons are rasterised by pycocotools, to which they run along the edges of pixels (one drawn through the centres
    of the outermost pixels loses half a pixel all around); the polygons of one annotation are united. Run lengths may
    be compressed or not. Crowd regions, annotations without outline and annotations at fault are left out and listed.

    Parameters
    ----------
    source : path
        A JSON file, or a folder with ``annotations.json`` or with one JSON file.
    out : path
        Gets ``images/`` and, at the end, ``annotations.json``.
    images : path, optional
        Folder of the images, which may lie in folders below; where not given, ``images`` beside the JSON file if there
        is such a folder, otherwise the folder of the JSON file. An image is found by the end of its ``file_name``, so
        that paths of another machine do no harm.
    categories : sequence of str
        Names of the categories to take, ``all`` for all of them. Where not given: the one category that has
        annotations, otherwise those whose names hold "nucle", otherwise the choice must be given.
    modalities : mapping of image id to str, optional
        Put into the image records.
    workers : int
        Processes; see `maskseg.convert.convert.run`.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If the file is no COCO file, the categories must be chosen, or no image can be converted.
    """
    path = _json_file(Path(source))
    folder = Path(images) if images else path.parent / "images"
    if images and not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check --images")
    if not folder.is_dir():
        folder = path.parent
    data = _load(path)
    summary = Summary("annotations")
    kept = _of_categories(path, data, categories)
    if len(kept) < len(data["annotations"]):
        summary.unit += f" of the categories taken (of {len(data['annotations'])})"
    tasks = _tasks(path, data["images"], kept, folder, summary)
    return run(
        tasks,
        _read_record,
        Path(out),
        summary,
        expected=f"images of {path} in {folder}; give their folder with --images",
        modalities=modalities,
        workers=workers,
        progress=progress,
    )


def _json_file(source: Path) -> Path:
    if source.is_file():
        return source
    if (source / ANNOTATIONS).is_file():
        return source / ANNOTATIONS
    found = sorted(source.glob("*.json"))
    if len(found) != 1:
        raise InputError(f"{source}: {len(found)} JSON files where one is needed; name the file")
    return found[0]


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); get it again") from error
    for key in ("images", "annotations"):
        rows = data.get(key) if isinstance(data, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: no COCO file of instances, it has no list {key!r}; export it as such")
    return data


def _of_categories(path: Path, data: dict[str, Any], wanted: Collection[str]) -> list[dict[str, Any]]:
    """The annotations of the categories to take; see `convert` for the rule."""
    listed = data.get("categories") or []
    names = {row["id"]: str(row["name"]) for row in listed if isinstance(row, dict) and {"id", "name"} <= row.keys()}

    def name_of(item: dict[str, Any]) -> str:
        key = item.get("category_id")
        return names.get(key, str(key)) if isinstance(key, int | str) else "none"

    used = Counter(map(name_of, data["annotations"]))
    if not wanted:
        wanted = used if len(used) <= 1 else {name for name in used if "nucle" in name.lower()}
        if used and not wanted:
            choice = ", ".join(f"{name} ({count})" for name, count in used.most_common())
            raise InputError(
                f"{path}: several categories: {choice}; name those that are nuclei with --category, or --category all"
            )
    elif "all" not in wanted:
        unknown = set(wanted) - set(names.values()) - used.keys()
        if unknown:
            raise InputError(f"{path}: no category {sorted(unknown)[0]!r}; it has {', '.join(used)}")
    return [item for item in data["annotations"] if "all" in wanted or name_of(item) in wanted]


def _tasks(
    path: Path, records: list[dict[str, Any]], items: list[dict[str, Any]], folder: Path, summary: Summary
) -> list[Task]:
    """One task for each image record. Annotations of no image go into the summary."""
    of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    ids = Counter(_key(record.get("id")) for record in records)
    for item in items:
        key = _key(item.get("image_id"))
        if key is not None and key in ids:
            of[key].append(item)
        else:
            where = f"{path}: annotation {item.get('id')}"
            summary.left_out.append(LeftOut(where, "annotation left out", f"no image {item.get('image_id')!r}; add it"))
            summary.found += 1
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            by_name[file.name.lower()].append(file)
    # Images of one name in several folders are told apart by their folders.
    stems = Counter(member_path(_name(record)).stem.lower() for record in records)
    tasks = []
    for record in records:
        name, key = _name(record), _key(record.get("id"))
        where = f"{path}: image {name or record.get('id')}"
        own = of.pop(key, [])
        try:
            if key is None or ids[key] > 1:
                raise InputError(f"{ids[key]} images have the id {record.get('id')}; number them anew")
            file = _find(name, by_name, folder)
            stem = member_path(name).stem
            if stems[stem.lower()] > 1:
                stem = "_".join(file.relative_to(folder).with_suffix("").parts)
            tasks.append(Task(where, _Image(ImageFile(stem, file), path, record, own), stem, len(own)))
        except InputError as error:
            tasks.append(Task(where, str(error), None, len(own)))
    return tasks


def _key(value: Any) -> Any:
    """An id as a key: 7 and "7", which files mix, are the same."""
    return str(value) if isinstance(value, int | str) else None


def _name(record: Mapping[str, Any]) -> str:
    name = record.get("file_name")
    return name if isinstance(name, str) else ""


def _find(name: str, by_name: Mapping[str, list[Path]], folder: Path) -> Path:
    """The image file whose path has the most at its end in common with `name`."""
    path = member_path(name)
    files = by_name.get(path.name.lower(), [])
    if not files:
        raise InputError(f"no such file in {folder}; give the folder of the images with --images")
    common = [_common_end(path, file) for file in files]
    if common.count(max(common)) > 1:
        raise InputError(f"{len(files)} files could be it, such as {files[0]} and {files[1]}; rename them")
    return files[common.index(max(common))]


def _common_end(name: PurePosixPath, file: Path) -> tuple[int, int]:
    """How many parts at the end of two paths are the same, first whatever their case."""
    pairs = list(zip(name.parts[::-1], file.parts[::-1], strict=False))
    alike = list(takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))
    return len(alike), sum(a == b for a, b in alike)


def _read_record(image: _Image | str) -> Result:
    if isinstance(image, str):
        raise InputError(image)
    data = image.file.bytes()
    shape = read_image(data, image.file.path.name).shape[:2]
    stated = tuple(image.record.get(key) for key in ("height", "width"))
    if None not in stated and stated != shape:
        sizes = f"{shape[0]}x{shape[1]} pixels, the COCO file says {stated[0]}x{stated[1]}"
        raise InputError(f"{image.file.path.name} has {sizes}; give the images that were annotated")
    found: list[dict[str, Any]] = []
    faults: list[LeftOut] = []
    first_of: dict[str, Any] = {}
    for item in image.annotations:
        where = f"{image.json}: annotation {item.get('id')}"
        try:
            if item.get("iscrowd"):
                raise InputError("a crowd region, not one nucleus; outline its nuclei one by one")
            runs = segmentation_runs(item.get("segmentation"), shape)  # type: ignore[arg-type]
            if len(runs[0]) == 0:
                raise InputError("not one pixel in the image; draw it again")
        except InputError as error:
            faults.append(LeftOut(where, "annotation left out", str(error)))
            continue
        box, bitmap = rle.runs_to_crop(*runs, shape)  # type: ignore[arg-type]
        new = annotation(bitmap, box, shape)  # type: ignore[arg-type]
        first = first_of.setdefault(new["segmentation"]["counts"], item)
        if first is not item:
            reason = f"the same pixels as annotation {first.get('id')}; delete one"
            faults.append(LeftOut(where, "duplicate annotation", reason))
            continue
        found.append(new)
    fields = {key: image.record[key] for key in _FIELDS if key in image.record}
    file_name = image.file.id + image.file.path.suffix.lower()
    return Result([Picture(file_name, data, shape, found, fields)], len(image.annotations), faults)  # type: ignore[arg-type]


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

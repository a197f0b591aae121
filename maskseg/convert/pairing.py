"""The images of annotations that lie elsewhere: found by the end of the path that the annotations give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from maskseg.core.errors import InputError
from maskseg.formats.reader import Item, fault
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, member_path


def with_images(items: Iterable[Item], folder: Path) -> list[Item]:
    """Items with their images, of a folder and those below it; one without image says so when it is read.

    An image is the file whose path has the most at its end in common with `Item.file_name`, so that paths of another
    machine do no harm; where the annotations name no file, the one whose name without ending is `Item.image_id`.
    Images of one name in several folders are told apart by their folders.

    Parameters
    ----------
    items : iterable of Item
        Those that have images keep them.
    folder : Path
    """
    items = list(items)
    files = _Files(folder)
    stems = Counter(item.image_id.lower() for item in items if item.image_id and item.image is None)
    paired = []
    for item in items:
        if item.image is None and item.image_id is not None:
            try:
                path = files.find(item)
                name = item.image_id
                if stems[name.lower()] > 1:
                    name = "_".join(path.relative_to(folder).with_suffix("").parts)
                item = replace(item, image_id=name, image=ImageFile(name, path))
            except InputError as error:
                item = fault(item.where, str(error), found=item.found)
        paired.append(item)
    return paired


class _Files:
    """The image files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                self._by_name[file.name.lower()].append(file)
                self._by_stem[file.stem.lower()].append(file)

    def find(self, item: Item) -> Path:
        path = member_path(item.file_name or item.image_id or "")
        files = (self._by_name if item.file_name else self._by_stem).get(path.name.lower(), [])
        if not files:
            raise InputError(f"no such file in {self._folder}; give the folder of the images with --images")
        common = [_common_end(path, file) for file in files]
        if common.count(max(common)) > 1:
            raise InputError(f"{len(files)} files could be it, such as {files[0]} and {files[1]}; rename them")
        return files[common.index(max(common))]


def _common_end(name: PurePosixPath, file: Path) -> tuple[int, int]:
    """How many parts at the end of two paths are the same, first whatever their case."""
    pairs = list(zip(name.parts[::-1], file.parts[::-1], strict=False))
    alike = list(takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))
    return len(alike), sum(a == b for a, b in alike)

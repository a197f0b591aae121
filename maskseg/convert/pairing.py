"""The images of annotations that lie elsewhere: found by the end of the path that the annotations give."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from maskseg.core.errors import InputError
from maskseg.formats.reader import Item, unreadable_item
from maskseg.formats.sources import files_of, inner_path
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, member_path

# Begins what is behind the name of an image in the address of a file: ``image.png?token=...``.
_QUERY = re.compile(r"[?#]")
# Digits of a number that numbers an image.
_LONGEST_NUMBER = 15
# Folders of pictures that were made of images, beside the images under the same names: CoNSeP's ``Overlay``.
_MADE_OF_IMAGES = re.compile(r"overlay|outline|mask|label|annotat|preview|thumb|visuali[sz]", re.IGNORECASE)
# What Label Studio puts before the name of a file that was uploaded to it.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")


def with_images(items: Iterable[Item], folder: Path) -> list[Item]:
    """Items with their images, of a folder and those below it; one without image says so when it is read.

    An image is the file whose path has the most at its end in common with `Item.file_name`, so that paths of another
    machine do no harm; where the annotations name no file, or none of that name is there, the one whose name without
    ending is `Item.image_id`. Images of one name in several folders are told apart by their folders. Names may be
    parts of an address (``%20`` for a space, a query behind them), and written with composed letters or not.

    Annotations that know images by numbers alone are for the image with that number in its name, where it is one.

    Parameters
    ----------
    items : iterable of Item
        Those that have images keep them; those whose file of annotations holds the image take it where it lies nowhere
        else.
    folder : Path
        Or a zip file.
    """
    items = list(items)
    files = _Files(folder)
    stems = Counter(_folded(item.image_id) for item in items if item.image_id and item.image is None)
    paired = []
    for item in items:
        if item.image is None and item.image_id is not None:
            try:
                file = files.find(item)
                # Numbers and parts of addresses are no names.
                name = item.image_id if _folded(item.image_id) == _folded(file.id) else file.id
                name = name if stems[_folded(item.image_id)] == 1 else files.long_name(file)
                item = replace(item, image_id=name, image=replace(file, id=name))
            except InputError as error:
                if item.within is not None:
                    item = replace(item, image=item.within)
                else:
                    item = unreadable_item(item.where, str(error), annotation_count=item.annotation_count)
        paired.append(item)
    return paired


def by_number(number: str, names: Iterable[str]) -> str | None:
    """Of names with a number at their end, or with no more than one in them, the one with this number.

    None if there is none, or several.
    """
    if not number.isdecimal() or len(number) > _LONGEST_NUMBER:
        return None
    with_number = [name for name in names if _number_in(name) == int(number)]
    return with_number[0] if len(with_number) == 1 else None


def _number_in(name: str) -> int | None:
    digits = re.findall(r"\d+", name)
    if not digits or len(digits[-1]) > _LONGEST_NUMBER or (len(digits) > 1 and not name.endswith(digits[-1])):
        return None
    return int(digits[-1])


class _Files:
    """The image files below a folder or in a zip file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, list[ImageFile]] = defaultdict(list)
        self._by_stem: dict[str, list[ImageFile]] = defaultdict(list)
        for file in files_of(folder, *SUFFIXES):
            path = inner_path(file, folder)
            self._by_name[_folded(path.name)].append(file)
            self._by_stem[_folded(path.stem)].append(file)

    def find(self, item: Item) -> ImageFile:
        """The image of an item.

        Raises
        ------
        InputError
            If there is none, or several are as likely.
        """
        for path, known in self._names(item):
            # A label image is no image of itself.
            if files := [file for file in known.get(_folded(path.name), []) if file.name != item.where]:
                common = [self._likeness(path, file) for file in files]
                if common.count(max(common)) > 1:
                    raise InputError(
                        f"{len(files)} files could be it, such as {files[0].name} and {files[1].name}; rename them"
                    )
                return files[common.index(max(common))]
        if not item.file_name:
            stem = by_number(item.image_id or "", self._by_stem)
            if stem is not None and len(self._by_stem[stem]) == 1:
                return self._by_stem[stem][0]
        raise InputError(f"no image for it: no such file in {self._folder}; give their folder with --images")

    def _likeness(self, path: PurePosixPath, file: ImageFile) -> tuple[int, int, bool]:
        """How likely a file is the one that annotations call so."""
        inner = inner_path(file, self._folder)
        return (*_common_end(path, inner), not _MADE_OF_IMAGES.search(str(inner.parent)))

    def _names(self, item: Item) -> Iterator[tuple[PurePosixPath, dict[str, list[ImageFile]]]]:
        """Ways in which the annotations may mean the name of the image, from the plain one on."""
        for name in dict.fromkeys(_readings(item.file_name)):
            yield member_path(name), self._by_name
        if item.file_name:
            # Converted to another format since.
            yield from ((member_path(name).with_suffix(""), self._by_stem) for name in _readings(item.file_name))
        yield PurePosixPath(item.image_id or ""), self._by_stem
        # Annotations named after the whole name of their image, a.png.geojson, perhaps as it stands in an address.
        for name in _readings(item.image_id or ""):
            yield member_path(name), self._by_name
            yield member_path(name), self._by_stem

    def long_name(self, file: ImageFile) -> str:
        """A name that tells a file from one of the same name in another folder."""
        return "_".join(inner_path(file, self._folder).with_suffix("").parts)


def _readings(name: str) -> Iterator[str]:
    if not name or not member_path(name).name:
        return
    yield name
    plain = unquote(_QUERY.split(name, maxsplit=1)[0])
    if member_path(plain).name:
        yield plain
        path = member_path(plain)
        yield str(path.with_name(_UPLOADED.sub("", path.name)))


def _folded(name: str) -> str:
    """A name whatever its case, and whether its accents are letters of their own or not."""
    return unicodedata.normalize("NFC", name).lower()


def _common_end(name: PurePosixPath, file: PurePosixPath) -> tuple[int, int]:
    """How many parts at the end of two paths are the same, first whatever their case."""
    pairs = list(zip(name.parts[::-1], file.parts[::-1], strict=False))
    alike = list(takewhile(lambda pair: _folded(pair[0]) == _folded(pair[1]), pairs))
    return len(alike), sum(a == b for a, b in alike)

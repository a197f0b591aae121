"""Sizes of many images, of which some may not be readable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from maskseg.core.errors import InputError
from maskseg.imaging.reading import ImageFile


class ImageSizes(Mapping[str, tuple[int, int]]):
    """Height and width of images by their ids, each read from its header when it is asked for.

    Asking for the size of an image that cannot be read raises the InputError that says why; the others are not lost.
    """

    def __init__(self, files: Iterable[ImageFile]) -> None:
        self._files = {file.id: file for file in files}
        self._known: dict[str, tuple[int, int] | InputError] = {}

    def __getitem__(self, name: str) -> tuple[int, int]:
        if name not in self._known:
            try:
                self._known[name] = self._files[name].size()
            except InputError as error:
                self._known[name] = error
        known = self._known[name]
        if isinstance(known, InputError):
            raise InputError(str(known)) from known
        return known

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

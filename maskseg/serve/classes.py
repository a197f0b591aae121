"""What the class numbers of nuclei are called: one list for all images of a server, in a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.json_files import read_json, write_json
from maskseg.core.masks import CropMasks
from maskseg.formats.classes import NUCLEUS, UNCLASSIFIED, class_name, colours
from maskseg.serve.edits import MOST_KINDS


class Classes:
    """Classes by their numbers, which run from 1 and are never given twice; 0 is no class.

    Nuclei have the number, so that a class is renamed in one place, for all images and all that was ever done to them.

    Parameters
    ----------
    path : Path
        The file; made with the first class.

    Attributes
    ----------
    names : dict of int to str
        In the order of their numbers.

    Raises
    ------
    InputError
        If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, RLock()
        self.names: dict[int, str] = {}
        self._last = 0
        if path.is_file():
            self.names, self._last = _read(path)

    def rows(self) -> list[dict[str, Any]]:
        """What the page shows: number, name and colour (#rrggbb), last the nuclei without a class as number 0."""
        if not self.names:
            return []
        names = {**self.names, 0: UNCLASSIFIED}
        colour_of = colours(list(names.values()))
        hexadecimal = {kind: "#{:02x}{:02x}{:02x}".format(*colour_of[name]) for kind, name in names.items()}
        return [{"kind": kind, "name": name, "colour": hexadecimal[kind]} for kind, name in names.items()]

    def number(self, name: str) -> int:
        """The number of a class, which is made where there is none of that name.

        Raises
        ------
        InputError
            If it is no name, there is no number left, or it cannot be written.
        """
        wanted = _checked(name)
        with self._lock:
            for kind, known in self.names.items():
                if known == wanted:
                    return kind
            kind = self._last + 1
            if kind > MOST_KINDS:
                raise InputError(f"class {wanted}: more than {MOST_KINDS} classes; rename one that you do not need")
            self._write({**self.names, kind: wanted})
            return kind

    def learn(self, names: Mapping[int, str]) -> bool:
        """Take over what numbers are called that have no name here; whether there were any.

        A name that another number has gets its own number added.
        """
        with self._lock:
            fresh = {kind: name for kind, name in names.items() if kind > 0 and kind not in self.names}
            if not fresh:
                return False
            known = dict(self.names)
            for kind, name in sorted(fresh.items()):
                known[kind] = name if name not in known.values() else f"{name} {kind}"
            self._write(dict(sorted(known.items())))
            return True

    def rename(self, kind: int, name: str) -> None:
        """Call a class otherwise.

        Raises
        ------
        InputError
            If there is no such class, it is no name, or another class has it.
        """
        wanted = _checked(name)
        with self._lock:
            self._known(kind)
            if any(known == wanted for other, known in self.names.items() if other != kind):
                raise InputError(
                    f"another class is called {wanted}: choose its nuclei and give them that class instead"
                )
            self._write({**self.names, kind: wanted})

    def remove(self, kind: int, used: int) -> None:
        """Forget a class that no nucleus has; `used` is how many have it.

        Raises
        ------
        InputError
            If some have, or there is no such class.
        """
        with self._lock:
            self._known(kind)
            if used:
                raise InputError(
                    f"{used} {'nucleus is' if used == 1 else 'nuclei are'} of class {self.names[kind]}: give them "
                    "another one first"
                )
            self._write({other: name for other, name in self.names.items() if other != kind})

    def listed(self, kinds: Sequence[int]) -> tuple[list[int], tuple[str, ...]]:
        """Numbers of classes as places in a list of names, as writers take them, and the list.

        It has all classes, in the order of their numbers, and then what a nucleus without a class is called; just
        nucleus where no nucleus has a class.
        """
        if not any(kinds):
            return [0] * len(kinds), (NUCLEUS,)
        with self._lock:
            # A class that was removed comes back by undoing.
            known = {kind: self.names.get(kind, f"class {kind}") for kind in sorted({*self.names, *kinds} - {0})}
        place = {kind: number for number, kind in enumerate([*known, 0])}
        return [place[kind] for kind in kinds], (*known.values(), UNCLASSIFIED)

    def named(self, masks: CropMasks) -> tuple[CropMasks, tuple[str, ...]]:
        """Masks with classes as `listed` has them, and the names."""
        places, names = self.listed(masks.classes.tolist())
        return replace(masks, classes=np.array(places, np.int32)), names

    def _known(self, kind: int) -> None:
        if kind not in self.names:
            raise InputError(f"class {kind}: there is none of this number")

    def _write(self, names: Mapping[int, str]) -> None:
        # First the disk, then the memory.
        last = max([self._last, *names])
        write_json(self._path, {"names": {str(kind): name for kind, name in names.items()}, "last": last}, indent=1)
        self.names, self._last = dict(names), last


def numbers_of(classes: Iterable[str], known: Classes) -> dict[int, str]:
    """The numbers of a model's classes, in its order; none for a model of one class."""
    names = list(classes)
    return {known.number(name): name for name in names} if len(names) > 1 else {}


def _checked(name: str) -> str:
    wanted = class_name(name)
    if not wanted or len(wanted) > 60:
        raise InputError("a class needs a name of up to 60 characters")
    if wanted == UNCLASSIFIED:
        raise InputError(f"{UNCLASSIFIED} is what a nucleus without a class is called: choose another name")
    return wanted


def _read(path: Path) -> tuple[dict[int, str], int]:
    data = read_json(path, "move it away")
    try:
        names = {int(kind): str(name) for kind, name in data["names"].items()}
        last = max([int(data["last"]), *names])
        if any(not 0 < kind <= MOST_KINDS for kind in names) or not all(names.values()):
            raise ValueError("a number or a name that cannot be")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error}); move it away") from error
    return dict(sorted(names.items())), last

"""Classes of nuclei by name: one way of writing them, their numbers, their colours, and how they are merged."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskseg.core.errors import InputError
from maskseg.core.text import printable

Colour = tuple[int, int, int]

# What a nucleus is where nothing more is known of it.
NUCLEUS = "nucleus"
# What a nucleus without a class is called in a set whose others have one: a network learns its outline alone.
UNCLASSIFIED = "unclassified"
# What stands for every class in --merge-classes.
ALL = "all"
# QuPath's own colours of its classes, by their names in small letters.
_QUPATH: dict[str, Colour] = {
    "tumor": (200, 0, 0),
    "stroma": (150, 200, 150),
    "immune cells": (160, 90, 160),
    "necrosis": (50, 50, 50),
    "other": (255, 200, 0),
    "positive": (250, 62, 62),
    "negative": (112, 112, 225),
}
# For all other classes: far apart, and none of them the colour of stained tissue or of a dark field.
_PALETTE: tuple[Colour, ...] = (
    (0, 140, 255), (255, 150, 0), (0, 190, 90), (240, 60, 200), (120, 90, 255), (170, 210, 0),
    (0, 200, 200), (255, 80, 80), (150, 90, 0), (0, 90, 160), (255, 150, 180), (0, 110, 80),
)  # fmt: skip
# Distance of two colours that are told apart at a glance.
_APART = 140
_LONGEST = 200


def class_name(value: Any) -> str:
    """The name of a class as a file has it, a text or a number; "" for what is no name.

    Examples
    --------
    >>> class_name(" Tumor "), class_name(3.0), class_name(3), class_name(None)
    ('Tumor', '3', '3', '')
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return printable(str(value)[:_LONGEST]).strip()


class Categories:
    """Numbers of classes from 1, in the order in which they come.

    Examples
    --------
    >>> known = Categories()
    >>> [known.number(name) for name in ("a", "", "b", "a")]
    [1, 2, 3, 1]
    >>> known.names
    ['a', 'unclassified', 'b']
    """

    def __init__(self, names: Iterable[str] = (), default: str = NUCLEUS) -> None:
        self._numbers: dict[str, int] = {}
        self._default, self._named = default, False
        for name in names:
            self.number(name)

    def number(self, name: str) -> int:
        """The number of a class; of what has no name, that of the nuclei without a class."""
        self._named |= name == self._default
        return self._numbers.setdefault(name or self._default, len(self._numbers) + 1)

    @property
    def names(self) -> list[str]:
        """The names by their numbers; one class that has none, or but a number, is nucleus."""
        names = list(self._numbers) or [self._default]
        if len(names) == 1:
            return [self._default] if names[0].isdecimal() else names
        return names if self._named else [UNCLASSIFIED if name == self._default else name for name in names]


def colours(names: Sequence[str]) -> dict[str, Colour]:
    """RGB of classes, no two the same for up to a dozen: QuPath's own where it knows the name.

    A name has the same colour wherever it comes, unless another one in `names` has one like it.
    """
    chosen: dict[str, Colour] = {}
    for name in names:
        known = _QUPATH.get(name.lower())
        if known and known not in chosen.values():
            chosen[name] = known
    for name in names:
        if name not in chosen:
            first = zlib.crc32(name.encode("utf-8", "replace")) % len(_PALETTE)
            order = [_PALETTE[(first + step) % len(_PALETTE)] for step in range(len(_PALETTE))]
            free = [colour for colour in order if colour not in chosen.values()] or order
            chosen[name] = next((colour for colour in free if _is_far(colour, chosen.values())), free[0])
    return {name: chosen[name] for name in names}


def _is_far(colour: Colour, others: Iterable[Colour]) -> bool:
    """Whether lines of a colour are told from those of the others at a glance."""
    return all(sum((a - b) ** 2 for a, b in zip(colour, other, strict=True)) > _APART**2 for other in others)


@dataclass
class ClassRule:
    """What classes are called: ``--class-names`` and ``--merge-classes``.

    Attributes
    ----------
    names : sequence of str
        Names of the classes that have numbers alone, from 1.
    merged : dict
        Old name -> new name; `ALL` stands for every name.

    Examples
    --------
    >>> rule = ClassRule.parse("tumour,stroma", ["cell=tumour,stroma"])
    >>> rule("1"), rule("stroma"), rule("dirt")
    ('cell', 'cell', 'dirt')
    """

    names: tuple[str, ...] = ()
    merged: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, names: str | None, merges: Sequence[str] | None) -> ClassRule:
        """From the options as they are typed: ``A,B,C`` and ``NEW=OLD,OLD`` or ``all``, each.

        Raises
        ------
        InputError
            If they are not so, or a class is merged into two.
        """
        listed = tuple(map(class_name, names.split(","))) if names else ()
        if names is not None and (not all(listed) or len(set(listed)) < len(listed)):
            raise InputError(f"--class-names {names}: give each class a name of its own, comma separated")
        merged: dict[str, str] = {}
        for text in merges or ():
            new, sign, old = text.partition("=")
            if not sign and new.strip() == ALL:
                new, old = NUCLEUS, ALL
            olds = [class_name(one) for one in old.split(",")]
            if not class_name(new) or not all(olds):
                raise InputError(f"--merge-classes {text}: give NEW=OLD,OLD, or all")
            for one in olds:
                if one in merged:
                    raise InputError(f"--merge-classes: {one} goes to {merged[one]} and to {new}; choose one of them")
                merged[one] = class_name(new)
        return cls(listed, merged)

    def __bool__(self) -> bool:
        return bool(self.names or self.merged)

    def __call__(self, name: str) -> str:
        """What a class is called."""
        if self.names and name.isdecimal() and 1 <= int(name[:9]) <= len(self.names):
            name = self.names[int(name) - 1]
        return self.merged.get(name, self.merged.get(ALL, name))

    def check(self, seen: Iterable[str]) -> None:
        """Refuse, once all names were seen, a rule that was about none of them.

        Raises
        ------
        InputError
            Naming the first class that is nowhere.
        """
        raw = set(seen)
        known = raw | {
            self.names[int(name) - 1] for name in raw if name.isdecimal() and 1 <= int(name[:9]) <= len(self.names)
        }
        there = ", ".join(sorted(filter(None, raw))) or "none"
        missing = [old for old in self.merged if old != ALL and old not in known]
        if missing:
            raise InputError(f"--merge-classes: there is no class {missing[0]!r}; there are: {there}")
        if self.names and not any(name.isdecimal() and 1 <= int(name[:9]) <= len(self.names) for name in raw):
            raise InputError(f"--class-names: names numbered classes, and there are none; there are: {there}")

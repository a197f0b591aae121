"""Names of images: what a file name becomes where it must be text, unique, and not too long."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from maskseg.core import text

# Bytes of an id. With the longest ending of a result, and what a file has while it is written, a name has 255 at most.
_LONGEST, _KEPT = 200, 180
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def printable(name: str | os.PathLike[str]) -> str:
    """A name in one line of text: line breaks and bytes that are no text as escapes."""
    return text.printable(os.fspath(name))


def _is_text(character: str) -> bool:
    # What turns the direction of all text behind it would disguise the rest of a line.
    turns = unicodedata.bidirectional(character) in _TURNS
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") and not turns


def as_id(stem: str) -> str:
    """A name that a result can have, on any disk and in any table.

    Bytes that are no UTF-8 are read as Latin-1, as old archives have them; control characters and line breaks become
    ``_``. A name that would be too long with an ending is cut, and marked so that it stays the only one.
    """
    if any(unicodedata.category(character) == "Cs" for character in stem):
        stem = os.fsencode(stem).decode("latin-1")
    text = "".join(character if _is_text(character) else "_" for character in stem) or "_"
    data = text.encode("utf-8", "replace")
    if len(data) <= _LONGEST:
        return text
    return data[:_KEPT].decode("utf-8", "ignore") + "-" + hashlib.sha256(data).hexdigest()[:12]


def unique_ids(paths: Sequence[Sequence[str]]) -> list[str]:
    """An id for each file, from as little of its path as makes it the only one.

    Parameters
    ----------
    paths : sequence of sequence of str
        Of each file its name without ending, then the names of the folders around it from the inside out; the last
        of all is its ending.

    Returns
    -------
    list of str
        The name itself where no other file has it. Where others do, the folders before it, joined by ``_``; of files
        of one folder that differ in their ending only, with that behind. Ids that differ in case or in the way that
        accents are written would be one file on some disks, and are taken for equal as long as there are more folders.

    Examples
    --------
    >>> unique_ids([("dapi", "A1", "plate", ".tif"), ("dapi", "B1", "plate", ".tif"), ("gfp", "B1", "plate", ".tif")])
    ['A1_dapi', 'B1_dapi', 'gfp']
    >>> unique_ids([("a", "plate", ".tif"), ("a", "plate", ".png")])
    ['a_tif', 'a_png']
    """
    # What differs in the ending only is told apart by its folders together.
    places = list(dict.fromkeys(tuple(path[:-1]) for path in paths))
    used = dict.fromkeys(places, 1)
    # As long as some are equal, each of these takes one more part of its path.
    for _ in range(max(map(len, places), default=0)):
        equal: dict[str, list[tuple[str, ...]]] = {}
        for place in places:
            equal.setdefault(_key(_joined(place, used[place])), []).append(place)
        for group in equal.values():
            # Two of one folder that differ in case only are not told apart by more of the path.
            if len({tuple(map(_key, place)) for place in group}) > 1:
                used.update((place, min(used[place] + 1, len(place))) for place in group)
    of_place = Counter(tuple(path[:-1]) for path in paths)
    names = []
    for *around, ending in paths:
        place = tuple(around)
        name = _joined(place, used[place])
        names.append(as_id(f"{name}{ending.replace('.', '_')}") if of_place[place] > 1 else name)
    return numbered(names)


def numbered(ids: Iterable[str]) -> list[str]:
    """Ids of which none is there twice: the second of equal ones gets ``-2``, and so on.

    Examples
    --------
    >>> numbered(["a", "b", "a", "a-2"])
    ['a', 'b', 'a-3', 'a-2']
    """
    ids = list(ids)
    taken, result = set(ids), list[str]()
    seen: set[str] = set()
    for name in ids:
        number, free = 2, name
        while free in seen or (free != name and free in taken):
            free, number = as_id(f"{name}-{number}"), number + 1
        seen.add(free)
        result.append(free)
    return result


def _key(name: str) -> str:
    """What is the same for names that some disks do not tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _joined(path: Sequence[str], count: int) -> str:
    """The last `count` parts of a path, from the outside in."""
    return as_id("_".join(reversed(path[:count])))

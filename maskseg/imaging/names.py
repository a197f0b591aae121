"""Names of images: what a file name becomes where it must be text, unique, and not too long."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Sequence

# Bytes of an id. With the longest ending of a result, and what a file has while it is written, a name has 255 at most.
_LONGEST, _KEPT = 200, 180


def printable(name: str | os.PathLike[str]) -> str:
    """A name in one line of text: line breaks and bytes that are no text as escapes."""
    text = os.fspath(name)
    return "".join(
        character if _is_text(character) else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def _is_text(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


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
        that differ in their ending only, with that too.
    """
    used = [1] * len(paths)
    ids = [as_id(path[0]) for path in paths]
    # As long as some are equal, each of these takes one more part of its path.
    for _ in range(max((len(path) for path in paths), default=0)):
        groups: dict[str, list[int]] = {}
        for number, image_id in enumerate(ids):
            groups.setdefault(image_id, []).append(number)
        equal = [group for group in groups.values() if len(group) > 1]
        if not equal:
            break
        for group in equal:
            for number in group:
                used[number] = min(used[number] + 1, len(paths[number]))
                ids[number] = _joined(paths[number], used[number])
    return ids


def _joined(path: Sequence[str], count: int) -> str:
    """The last `count` parts of a path; the ending comes last of all, and behind."""
    if count < len(path):
        return as_id("_".join(reversed(path[:count])))
    return as_id("_".join(reversed(path[:-1])) + path[-1].replace(".", "_"))

"""CSV tables: written in one way, which spreadsheets open as what they are."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskseg.core.files import write_whole
from maskseg.core.text import printable

# A cell that begins like this is a formula to a spreadsheet, or becomes one; the last four are full-width forms.
_FORMULA = re.compile("[ ']*[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_TEXT = "'"


def write_csv(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any] | Mapping[str, Any]],
    exact: bool = False,
) -> None:
    """Write a table as CSV (UTF-8, lines that end in a line feed), whole or not at all.

    A text that a spreadsheet would take for a formula has an apostrophe before it, which keeps it a text (see
    `plain`), and control characters are escaped. Numbers, also those written as text, stay as they are.

    Parameters
    ----------
    path : path-like
    columns : sequence of str
    rows : iterable of sequence, or of mapping by column
        Taken one at a time. None, and what a mapping does not have, is an empty cell; what it has besides is left out.
    exact : bool
        Texts as they are: for a file that a program reads and that must hold the very names.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    clean = _exact if exact else _safe
    # Names that are no UTF-8 hold halves of surrogate pairs, which UTF-8 cannot write.
    with write_whole(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([clean(column) for column in columns])
        for row in rows:
            cells = [row.get(column) for column in columns] if isinstance(row, Mapping) else row
            writer.writerow([clean(cell) for cell in cells])


def plain(text: str) -> str:
    """The text of a cell without the apostrophe that `write_csv` put before it.

    Examples
    --------
    >>> plain("'=a"), plain("'a'")
    ('=a', "'a'")
    """
    return text[1:] if text.startswith(_TEXT) and _FORMULA.match(text, 1) else text


def _exact(cell: Any) -> Any:
    return cell


def _safe(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    formula = _FORMULA.match(cell) and not _is_number(cell)
    return (_TEXT if formula else "") + printable(cell)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()

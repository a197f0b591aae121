"""Tables that say which images are tiles of one field."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

from maskseg.convert.mosaic_search import Place
from maskseg.core.errors import InputError
from maskseg.core.tables import plain

_WORDS = {"up_left": (0, 0), "up_right": (0, 1), "down_left": (1, 0), "down_right": (1, 1)}


class Tile(NamedTuple):
    """A row of a table: an image, the name of its mosaic, and its place there, or None where that is to be found."""

    image: str
    mosaic: str
    place: Place | None


def read_table(path: str | os.PathLike[str]) -> list[Tile]:
    """Read which images are tiles of one field.

    Columns: the image in ``img_id`` or ``image_id``; the mosaic in ``mosaic_idx`` or ``mosaic``; the place in
    ``mosaic_position`` (up_left, up_right, down_left, down_right) or in ``row`` and ``column``, counted from 0. A
    table without columns for the place, such as ``split.csv``, only says which images belong together. Rows without
    mosaic, or without place where there is a column for it, are no tiles.

    Raises
    ------
    InputError
        If the table is missing or malformed, or names an image twice.
    """
    tiles: dict[str, Tile] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            image = next((name for name in ("img_id", "image_id") if name in names), None)
            mosaic = next((name for name in ("mosaic_idx", "mosaic") if name in names), None)
            if image is None or mosaic is None:
                raise InputError(f"{path}: needs the columns img_id and mosaic_idx; it has {', '.join(names)}")
            for row in ({name: plain(cell or "") for name, cell in cells.items() if name} for cells in reader):
                where = [(row.get(name) or "").strip() for name in ("mosaic_position", "row", "column")]
                if not row[mosaic] or (not any(where) and {"mosaic_position", "row"} & set(names)):
                    continue
                if row[image] in tiles:
                    raise InputError(f"{path}: line {reader.line_num}: image {row[image]} once more; remove one row")
                try:
                    place = _WORDS[where[0]] if where[0] else (int(where[1]), int(where[2])) if where[1] else None
                except (KeyError, ValueError):
                    raise InputError(
                        f"{path}: line {reader.line_num}: place {' '.join(where).strip()!r} is none of "
                        f"{', '.join(_WORDS)}, and no row and column"
                    ) from None
                tiles[row[image]] = Tile(row[image], row[mosaic], place)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the path") from error
    return list(tiles.values())

"""A TIFF's directories gone through before anything is made of them, in a time that its bytes bound.

tifffile follows the chain of directories wherever it leads: one that leads back to itself is followed for hours, and
directories that lie over one another are as many as the file has bytes. What is written by any program are directories
that lie apart; here they are counted by the bytes that they take.
"""

from __future__ import annotations

import io
import math
import re
import struct
from pathlib import Path
from typing import IO

from maskseg.core.errors import InputError

# Tags whose values are places of further directories: SubIFDs, EXIF and GPS.
_FURTHER = {330}
# Bytes of each type of value.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# Values of several directories may be the same bytes, so many times over on the average.
_SHARED = 64
_MOST_TAGS = 4096
# Compressions whose pieces say in a header of their own how large they are: JPEG, JPEG 2000.
_JPEG, _JPEG2000 = (6, 7, 33007, 34892), (33003, 33004, 33005, 34712)
# A marker of JPEG that a segment follows, or that ends the picture. Programs write some ten passes over the pixels, and
# no more is decoded of more than so many pixels in all passes together, or of any picture.
_MARKER, _END, _SCAN = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]"), 0xD9, 0xDA
_USUAL_SCANS, _SCANNED, _MOST_SCANS = 24, 1 << 29, 256
# A piece may be larger than its tile, by the padding to whole blocks.
_PADDING = 64
_LOOPS = "its directory of pages leads back to itself; get it again"


class _Form:
    """How numbers lie in a file: classic TIFF, BigTIFF, and Hamamatsu's NDPI with its 64-bit links."""

    def __init__(self, start: bytes, ndpi: bool) -> None:
        order = "<" if start[:2] == b"II" else ">"
        self.big = start[2:4] in (b"+\0", b"\0+")
        self.count = order + ("Q" if self.big else "H")
        self.link = order + ("Q" if self.big or ndpi else "I")
        self.entry = order + ("HHQ" if self.big else "HHI")
        self.value = order + ("Q" if self.big else "I")
        self.tag_bytes = 20 if self.big else 12
        self.inside = 8 if self.big else 4
        self.first = 8 if self.big else 4

    @staticmethod
    def size(form: str) -> int:
        return struct.calcsize(form)


def check_structure(source: Path | bytes) -> None:
    """Go through the directories of a TIFF.

    Parameters
    ----------
    source : Path or bytes

    Raises
    ------
    InputError
        They lead back to themselves or lie over one another, or their values claim more than the file can hold.
    OSError
        The file cannot be read.
    """
    if isinstance(source, bytes):
        _check(io.BytesIO(source), len(source), ndpi=False)
        return
    with source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        _check(file, size, ndpi=source.suffix.lower() == ".ndpi")


def _check(file: IO[bytes], size: int, ndpi: bool) -> None:
    form = _Form(file.read(4), ndpi)
    file.seek(form.first)
    place = _number(file, form.link)
    # Places of directories, and whether they are of the chain of pages rather than listed by another directory.
    waiting = [(place or 0, True)]
    seen: set[int] = set()
    chain: set[int] = set()
    taken = values = 0
    while waiting:
        place, chained = waiting.pop()
        # Of a file that is cut short the pages that are there are read.
        if not place or place >= size:
            continue
        if place in (chain if chained else seen):
            if chained:
                raise InputError(_LOOPS)
            continue
        file.seek(place)
        count = _number(file, form.count)
        if count is None or count > _MOST_TAGS:
            continue
        # A page of the chain may be listed by another one too.
        if place not in seen:
            taken += form.size(form.count) + count * form.tag_bytes + form.size(form.link)
        seen.add(place)
        if chained:
            chain.add(place)
        if taken > size + 64:
            raise InputError("its directories of pages lie over one another; get it again")
        tags = file.read(count * form.tag_bytes)
        if chained:  # others have links too, which are not followed
            waiting.append((_number(file, form.link) or 0, True))
        for begin in range(0, len(tags) - form.tag_bytes + 1, form.tag_bytes):
            code, kind, length = struct.unpack_from(form.entry, tags, begin)
            stored = length * _SIZES.get(kind, 1)
            if stored <= form.inside:
                if code in _FURTHER and length == 1:
                    waiting.append((*struct.unpack_from(form.value, tags, begin + struct.calcsize(form.entry)), False))
                continue
            values += min(stored, size)
            if code in _FURTHER:
                waiting += [(place, False) for place in _further(file, form, tags, begin, kind, length, size)]
        if values > _SHARED * size + (1 << 20):
            raise InputError("its pages claim more values than the file can hold; get it again")


def _further(file: IO[bytes], form: _Form, tags: bytes, begin: int, kind: int, length: int, size: int) -> list[int]:
    """The places of further directories that a tag lists elsewhere in the file."""
    (place,) = struct.unpack_from(form.value, tags, begin + struct.calcsize(form.entry))
    each = _SIZES.get(kind, 1)
    if each not in (4, 8) or place + length * each > size:
        return []
    file.seek(place)
    data = file.read(length * each)
    return list(struct.unpack(f"{form.count[0]}{length}{'I' if each == 4 else 'Q'}", data))


def _number(file: IO[bytes], form: str) -> int | None:
    data = file.read(struct.calcsize(form))
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else None


def check_piece(data: bytes, compression: int, shape: tuple[int, ...]) -> None:
    """Refuse a tile or strip whose own header says that it is larger than (height, width).

    Raises
    ------
    InputError
    """
    size = None
    if compression in _JPEG:
        size = jpeg_size(data)
        check_scans(data, math.prod(shape))
    elif compression in _JPEG2000:
        size = jpeg2000_size(data)
    if size and (size[0] > shape[0] + _PADDING or size[1] > shape[1] + _PADDING):
        raise InputError(f"a piece of it claims {size[0]} x {size[1]} pixels; get it again")


def check_scans(data: bytes, pixels: int) -> None:
    """Refuse a JPEG stream of more passes over its pixels than programs write: each takes time and next to no bytes.

    Raises
    ------
    InputError
    """
    scans, place = 0, 2
    while found := _MARKER.search(data, place):
        marker, place = found[0][1], found.end()
        if marker == _END:
            break
        scans += marker == _SCAN
        if scans > _MOST_SCANS or (scans > _USUAL_SCANS and scans * pixels > _SCANNED):
            raise InputError("its JPEG goes over its pixels too many times, which may be an attack; save it again")
        # What a segment holds, such as a small picture of its own, is passed over.
        place += int.from_bytes(data[place : place + 2], "big")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in the header of a JPEG stream; None where it has none."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            place += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", data, place + 5)
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return None


def jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in the header of a JPEG 2000 stream, also in a file; None where it has none."""
    place = data.find(b"\xff\x4f\xff\x51")
    if place < 0 or place + 24 > len(data):
        return None
    width, height = struct.unpack_from(">II", data, place + 8)
    return height, width

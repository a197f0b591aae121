"""How much a file may claim to hold: believed as far as its bytes bear it out, so that a claim alone takes no memory.

A TIFF of 300 bytes may say that it is an image of 100,000 x 100,000 pixels. What is claimed is believed

1. up to `FLOOR`, whatever the size of the file;
2. up to so many times the size of the file: `IMAGE` for pictures, `LABELS` for label images, which are mostly zeros,
   `PARTS` for what is read window by window, `TEXT` for packed annotations, which take thirty times their bytes once
   they are read and have a floor of their own, `TEXT_FLOOR`;
3. up to `MOST` for what is decoded as a whole.

The environment variable MASKSEG_MAX_GB takes the place of all three, for files that are known to be right.
"""

from __future__ import annotations

import gzip
import io
import os

from maskseg.core.errors import InputError

VARIABLE = "MASKSEG_MAX_GB"
FLOOR, MOST = 256 << 20, 4 << 30
# Times the size of the file. Photographs and fluorescence are below 50; deflate cannot do more than 1032.
IMAGE, LABELS, PARTS, TEXT = 256, 1032, 4096, 24
TEXT_FLOOR = 24 << 20


def allowed(stored: int, times: int = IMAGE) -> int:
    """Bytes that a file of `stored` bytes may become in memory.

    Raises
    ------
    InputError
        MASKSEG_MAX_GB is no number.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        most = max(TEXT_FLOOR if times == TEXT else FLOOR, times * stored)
        return most if times == PARTS else min(most, MOST)
    try:
        gigabytes = float(given)
        if not 0 < gigabytes < 1e9:
            raise ValueError
    except ValueError:
        raise InputError(f"{VARIABLE}={given}: give a number of gigabytes, such as 16") from None
    return int(gigabytes * 2**30)


def check_claim(claimed: int, stored: int, times: int = IMAGE, what: str = "") -> None:
    """Refuse what a file of `stored` bytes claims to hold, where that is not to be believed.

    Parameters
    ----------
    claimed, stored : int
        Bytes.
    times : int
        `IMAGE`, `LABELS`, `PARTS` or `TEXT`.
    what : str
        What it claims to be, such as "20000 x 20000 pixels".

    Raises
    ------
    InputError
        In one line, with the remedy but without the name of the file.
    """
    if claimed > allowed(stored, times):
        size = f"{claimed / 2**30:.3g} GB"
        raise InputError(
            f"claims to hold {f'{what}, {size},' if what else size} in a file of {readable(stored)}, which may be an "
            f"attack; if it is right, set {VARIABLE} to more gigabytes than that"
        )


def gunzip(data: bytes) -> bytes:
    """What gzip packed, unpacked as far as it is to be believed of annotations.

    Raises
    ------
    InputError
        It becomes more than that.
    EOFError, OSError, zlib.error
        It is damaged.
    """
    most = allowed(len(data), TEXT)
    with gzip.open(io.BytesIO(data)) as packed:
        content = packed.read(most + 1)
    check_claim(len(content), len(data), TEXT)
    return content


def readable(count: int) -> str:
    """A number of bytes for messages."""
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"

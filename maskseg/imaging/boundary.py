"""The one boundary around files that come from elsewhere: whatever their decoders do, what comes out is an InputError.

Decoders have errors of their own, of dozens of kinds. Every reader of images runs inside `untrusted`; the pixels that
are asked for later come through `Guarded`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from maskseg.core.errors import InputError, located
from maskseg.core.limits import IMAGE, MOST, VARIABLE, allowed, check_claim, readable
from maskseg.core.zarr_arrays import folder_bytes
from maskseg.imaging.stored import Stored
from maskseg.imaging.windows import Box

DAMAGED = "damaged or cut short; get it again"
# Slides whose pixels lie in further files beside them.
_SEVERAL = (".mrxs", ".vms", ".vmu")
# So many planes may lie in any file; of more each takes so many bytes of it, for its header or for its pixels.
_FEW_PLANES, _PLANE_BYTES = 64, 24
# What is kept of each plane before any is read, in bytes.
_OF_AN_IMAGE = 1024


@contextmanager
def untrusted(name: str, otherwise: str = DAMAGED) -> Iterator[None]:
    """Whatever goes wrong in the block as one line that names the file.

    Parameters
    ----------
    name : str
        Of the file.
    otherwise : str
        What is said of errors that say nothing to a person.

    Raises
    ------
    InputError
    """
    try:
        yield
    except InputError as error:
        raise InputError(located(name, error)) from error
    except MemoryError as error:
        raise InputError(f"{name}: too large for the memory there is; save it as a tiled TIFF") from error
    except Exception as error:  # the decoders have errors of their own; all mean the same here
        # Of the system, such as a disk that has gone or a file without permission; decoders give no number.
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from error
        raise InputError(f"{name}: {otherwise}") from error


def check_pixels(shape: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Refuse an image (H, W) or (H, W, C) that a file of `stored` bytes claims to be, if that is not to be believed.

    Raises
    ------
    InputError
        Without the name of the file.
    """
    # As it is, or as 8-bit RGB where that is more.
    claimed = max(math.prod(shape) * itemsize, 3 * math.prod(shape[:2]))
    check_claim(claimed, stored, what=f"{shape[0]} x {shape[1]} pixels")


def check_planes(sizes: Iterable[int], source: Path | bytes) -> None:
    """Refuse more planes than a file has bytes for: each of them is an image to whoever asks for all.

    Raises
    ------
    InputError
        Without the name of the file.
    """
    count = math.prod(sizes)
    if count <= _FEW_PLANES:
        return
    stored = stored_bytes(source, _PLANE_BYTES * count)
    most = allowed(stored) // _OF_AN_IMAGE if VARIABLE in os.environ else stored // _PLANE_BYTES
    if count > most:
        raise InputError(
            f"claims to hold {count} planes in a file of {readable(stored)}, which may be an attack; if it is right, "
            f"set {VARIABLE} to more than {count * _OF_AN_IMAGE / 2**30:.3g} gigabytes"
        )


def stored_bytes(source: Path | bytes, enough: int = MOST // IMAGE) -> int:
    """Bytes of a file; of a folder `enough` where it has as many; and as many as you like of an image in several files.

    By default so many are enough that any image that is decoded as a whole is believed.
    """
    if isinstance(source, bytes):
        return len(source)
    if source.is_dir():
        return folder_bytes(source, enough)
    return source.stat().st_size if source.is_file() and source.suffix.lower() not in _SEVERAL else 1 << 60


class Guarded:
    """A `Stored` inside the boundary, that has pixels."""

    def __init__(self, stored: Stored) -> None:
        self._stored, self.name = stored, stored.name
        self.shapes, self.dtype = stored.shapes, stored.dtype
        self.channels: Sequence[str] = stored.channels
        self.planes: Mapping[str, int] = stored.planes
        self.images: Sequence[str] = stored.images
        self.rgb, self.pages_unknown, self.mpp = stored.rgb, stored.pages_unknown, stored.mpp
        if not self.shapes or any(min(shape) < 1 for shape in self.shapes) or not self.channels:
            raise InputError(f"{self.name}: it holds no pixels; get it again")
        if self.dtype.kind not in "buif":
            raise InputError(
                f"{self.name}: pixels of type {self.dtype} are not supported; save as 8-bit, 16-bit or float"
            )

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `Stored`."""
        with untrusted(self.name):
            found = self._stored.values(level, box, channels, plane)
            expected = box[3] - box[1], box[2] - box[0], len(channels)
            if found.shape != expected:
                raise InputError(f"a part of it has {found.shape} values in place of {expected}; get it again")
            return found

    def close(self) -> None:
        """See `Stored`."""
        self._stored.close()

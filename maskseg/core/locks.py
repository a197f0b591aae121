"""One process at a time in a folder of results."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.core.files import named_if_full, sweep

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within the block no other process of maskseg writes into a folder; the system ends that with the process.

    Where the file system knows no locks, nothing is locked.

    Raises
    ------
    InputError
        Another process is at it, or the folder cannot be written.
    """
    path = folder / ".lock"
    with named_if_full(path):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _hold(path, folder)
    try:
        yield
    finally:
        # Before it is let go: so nobody holds the file that is removed.
        path.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def alone_and_swept(folder: Path) -> Iterator[None]:
    """`alone_in`, once what runs that were killed had begun to write there is gone.

    Raises
    ------
    InputError
        As `alone_in`.
    """
    with alone_in(folder):
        sweep(folder)
        yield


def _hold(path: Path, folder: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _HELD:
                os.close(handle)
                raise InputError(
                    f"{folder}: another run is writing into this folder; wait for it, or choose another folder"
                ) from error
            return handle
        try:
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        # Removed by the one that held it until now: the next file of that name is another.
        os.close(handle)

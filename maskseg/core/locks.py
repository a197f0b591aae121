"""One process at a time in a folder of results."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.core.files import LEFTOVER, named_if_full

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


def sweep(folder: Path) -> None:
    """Remove what was being written whole anywhere below a folder when its process was killed.

    Only where no other process writes (`alone_in`), and where it is not known which files a run that was killed had
    begun. Folders below that another process is alone in are left alone.

    Parameters
    ----------
    folder : Path
        May be missing.
    """
    for where, folders, names in os.walk(folder):
        if Path(where) != folder and ".lock" in names and _held(Path(where) / ".lock"):
            folders.clear()
            continue
        for name in filter(LEFTOVER.fullmatch, names):
            (Path(where) / name).unlink(missing_ok=True)
        for name in filter(LEFTOVER.fullmatch, folders):
            shutil.rmtree(Path(where) / name, ignore_errors=True)


def _held(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(handle)
    except OSError as error:
        return error.errno in _HELD
    finally:
        os.close(handle)
    return False


def _hold(path: Path, folder: Path) -> int:
    while True:
        # A link in its place would have a file made where it leads.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
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

"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from maskseg.core.errors import InputError, OutputError
from maskseg.core.text import printable

# Name of a file or folder that is being written: a dot, its name, whose it is, and what mkstemp adds. No other program
# and no person names a file so: what has such a name is removed where its process was killed.
LEFTOVER = re.compile(r"\..+\.maskseg-[a-z0-9_]{8}", re.DOTALL)
# What the system says of names that it cannot have.
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def check_file(path: Path, name: str = "", remedy: str = "check the path") -> int:
    """The bytes of a file, which is neither a pipe nor a device: these may never end.

    Parameters
    ----------
    path : Path
    name : str
        What errors call it; the path where not given.
    remedy : str
        End of the message where it cannot be read.

    Raises
    ------
    InputError
        It is none, or not there.
    """
    name = name or printable(str(path))
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}); {remedy}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise InputError(f"{name}: is {kind} and no file; check the path")
    return status.st_size


def check_output(path: Path, endings: Iterable[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Before the work: a file that is written in the end does not take the place of another thing.

    Parameters
    ----------
    path : Path
    endings : iterable of str
        Of such files: one of these is replaced.
    inputs : iterable of path-like
        Files that are read; names of others do no harm.

    Raises
    ------
    InputError
        There is a folder, an input, or a file of another kind.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if not path.exists():
        return
    if any(os.path.exists(one) and path.samefile(one) for one in inputs):  # noqa: PTH110  also what is no path
        raise InputError(f"{path}: is read by this command; choose another name for what is written")
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: is there already, and no {' or '.join(endings)} file; choose another name")


def being_written(path: Path) -> str:
    """The prefix, for `tempfile`, of what is written beside `path` and takes its place in the end."""
    return f".{path.name}.maskseg-"


@contextmanager
def named_if_full(path: Path) -> Iterator[None]:
    """What the system says while `path` is written, in one line with its name.

    Raises
    ------
    OutputError
        If the folder cannot be written or the disk is full.
    InputError
        If that is so of this file alone, for its name.
    """
    try:
        yield
    except OSError as error:
        kind = InputError if error.errno in _OF_THE_NAME else OutputError
        remedy = "choose another name" if error.errno in _OF_THE_NAME else "free space or choose another folder"
        raise kind(f"{path}: cannot be written ({error.strerror or error}); {remedy}") from error


@contextmanager
def write_whole(
    path: str | os.PathLike[str], mode: str = "wb", *, sync: bool = True, **kwargs: Any
) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` and move it there when the block ends well.

    A reader never sees half a file, and an interrupted run leaves the former file as it was.

    Parameters
    ----------
    path : path-like
        The file to write; missing parent folders are made.
    mode : str
        ``"wb"`` or ``"w"``.
    sync : bool
        Wait until the disk has it. Not needed for one of many files that a later one makes valid.
    **kwargs
        Passed to `open`, for example ``newline=""`` or ``encoding="utf-8"``.

    Yields
    ------
    file
        The open temporary file.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        with named_if_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=being_written(path), dir=path.parent)
            with os.fdopen(handle, mode, **kwargs) as file:
                yield file
                file.flush()
                if sync:  # without it a power cut can leave the new name with the data still missing
                    os.fsync(file.fileno())
            # mkstemp makes private files; results are for everybody the umask allows.
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
            temporary = None
            if sync:
                sync_folder(path.parent)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder: without it a power cut can take back that a file was moved there.

    Where folders cannot be synced, as on Windows and some network disks, nothing is done.
    """
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
    finally:
        os.close(handle)


def walk(
    folder: Path, closed: Callable[[OSError], None], followlinks: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` from the top, for folders of any depth, and in which none that cannot be read goes by unsaid.

    Parameters
    ----------
    folder : Path
    closed : function
        Is told what the system says of a folder that cannot be read.
    followlinks : bool

    Yields
    ------
    where, folders, names : str, list of str, list of str
        What is taken out of `folders` is not gone into.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        where = waiting.pop()
        try:
            with os.scandir(where) as entries:
                found = [(entry.name, _is_folder(entry)) for entry in entries]
        except OSError as error:
            closed(error)
            continue
        folders = [name for name, inside in found if inside]
        yield where, folders, [name for name, inside in found if not inside]
        below = [os.path.join(where, name) for name in folders]  # noqa: PTH118  as os.walk gives them
        waiting += [path for path in reversed(below) if followlinks or not os.path.islink(path)]  # noqa: PTH114


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def refuse_closed(error: OSError) -> None:
    """For `walk`, where what a folder holds may not be missed.

    Raises
    ------
    InputError
    """
    reason = error.strerror or error
    raise InputError(f"{printable(str(error.filename))}: cannot be read ({reason}); check its rights, or move it away")


def sync_tree(folder: Path) -> None:
    """Wait until the disk has all files below a folder, and their names: before one is written that vouches for them.

    Raises
    ------
    OutputError
        The disk is full or has gone.
    """
    with named_if_full(folder):
        for where, _, names in os.walk(folder):
            for name in names:
                try:
                    handle = os.open(Path(where) / name, os.O_RDWR)
                except OSError:  # no file of ours, or removed meanwhile
                    continue
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            sync_folder(Path(where))


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link alone, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: Container[str]) -> None:
    """Remove the temporary files and folders that were being written whole in a folder when their process was killed.

    Parameters
    ----------
    folder : Path
        May be missing.
    names : container of str
        Names of the files that were to be written; nothing else is touched.
    """
    if folder.is_dir():
        for path in folder.glob(".*"):
            if LEFTOVER.fullmatch(path.name) and path.name[1:].rpartition(".")[0] in names:
                remove(path)

"""Files of annotations in a folder, in a zip file, or alone: found by their names, read within bounds."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, refuse_closed, walk
from maskseg.core.limits import TEXT, check_claim, gunzip
from maskseg.imaging.reading import ImageFile, leads_outside, member_path, zip_beginning, zip_members, zip_size

# Bytes in which a file says what it is.
FIRST_BYTES = 8192
# An image that annotations speak of has at most this many pixels, 65,536 x 65,536.
MOST_PIXELS = 1 << 32
# Digits of whole numbers that are read as such.
_LONGEST_INTEGER = 400
# What file managers leave behind, and folders of other programs.
_PASSED_OVER = ("__MACOSX",)


def files_of(source: Path, *endings: str) -> list[ImageFile]:
    """The files below a folder, in a zip file, or one file, that end so; sorted by path.

    Parameters
    ----------
    source : Path
    *endings : str
        In small letters: ``".json"``, ``"_seg.npy"``. A path to one file needs one of them, too.

    Raises
    ------
    InputError
        If a zip file cannot be read.
    """
    if source.is_dir():
        return [ImageFile(path.stem, path) for path in _below(source) if path.name.lower().endswith(endings)]
    if source.suffix.lower() == ".zip" and source.is_file():
        files = []
        for member in sorted(zip_members(source)):
            path = member_path(member)
            wanted = path.name.lower().endswith(endings) and not member.endswith("/") and _is_wanted(path)
            if wanted and not leads_outside(member):
                files.append(ImageFile(path.stem, source, member))
        return files
    if source.name.lower().endswith(endings) and source.is_file():
        return [ImageFile(source.stem, source)]
    return []


def some_files_of(source: Path, *endings: str) -> list[ImageFile]:
    """As `files_of`, where there must be one.

    Raises
    ------
    InputError
        If there is none, or a zip file cannot be read.
    """
    files = files_of(source, *endings)
    if not files:
        raise InputError(f"{source}: no {' or '.join(endings)} file there; check the path")
    return files


def _below(folder: Path) -> list[Path]:
    files = []
    for where, folders, names in walk(folder, refuse_closed):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _PASSED_OVER]
        files += [Path(where) / name for name in names if not name.startswith(".")]
    return sorted(files)


def _is_wanted(path: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part in _PASSED_OVER for part in path.parts)


def inner_path(file: ImageFile, source: Path) -> PurePosixPath:
    """Path of a file below its folder, or in its zip file."""
    if file.member:
        return member_path(file.member)
    return PurePosixPath(file.path.relative_to(source).as_posix() if source.is_dir() else file.path.name)


def content(file: ImageFile, times: int = TEXT) -> bytes:
    """All bytes of a file of annotations, of one in a zip file as far as its size is to be believed.

    Parameters
    ----------
    file : ImageFile
    times : int
        See `maskseg.core.limits`; `IMAGE` for pixels.

    Raises
    ------
    InputError
        If it cannot be read, or has more bytes than that when it is unpacked.
    """
    if file.member:
        size, packed = zip_size(file.path, file.member)
        try:
            check_claim(size, packed, times)
        except InputError as error:
            raise InputError(f"{file.name}: {error}") from error
    return file.bytes()


def first_bytes(file: ImageFile) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        if file.member:
            return zip_beginning(file.path, file.member, FIRST_BYTES)
        check_file(file.path, file.name)
        with file.path.open("rb") as opened:
            return opened.read(FIRST_BYTES)
    except (OSError, InputError):
        return b""


def begins_with(source: Path, pattern: re.Pattern[bytes], *endings: str, least: int = 1) -> bool:
    """Whether the first of the files that end so holds a pattern in its first bytes; never raises."""
    try:
        files = files_of(source, *endings)
    except (InputError, OSError):
        return False
    return len(files) >= least and pattern.search(first_bytes(files[0])) is not None


@contextmanager
def parsing(what: str, remedy: str = "export it again") -> Iterator[None]:
    """Around code that takes a file to be what it should be: what goes wrong there is an InputError of one line.

    Parameters
    ----------
    what : str
        The place in the file; empty where the caller says it.
    remedy : str
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the libraries that decode have errors of their own; all mean the same here
        name = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        reason = " ".join(f"{name}{error}".split())[:120]
        raise InputError(f"{what}{': ' if what else ''}not as it should be ({reason}); {remedy}") from error


def stated_shape(height: object, width: object) -> tuple[int, int] | None:
    """The size of an image as annotations say it, in numbers or texts of numbers; None if no image has that size."""
    tall, wide = whole_number(height), whole_number(width)
    return (tall, wide) if tall and wide and min(tall, wide) > 0 and tall * wide <= MOST_PIXELS else None


def whole_number(value: object) -> int | None:
    """A whole number that a file has as 7, 7.0 or "7"; None if it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def json_of(file: ImageFile, remedy: str = "export it again", kind: str = "JSON") -> Any:
    """The content of a JSON file in a folder or zip file, also of one packed with gzip.

    Raises
    ------
    InputError
        If it cannot be read, or is no JSON.
    """
    data = content(file)
    try:
        if data[:2] == b"\x1f\x8b":
            data = gunzip(data)
        return parsed_json(data.decode("utf-8-sig"))
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from error
    except (ValueError, RecursionError, EOFError, OSError, zlib.error) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{file.name}: not a {kind} file ({reason}); {remedy}") from error


def parsed_json(text: str) -> Any:
    """The content of a JSON text; a whole number that is too long for Python is an infinite one, as a decimal one is.

    So what holds it is left out, and not the file.

    Raises
    ------
    ValueError, RecursionError
        If it is no JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(
            text, parse_int=lambda digits: int(digits) if len(digits) < _LONGEST_INTEGER else float(digits)
        )

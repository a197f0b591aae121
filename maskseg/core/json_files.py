"""JSON files: read with one message for all that can be wrong with them, written whole or not at all."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, write_whole
from maskseg.core.limits import gunzip


def read_json(
    path: str | os.PathLike[str], remedy: str = "export it again", kind: str = "JSON", missing: str = "check the path"
) -> Any:
    """The content of a JSON file (UTF-8, with or without byte order mark), also of one packed with gzip, ``.gz``.

    Parameters
    ----------
    path : path-like
    remedy : str
        End of the message where it is no such file.
    kind : str
        What the message says it should be.
    missing : str
        End of the message where there is no such file.

    Raises
    ------
    InputError
        If it is missing, damaged or no JSON.
    """
    path = Path(path)
    check_file(path, str(path), missing)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {missing}") from error
    try:
        data = gunzip(data) if path.suffix == ".gz" else data
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: not a {kind} file ({_said(error)}); {remedy}") from error
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a {kind} file ({_said(error)}); {remedy}") from error


def write_json(path: str | os.PathLike[str], content: Any, **options: Any) -> None:
    """Write a JSON file, whole or not at all.

    Parameters
    ----------
    path : path-like
    content : object
    **options
        Of `json.dumps`: ``indent``, ``sort_keys``.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    with write_whole(path, "w", encoding="utf-8") as file:
        # `dumps` runs in C where `dump` goes piece by piece: four times as fast.
        file.write(json.dumps(content, **options))


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__

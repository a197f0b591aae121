"""The models that a user keeps: single files in one folder, known by name, each with its checksum.

Nothing is fetched but by `add` with an address; all else works without a network. A file is a ``.safetensors`` made by
`maskseg.models.zoo.export`, so nothing that is loaded can run code. ``sha256sums.txt`` beside them has the form of the
program sha256sum, which checks it too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from maskseg.core.errors import InputError
from maskseg.core.files import named_if_full, write_whole
from maskseg.models.downloads import downloaded, is_address

SUMS = "sha256sums.txt"
_ENDING = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def folder() -> Path:
    """Where they are: ``$MASKSEG_MODELS``, or ``maskseg/models`` in ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    named = os.environ.get("MASKSEG_MODELS")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(named) if named else data / "maskseg" / "models"


def added() -> dict[str, Path]:
    """The user's models by name; a file that was put there by other means is none."""
    return {name: folder() / f"{name}{_ENDING}" for name in sorted(_sums())}


def checked(name: str) -> Path:
    """The file of a user's model, which is the one that was added.

    Raises
    ------
    InputError
        It is missing, or is another one by now.
    """
    path, digits = added()[name], _sums()[name]
    if not path.is_file():
        raise InputError(f"{path}: is missing; add the model again, or: maskseg models remove {name}")
    if _digest(path) != digits:
        raise InputError(f"{path}: is not the file that was added; add the model again under another name")
    return path


def add(
    source: str,
    check: Callable[[Path], object],
    name: str | None = None,
    sha256: str | None = None,
    taken: tuple[str, ...] = (),
) -> str:
    """Keep a model; `maskseg.models.zoo.add` is what commands call.

    Parameters
    ----------
    source : str
        A ``.safetensors`` file that `maskseg.models.zoo.export` made, or its address.
    check : function
        Raises an InputError if a file is no such model.
    name : str, optional
        What it is to be called; the name of the file where not given.
    sha256 : str, optional
        What its checksum must be.
    taken : tuple of str
        Names that other models have.

    Returns
    -------
    str
        The name.

    Raises
    ------
    InputError
        It is no such model, or the name is taken.
    """
    if Path(source).is_dir() or not source.lower().partition("?")[0].endswith(_ENDING):
        raise InputError(
            f"{source}: only .safetensors files are added; make one with: maskseg models export MODEL -o FILE"
        )
    name = name or Path(source.partition("?")[0]).name.removesuffix(_ENDING)
    if not _NAME.fullmatch(name):
        raise InputError(f"{name[:80]}: no name for a model; give one of letters, digits, . _ and - with --name")
    path = downloaded(source) if is_address(source) else Path(source)
    if not path.is_file():
        raise InputError(f"{source}: no such file; check the path")
    digits = _digest(path)
    if sha256 and digits != sha256.lower():
        raise InputError(f"{source}: its SHA-256 is {digits}, not {sha256}; get it again from where it was published")
    known = _sums()
    if name in taken or (name in known and known[name] != digits):
        raise InputError(f"there is a model {name} already; choose another name with --name")
    check(path)
    target = folder() / f"{name}{_ENDING}"
    with named_if_full(target), write_whole(target) as file, path.open("rb") as read:
        shutil.copyfileobj(read, file)
    _write_sums({**known, name: digits})
    return name


def remove(name: str) -> None:
    """Forget a model, and delete its file.

    Raises
    ------
    InputError
        There is none of that name.
    """
    known = _sums()
    if name not in known:
        raise InputError(f"{name}: no such model in {folder()}; there are: {', '.join(sorted(known)) or 'none'}")
    path = added()[name]
    _write_sums({key: digits for key, digits in known.items() if key != name})
    path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums() -> dict[str, str]:
    """Checksums by name of model."""
    path = folder() / SUMS
    if not path.is_file():
        return {}
    pattern = re.compile(rf"([0-9a-f]{{64}}) [ *]({_NAME.pattern}){re.escape(_ENDING)}")
    lines = map(pattern.fullmatch, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {line[2]: line[1] for line in lines if line}


def _write_sums(sums: dict[str, str]) -> None:
    with write_whole(folder() / SUMS, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{digits}  {name}{_ENDING}\n" for name, digits in sorted(sums.items()))

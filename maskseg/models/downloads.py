"""Weights from a network, asked for by the user or by a config of maskseg's own; kept under names of our own."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole

# What the configs of maskseg name, with the MD5 under which it was published.
PUBLISHED = {"detectron2://ImageNetPretrained/MSRA/R-50.pkl": "6652b4a9c782d82bb3d42118be74d79b"}
_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
_SUFFIXES = (".pth", ".pkl", ".npz", ".safetensors")
# PyTorch's custom, and others': the name ends with the first digits of the SHA-256. Without a letter it may be a date.
_NAMED = re.compile(r"-(?=[0-9]*[a-f])([0-9a-f]{8,64})\.\w+$")
_LARGEST, _PIECE, _SECONDS = 8 << 30, 1 << 20, 60


def is_address(name: str) -> bool:
    """Whether it is an address, such as ``https://...`` or ``detectron2://...``, and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", name) is not None or name.startswith(("//", "\\\\"))


def cache_folder() -> Path:
    """Where downloads are kept: ``$MASKSEG_CACHE``, or ``maskseg`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get("MASKSEG_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskseg"


def cached_file(address: str) -> Path:
    """The file of an address in the cache; nothing of the address but its ending is in the name.

    Raises
    ------
    InputError
        If it is not the address of a weight file by http, https or from Detectron2's model zoo.
    """
    suffix = Path(urlsplit(address).path).suffix.lower()
    if not address.startswith(("http://", "https://", "detectron2://")) or suffix not in _SUFFIXES:
        raise InputError(
            f"{address[:200]}: no address of weights; give https://... or detectron2://..., ending with "
            f"{' or '.join(_SUFFIXES)}"
        )
    return cache_folder() / "weights" / f"{hashlib.sha256(address.encode()).hexdigest()}{suffix}"


def downloaded(address: str) -> Path:
    """The weight file of an address, from the cache or the network.

    Where a checksum is known, the file has it, whoever put it into the cache.

    Raises
    ------
    InputError
        If it cannot be had, or is not what was published.
    """
    path = cached_file(address)
    if path.is_file() and _is_published(address, path):
        return path
    url = _ZOO + address.removeprefix("detectron2://") if address.startswith("detectron2://") else address
    try:
        with _opener().open(url, timeout=_SECONDS) as answer, write_whole(path) as file:
            length, (kind, digits) = 0, _published(address)
            digest = hashlib.new(kind, usedforsecurity=False)
            while piece := answer.read(_PIECE):
                length += len(piece)
                if length > _LARGEST:
                    raise InputError(f"{address[:200]}: over {_LARGEST >> 30} GB, so no weights; check the address")
                file.write(piece)
                digest.update(piece)
            if not digest.hexdigest().startswith(digits):
                raise InputError(f"{address[:200]}: not the file that was published; get it elsewhere")
    except InputError:
        raise
    except (OSError, ValueError, URLError) as error:
        raise InputError(
            f"{address[:200]}: cannot be had ({' '.join(str(error).split())[:80]}); "
            "set MODEL.WEIGHTS to a file that is here"
        ) from error
    return path


def _published(address: str) -> tuple[str, str]:
    """Kind of the checksum that is known for an address and its first digits; none where none is known."""
    if address in PUBLISHED:
        return "md5", PUBLISHED[address]
    named = _NAMED.search(urlsplit(address).path)
    return "sha256", named[1] if named else ""


def _is_published(address: str, path: Path) -> bool:
    kind, digits = _published(address)
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest().startswith(digits)


class _SameKind(urllib.request.HTTPRedirectHandler):
    """Follows an answer to another address of the web, never from a safe one to an open one."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("https://", "http://")) or (req.type == "https" and newurl.startswith("http://")):
            raise URLError(f"it leads on to {newurl[:80]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https; Python's own would also open files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SameKind(),
    ):
        opener.add_handler(handler)
    return opener

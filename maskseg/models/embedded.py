"""The config inside of a model that is one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskseg.core.errors import InputError
from maskseg.models.config import default_config

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Of the one-file form; raised when an older maskseg could no longer read it rightly.
FORMAT = "maskseg-1"


def embedded_config(path: Path, overrides: list[str] | None) -> CfgNode:
    """The config that a file of `export` carries.

    Raises
    ------
    InputError
        It is none, or of a form that this version does not know.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: not a safetensors file ({' '.join(str(error).split())[:80]}); get it again"
        ) from error
    if metadata.get("format") != FORMAT or "config" not in metadata:
        raise InputError(
            f"{path}: a model of format {metadata.get('format', 'unknown')!r}, not {FORMAT!r}; "
            "export it again or upgrade maskseg"
        )
    if "sha256" not in metadata:
        raise InputError(f"{path}: it carries no checksum; export it again")
    return default_config(metadata["config"], overrides, path)

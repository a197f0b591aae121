"""Find every nucleus in a microscope image and draw its exact outline.

Examples
--------
>>> from maskseg import load_model, read_image
>>> image = read_image("nuclei.png")  # doctest: +SKIP
>>> masks = load_model().segment(image)  # doctest: +SKIP
>>> labels = masks.to_labels()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskseg.core.masks import CropMasks
    from maskseg.imaging.reading import read_image
    from maskseg.inference.api import load_model

__version__ = "0.1.0"
__all__ = ["CropMasks", "load_model", "read_image"]

# Imported when they are asked for: the command line starts at once, and masks and images need no torch.
_MODULES = {
    "CropMasks": "maskseg.core.masks",
    "load_model": "maskseg.inference.api",
    "read_image": "maskseg.imaging.reading",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*globals(), *__all__])

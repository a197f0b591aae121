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
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskseg.core.threads import wait_without_work
from maskseg.models.quick_start import leave_out_compiler

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


def _offer_detectron2() -> None:
    """Put the Detectron2 that maskseg carries at the end of the path where no other can be imported.

    On the path rather than by a finder, so that the processes that multiprocessing starts have it too, whatever they
    import first.
    """
    if "detectron2" in sys.modules:
        return
    other = find_spec("detectron2")
    # A folder without __init__.py, such as one that a clone of Detectron2 is in, has no origin and is no Detectron2.
    if other is None or other.origin is None:
        vendor = str(Path(__file__).parent / "_vendor")
        if vendor not in sys.path:
            sys.path.append(vendor)


_offer_detectron2()
leave_out_compiler()
wait_without_work()


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*globals(), *__all__])

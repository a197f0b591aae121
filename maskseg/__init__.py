"""Find every nucleus in a microscope image and draw its exact outline."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__version__ = "0.1.0"
__all__ = ["load_model"]


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


def __getattr__(name: str) -> Any:
    """Import `load_model` when it is asked for: the masks, the data and the metrics need no torch."""
    if name == "load_model":
        from maskseg.inference.predictor import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

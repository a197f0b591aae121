"""Find every nucleus in a microscope image and draw its exact outline."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    """Import `load_model` when it is asked for: the masks, the data and the metrics need no torch."""
    if name == "load_model":
        from maskseg.inference.predictor import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The settings of post-processing as a type: made once from a config, passed to pure functions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from detectron2.config import CfgNode

Fragments = Literal["drop", "keep_largest"]


@dataclass(frozen=True)
class PostprocessSettings:
    """What is done to the masks that a network finds: the POSTPROCESS keys of a config, in lower case.

    `maskseg.models.config` says what each of them means; the defaults are those of the published method.

    Attributes
    ----------
    mask_threshold : float
    tta : {"none", "flip", "d4"}
    tta_merge : {"auto", "union", "average"}
    tta_min_iou : float
    diameter : float
        Image pixels; 0 where it is not known.
    diameter_microns : float
        Micrometres, which `maskseg.inference.rescale.at_pixel_size` makes the diameter of; 0 where it is not given.
    rescale : (float, float) or None
        Limits, in diameters trained on, of what is left at its scale; None: everything is.
    retry_canvas : float
    fill_holes, close : bool
    fragments : {"drop", "keep_largest"}
    min_area : int
        Pixels.
    instances : {"components", "watershed", "largest"}
    neck : float

    Examples
    --------
    >>> from dataclasses import replace
    >>> replace(PostprocessSettings(), tta="d4", min_area=24).min_area
    24
    """

    mask_threshold: float = 0.35
    tta: Literal["none", "flip", "d4"] = "flip"
    tta_merge: Literal["auto", "union", "average"] = "auto"
    tta_min_iou: float = 0.1
    diameter: float = 0.0
    diameter_microns: float = 0.0
    rescale: tuple[float, float] | None = None
    retry_canvas: float = 4
    fill_holes: bool = True
    close: bool = True
    fragments: Fragments = "drop"
    min_area: int = 10
    instances: Literal["components", "watershed", "largest"] = "watershed"
    neck: float = 0.9

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PostprocessSettings:
        """The POSTPROCESS section of a config."""
        values = {field.name: cfg.POSTPROCESS[field.name.upper()] for field in fields(cls)}
        values["rescale"] = tuple(values["rescale"]) or None
        return cls(**values)

"""What every model can do once it is loaded, and which options of ``maskseg predict`` it can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.classes import NUCLEUS

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Options of `maskseg predict` that some models cannot follow; every model follows the others.
OPTIONS = (
    "tta",
    "diameter",
    "normalize",
    "microns-per-pixel",
    "tile",
    "tile-overlap",
    "level",
    "mpp",
    "expand",
    "texture",
    "cluster",
)


class Predictor(Protocol):
    """A model with its config.

    `maskseg.inference.mask_rcnn.MaskRCNNPredictor` is the one of nuclei; a task names its own (`maskseg.models.tasks`).
    One that subclasses this protocol needs `title`, `cfg` and `model`, and `segment` where it gives masks.

    Attributes
    ----------
    title : str
        What kind of model it is, for messages: ``Mask R-CNN``.
    options : frozenset of str
        Those of `OPTIONS` that it can follow; the others are refused.
    formats : tuple of str or None
        Those of ``--formats`` that it can write; None: all.
    cfg : CfgNode
    model : torch.nn.Module
    class_names : tuple of str
        What the classes of its masks are called.
    """

    title: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    formats: ClassVar[tuple[str, ...] | None] = None
    cfg: CfgNode
    # A module of torch; what it has beyond that is a matter of its own predictor.
    model: Any

    def at_pixel_size(self, microns_per_pixel: float | None, name: str = "image") -> Self:
        """The same model for an image whose pixels have a size: itself, unless it makes something of that.

        Parameters
        ----------
        microns_per_pixel : float or None
            Side of a pixel; None where that is not known.
        name : str
            Of the image, for messages.

        Raises
        ------
        InputError
            The model has to know it.
        """
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """MODEL.CLASS_NAMES of the config, nucleus where it names none."""
        return tuple(getattr(self.cfg.MODEL, "CLASS_NAMES", ())) or (NUCLEUS,)

    def segment(self, image: NDArray[np.uint8], tta: str | None = None) -> CropMasks:
        """The instances of one image.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
            RGB, as `maskseg.read_image` gives it; where INPUT.NORMALIZE has fixed limits, (H, W, 1 or 3) of any kind.
        tta : {"none", "flip", "d4"}, optional
            Views whose masks are merged: the image alone, its mirror image too, or all eight symmetries of the square;
            the config's ``POSTPROCESS.TTA`` where not given.

        Returns
        -------
        CropMasks
            By falling score, without overlap.

        Raises
        ------
        InputError
            If there are no views of that name, or the model gives no masks.
        """
        raise InputError(f"a {self.title} gives no masks; use it with: maskseg predict")

    def segment_batch(self, images: Sequence[NDArray[np.uint8]], tta: str | None = None) -> list[CropMasks]:
        """`segment` for several images, of any sizes, which share the network where the model can do that.

        Parameters
        ----------
        images : sequence of uint8 arrays (H, W, 3)
        tta : str, optional
            See `segment`.

        Returns
        -------
        list of CropMasks
            What `segment` gives for each.
        """
        return [self.segment(image, tta) for image in images]


def refuse_options(predictor: type[Predictor] | Predictor, given: Mapping[str, object], model: str = "") -> None:
    """Refuse what a model cannot follow, in place of ignoring it.

    Parameters
    ----------
    predictor : Predictor or its class
    given : dict
        The options that the user gave, by their names in `OPTIONS`; None where not.
    model : str, optional
        What the user calls the model.

    Raises
    ------
    InputError
        Naming the first option and the model.
    """
    for name, value in given.items():
        # One view is what a model without views has.
        if value is not None and name not in predictor.options and (name, value) != ("tta", "none"):
            raise InputError(f"--{name} {value}: {_kind(predictor, model)} cannot follow it; leave it out")


def refuse_formats(predictor: type[Predictor] | Predictor, formats: Sequence[str], model: str = "") -> None:
    """Refuse formats that a model cannot write; see `refuse_options`."""
    can = predictor.formats
    if can is not None and (others := [name for name in formats if name not in can]):
        raise InputError(
            f"--formats {','.join(others)}: {_kind(predictor, model)} writes {', '.join(can)} only; leave it out"
        )


def _kind(predictor: type[Predictor] | Predictor, model: str) -> str:
    return f"the model {model}, a {predictor.title}," if model else f"a {predictor.title}"

"""Models by name, ready to segment images: what ``from maskseg import load_model`` gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.modeling import build_model
from torch.overrides import TorchFunctionMode

from maskseg.core.errors import InputError
from maskseg.inference.predictor import Predictor
from maskseg.models import tasks
from maskseg.models.checkpoint import model_weights
from maskseg.models.config import to_device
from maskseg.models.zoo import find_model

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def load_model(name: str | Path = "nuclei", overrides: list[str] | None = None) -> Predictor:
    """A model ready to segment images.

    Parameters
    ----------
    name : str or path
        A bundled model's name, a training folder or a weight file; see `maskseg.models.zoo.find_model`.
    overrides : list of str, optional
        KEY VALUE pairs over the model's own config.

    Returns
    -------
    Predictor
        That of the model's task: `Predictor.segment` gives the nuclei of an image, whole or in tiles, as
        ``maskseg predict`` finds them.

    Raises
    ------
    InputError
        If there is no such model, it is not complete, or a key or value does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from maskseg import load_model
    >>> rows, columns = np.mgrid[:64, :64]
    >>> disk = np.hypot(rows - 32, columns - 32) < 12  # a bright nucleus on black
    >>> image = np.where(disk, 200, 10).astype(np.uint8)[..., None].repeat(3, axis=2)
    >>> masks = load_model("nuclei", ["MODEL.DEVICE", "cpu"]).segment(image, tta="none")
    >>> masks.shape, len(masks)
    ((64, 64), 1)
    """
    model = find_model(name, overrides)
    return build_predictor(model.cfg, model.weights)


class _Unset(TorchFunctionMode):
    """Draws no random weights for a network: those of a file take their place, all of them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See torch; a function of ``torch.nn.init`` gives its tensor as it is."""
        kwargs = kwargs or {}
        if func in (torch.Tensor.uniform_, torch.Tensor.normal_) or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_predictor(cfg: CfgNode, weights: str | Path) -> Predictor:
    """Build the network of a config and load its weights, all of them; the predictor of the config's task.

    Raises
    ------
    InputError
        If weights and config do not belong together.
    """
    cfg = cfg.clone()
    cfg.defrost()
    to_device(cfg)
    make = tasks.part(cfg, "predictor")
    try:
        with _Unset():
            model = build_model(cfg).to(memory_format=torch.channels_last)
    except Exception as error:  # each part of a network has errors of its own; all mean the same here
        raise InputError(
            f"{weights}: its config describes no network that can be built ({' '.join(str(error).split())[:160]})"
        ) from error
    try:
        model.load_state_dict(model_weights(weights))
    except RuntimeError as error:
        raise InputError(f"{weights}: not the weights of this config ({' '.join(str(error).split())[:160]})") from error
    return make(cfg, model.eval())

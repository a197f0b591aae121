"""A moving average of the weights, which scores higher and steadier than the weights themselves."""

from __future__ import annotations

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage(HookBase):
    """Exponential moving average of a model's weights, over about ``1 / (1 - decay)`` iterations.

    Early in a training it averages over a tenth of the iterations so far, so that the random start is soon forgotten.

    Parameters
    ----------
    model : torch.nn.Module
        The model that is trained; buffers are taken over as they are.
    decay : float
        In (0, 1).

    Attributes
    ----------
    model : torch.nn.Module
        The averaged model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def update(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            n = int(count)
            torch._foreach_lerp_(average, current, 1 - min(decay, (1 + n) / (10 + n)))

        self._average = AveragedModel(model, multi_avg_fn=update)
        self.model = self._average.module

    @torch.no_grad()
    def after_step(self) -> None:
        """Take in the new weights."""
        self._average.update_parameters(self.trainer.plain_model)

    def restart(self, model: nn.Module) -> None:
        """Take over the weights that a training starts from."""
        self.model.load_state_dict(model.state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, with their names in the model, and the number of steps taken in."""
        return {**self.model.state_dict(), "steps": self._average.n_averaged}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the average of a resumed training."""
        self._average.n_averaged.copy_(state["steps"])
        self.model.load_state_dict({key: value for key, value in state.items() if key != "steps"})

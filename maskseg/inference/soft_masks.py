"""What Mask R-CNN says of one canvas."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Network pixels between two cells of the coarsest level: shifts by multiples of it shift all features alike.
STRIDE = 32


@dataclass(frozen=True)
class SoftMasks:
    """What the network found in one image, nothing pasted.

    Attributes
    ----------
    boxes : float32 array (N, 4)
        x0, y0, x1, y1 in image pixels.
    scores : float32 array (N,)
    masks : float32 array (N, M, M)
        Probability of each cell of the box.
    classes : int32 array (N,)
        As in `maskseg.core.masks.CropMasks`; all 0 where not given.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: NDArray[np.float32]
    classes: NDArray[np.int32] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.classes is None:
            object.__setattr__(self, "classes", np.zeros(len(self.scores), np.int32))

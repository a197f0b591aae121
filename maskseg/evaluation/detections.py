"""What the network finds in each view of an image, kept on disk before any threshold is applied.

A search over the settings of prediction then runs the network once: a higher score threshold is a choice among the
kept boxes (greedy suppression never looks at lower scores), and for each box suppression threshold of a list it is
kept which boxes survive it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.inference.api import build_predictor
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.inference.soft_masks import SoftMasks
from maskseg.inference.tta import View
from maskseg.models.zoo import Model


@dataclass(frozen=True)
class Detections:
    """The boxes of one view that survive at least one suppression threshold, by falling score.

    Attributes
    ----------
    boxes : float32 array (N, 4)
        x0, y0, x1, y1 in pixels of the view.
    scores : float32 array (N,)
    masks : uint8 array (N, M, M)
        Probabilities times 255: within 0.002, a fraction of a pixel at the outline of a nucleus.
    survives : bool array (N, T)
        Whether the box survives each of the T suppression thresholds.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: NDArray[np.uint8]
    survives: NDArray[np.bool_]

    def select(self, score: float, suppression: int, limit: int = -1) -> SoftMasks:
        """What an ordinary prediction has at a score threshold and the suppression threshold of that index.

        `limit` is TEST.DETECTIONS_PER_IMAGE, negative for none.
        """
        # Detectron2 keeps scores above the threshold, strictly, compared in float32.
        chosen = np.flatnonzero(self.survives[:, suppression] & (self.scores > np.float32(score)))
        if limit >= 0:
            chosen = chosen[:limit]
        return SoftMasks(
            self.boxes[chosen], self.scores[chosen], self.masks[chosen].astype(np.float32) / np.float32(255)
        )


class DetectionCache:
    """Detections by image and view: from the disk where they are, else by the network.

    Parameters
    ----------
    model : Model
    folder : Path
        Gets one folder for each model and choice of thresholds, named by their checksum; may hold several.
    floor : float
        Score threshold.
    suppressions : sequence of float
        Box IoU thresholds.
    """

    def __init__(self, model: Model, folder: Path, floor: float, suppressions: Sequence[float]) -> None:
        cfg = model.cfg.clone()
        if cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
            raise InputError(
                f"{model.weights}: no Mask R-CNN, whose keys are tuned; try those of a "
                f"{cfg.MODEL.META_ARCHITECTURE} by maskseg train --eval-only KEY VALUE"
            )
        cfg.defrost()
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = floor
        cfg.TEST.DETECTIONS_PER_IMAGE = -1
        self.suppressions = tuple(suppressions)
        self._cfg, self._weights = cfg, model.weights
        self._predictor: MaskRCNNPredictor | None = None
        key = hashlib.sha256(model.weights.read_bytes())
        key.update(f"{cfg.MODEL.dump()}{cfg.INPUT.dump()}{self.suppressions}".encode())
        self.folder = folder / key.hexdigest()[:16]

    def get(self, name: str, image: NDArray[np.uint8], view: View, magnify: float) -> Detections:
        """Detections of a view of an image at a magnification.

        Parameters
        ----------
        name : str
            Image id.
        image : uint8 array (H, W, 3)
            RGB, stretched if the config says so.
        view : View
        magnify : float
            See `MaskRCNNPredictor.detect`.
        """
        content = hashlib.sha256(image.tobytes()).hexdigest()[:12]
        path = self.folder / f"{name}-{content}-{view.name}-{magnify:g}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Detections(**{field.name: arrays[field.name] for field in fields(Detections)})
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a readable cache file ({error}); delete it") from error
        detections = self._detect(np.ascontiguousarray(view.apply(image)), magnify)
        with write_whole(path, sync=False) as file:
            np.savez_compressed(file, **{field.name: getattr(detections, field.name) for field in fields(detections)})
        return detections

    def _detect(self, image: NDArray[np.uint8], magnify: float) -> Detections:
        if self._predictor is None:
            predictor = build_predictor(self._cfg, self._weights)
            assert isinstance(predictor, MaskRCNNPredictor), "as its config says"
            self._predictor = predictor
        heads: Any = self._predictor.model.roi_heads
        heads = heads.box_predictor
        with _each_suppression(heads, self.suppressions) as survives:
            soft = self._predictor.detect(image, magnify)
        masks = np.rint(soft.masks * 255).astype(np.uint8)
        return Detections(soft.boxes, soft.scores, masks, survives[-1])


@contextmanager
def _each_suppression(heads: Any, thresholds: Sequence[float]) -> Iterator[list[NDArray[np.bool_]]]:
    """Let the box head give the boxes that any of the thresholds leaves; yields what survives which, a call each."""
    plain, own, record = heads.inference, heads.test_nms_thresh, []

    def inference(predictions: Any, proposals: list[Instances]) -> tuple[list[Instances], list[torch.Tensor]]:
        (proposal,) = proposals
        of_thresholds = []
        for threshold in thresholds:
            heads.test_nms_thresh = threshold
            (instances,), (index,) = plain(predictions, [proposal])
            of_thresholds.append((instances, index))
        everything = Instances.cat([instances for instances, _ in of_thresholds])
        index = torch.cat([index for _, index in of_thresholds])
        distinct, which = torch.unique(index, return_inverse=True)
        survives = torch.zeros(len(distinct), len(thresholds), dtype=torch.bool, device=index.device)
        first = torch.zeros(len(distinct), dtype=torch.long, device=index.device)
        at = 0
        for column, (_, some) in enumerate(of_thresholds):
            mine = which[at : at + len(some)]
            survives[mine, column] = True
            first[mine] = torch.arange(at, at + len(some), device=index.device)
            at += len(some)
        order = torch.argsort(everything.scores[first], descending=True, stable=True)
        record.append(survives[order].cpu().numpy())
        return [everything[first[order]]], [distinct[order]]

    heads.inference = inference
    try:
        yield record
    finally:
        heads.inference, heads.test_nms_thresh = plain, own

#!/usr/bin/env python3
"""What `segment` takes beyond backbone and FPN on dense tissue, beside the way that it went before.

    python benchmarks/predict.py --dense [--data DIR:PART] [--tissue ZIP] [--model NAME] [--threads N] [--repeats N]

The images of 1000 x 1000 pixels hold 450 to 700 nuclei: the densest images of a data set laid side by side at about the
size at which the network sees them, stained ones and, apart, those white on black; and the images of a zip as
they are. One view. "Before" are torchvision's ROIAlign, suppression in each level of the pyramid at the IoU of the
training, all proposals through the box head, 256 masks at once, and oneDNN's convolutions with norms of their own: the
code as it was, around the same weights. The ratio is that of `segment` to its own backbone and FPN and, in brackets, to
those of "before".
Processor seconds, turn by turn, medians of the repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import numpy as np
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from machine import machine
from numpy.typing import NDArray

from maskseg.imaging.reading import read_image
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.models import convolutions, precision
from maskseg.models.suppression import overlapped

SIDE = 1000
# A piece of the mosaic is this wide and at most so high: a little less than the size at which the network sees it.
WIDE, HIGH = 430, 344


def mosaic(records: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """The densest images side by side, uint8 (SIDE, SIDE, 3)."""
    densest = iter(sorted(records, key=lambda record: -len(record["annotations"]) / record["height"] / record["width"]))
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    for top in range(0, SIDE, HIGH):
        for left in range(0, SIDE, WIDE):
            pixels = read_image(next(densest)["file_name"])
            place = canvas[top : top + HIGH, left : left + WIDE]
            scale = WIDE / pixels.shape[1]
            piece = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            piece = piece[: place.shape[0], : place.shape[1]]
            place[: len(piece)] = piece
    return canvas


def stock_convolutions() -> Any:
    """A context in which convolutions are computed as Detectron2 has them."""
    return patch.object(convolutions._Quick, "_predicts", lambda convolution, x: False)


@contextmanager
def before(model: Any) -> Iterator[None]:
    """Proposals and heads as they were."""
    generator, heads = model.proposal_generator, model.roi_heads

    def propose(anchors: Any, logits: Any, deltas: Any, sizes: Any) -> Any:
        decoded = generator._decode_proposals(anchors, deltas)
        every = sum(level.shape[1] for level in logits)
        sure = min(max(int((level >= generator.sure_logit).sum()) for level in logits), every // 8)
        most = max(sure, generator.pre_nms_topk[False])
        rules = (generator.nms_thresh, most, every, generator.min_box_size, False)
        (found,) = find_top_rpn_proposals(decoded, logits, sizes, *rules)
        certain = int((found.objectness_logits >= generator.sure_logit).sum())
        return [found[: max(generator.post_nms_topk[False], certain)]]

    with (
        patch.object(generator, "predict_proposals", propose),
        patch.object(heads.box_pooler, "forward", _stock_once(heads.box_pooler)),
        patch.object(heads.mask_pooler, "forward", _stock_once(heads.mask_pooler)),
        patch.object(precision, "_MASKS", 256),
        patch.object(precision, "_ROUND", 1 << 40),
        stock_convolutions(),
    ):
        yield


def _stock_once(pooler: Any) -> Any:
    """torchvision's ROIAlign of features whose layout is changed once for each image, as it was."""
    last: dict[str, Any] = {}

    def forward(levels: list[torch.Tensor], boxes: Any) -> torch.Tensor:
        key = levels[0].data_ptr()
        if last.get("key") != key:
            last.update(key=key, levels=[level.contiguous() for level in levels], keep=levels)
        return ROIPooler.forward(pooler, last["levels"], boxes)

    return forward


def _timed(predictor: MaskRCNNPredictor, image: NDArray[np.uint8]) -> tuple[float, float, int, Any]:
    """Processor seconds of backbone and FPN and of `segment`; rows through the box head, and the nuclei."""
    from predict import seconds

    backbone, head = predictor.model.backbone, predictor.model.roi_heads.box_head
    took: Counter[str] = Counter()
    plain, plain_head = backbone.forward, head.forward

    def features(x: torch.Tensor) -> Any:
        result: list[Any] = []
        took["backbone"] += seconds(lambda: result.append(plain(x)))[0]
        return result[0]

    def rows(x: torch.Tensor) -> Any:
        took["rows"] += len(x)
        return plain_head(x)

    found: list[Any] = []
    with patch.object(backbone, "forward", features), patch.object(head, "forward", rows):
        whole, _ = seconds(lambda: found.append(predictor.segment(image, "none")))
    return took["backbone"], whole, int(took["rows"]), found[0]


def rows(predictor: MaskRCNNPredictor, images: dict[str, NDArray[np.uint8]], repeats: int) -> None:
    """Print the table."""
    where = machine()
    print(f"{'':26s}{'':>7s}{'nuclei':>8s}{'box head':>9s}{'backbone, FPN':>14s}{'segment':>9s}{'ratio':>15s}  machine")
    for name, image in images.items():
        nuclei = {}
        times: dict[str, list[Any]] = {"before": [], "now": []}
        for _ in range(repeats):
            with before(predictor.model):
                times["before"].append(_timed(predictor, image))
            times["now"].append(_timed(predictor, image))
        stock = median(one[0] for one in times["before"])
        for way, measured in times.items():
            backbone, whole, count = (median(values) for values in list(zip(*measured, strict=True))[:3])
            nuclei[way] = measured[-1][3]
            print(
                f"{name:26s}{way:>7s}{len(nuclei[way]):8d}{count:9.0f}{backbone:14.3f}{whole:9.3f}"
                f"{whole / backbone:7.2f} ({whole / stock:5.2f})  {where}",
                flush=True,
            )
        boxes = [torch.from_numpy(nuclei[way].boxes.astype(np.float32)) for way in ("before", "now")]
        lost = int((~overlapped(boxes[0], boxes[1], 0.5)).sum())
        more = int((~overlapped(boxes[1], boxes[0], 0.5)).sum())
        print(f"{'':26s}{lost} found before only, {more} found now only (box IoU 0.5)", flush=True)


def images_of(data: str, archive: str | None) -> dict[str, NDArray[np.uint8]]:
    """The images by name: mosaics of the data set, if it is there, and the images of the zip."""
    from maskseg.data.dataset import folder_and_part
    from maskseg.training.trainer import load_records

    images: dict[str, NDArray[np.uint8]] = {}
    if Path(folder_and_part(data)[0]).exists():
        records = load_records((data,))
        for kind, chosen in (("stained", "purple"), ("fluorescence", "white on black")):
            images[f"{kind}, mosaic"] = mosaic([record for record in records if chosen in str(record["modality"])])
    if archive:
        from tiles import tissue

        images |= {f"tissue {number}": pixels for number, pixels in enumerate(tissue(Path(archive)), start=1)}
    return images

"""What views, their merging and the rescaling are worth: the score on a data set under each, the network run once.

    python benchmarks/views.py [--data data/dsb2018:dev] [--model nuclei] [--cache DIR] [--scales 0.5,1,2,3]

First the images as they are, by views and merge rule, each beside the union with the mirror image. Then the images
(and their true nuclei) resampled, as from other microscopes, each as it comes and rescaled by the rules of
nuclei_R_18_FPN, one view; resampled images of more than 4 megapixels are left out. Scores are the mean IoU (DSB score);
differences have a 95 % interval by paired bootstrap over the images. Detections are kept in the cache folder, if one
is given, and used again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import numpy as np
from detectron2.config import CfgNode
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.masks import SoftCrops
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation.bootstrap import mean_interval
from maskseg.evaluation.detections import DetectionCache
from maskseg.evaluation.dsb import image_scores
from maskseg.imaging.exposure import normalized
from maskseg.imaging.scaling import input_scale
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.tile_grid import LARGE
from maskseg.inference.tta import VIEWS, View, assemble
from maskseg.models.config import load_config
from maskseg.models.zoo import find_model

Image, Labels = NDArray[np.uint8], NDArray[np.int32]
RECIPE = load_config("nuclei_R_18_FPN")
RESCALE = PostprocessSettings.from_config(RECIPE).rescale


def resampled(image: Image, truth: Labels, scale: float) -> tuple[Image, Labels]:
    """An image and its true nuclei as another magnification would show them."""
    if scale == 1:
        return image, truth
    height, width = truth.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC),
        cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST),
    )


class Scorer:
    """Scores of images under any rules of merging and rescaling; each view is detected once."""

    def __init__(self, cfg: CfgNode, cache: DetectionCache) -> None:
        self.cfg, self.cache = cfg, cache

    def look(self, name: str, image: Image) -> Callable[[View, float], SoftCrops]:
        """The function that `assemble` asks for views."""

        def look(view: View, magnify: float) -> SoftCrops:
            soft = self.cache.get(name, image, view, magnify).select(self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, 0)
            return view.undo_crops(SoftCrops.paste(soft.masks, soft.boxes, view.shape(image.shape[:2]), soft.scores))

        return look

    def score(self, name: str, image: Image, truth: Labels, tta: str, **changes: Any) -> float:
        """The score of one image, with some settings of the post-processing changed."""
        changed = replace(PostprocessSettings.from_config(self.cfg), **changes)
        inputs = self.cfg.INPUT
        expected = RECIPE.INPUT.NUCLEUS_DIAMETER / input_scale(truth.shape, inputs.LONG_SIDE, inputs.SHRINK)
        seen = normalized(image, inputs.NORMALIZE, inputs.STAINED)
        masks = assemble(self.look(name, seen), changed, VIEWS[tta], expected)
        return float(image_scores(truth, masks.to_labels())["dsb_score"])


def line(name: str, scores: list[float], beside: list[float]) -> str:
    """A row of a table."""
    gains = np.array(scores) - np.array(beside)
    low, high = mean_interval(gains)
    return f"{name:34s} {np.mean(scores):8.4f} {gains.mean():+9.4f}  {low:+.4f} to {high:+.4f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/dsb2018:dev")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--scales", default="0.5,1,2,3")
    options = parser.parse_args()
    model = find_model(options.model)
    heads, plain = model.cfg.MODEL.ROI_HEADS, {"rescale": None}
    with tempfile.TemporaryDirectory() as folder:
        cache = DetectionCache(model, options.cache or Path(folder), heads.SCORE_THRESH_TEST, (heads.NMS_THRESH_TEST,))
        scorer = Scorer(model.cfg, cache)
        records = dataset_dicts(options.data)

        merged: dict[str, list[float]] = {}
        for record in tqdm(records, desc="views", unit="image", disable=None):
            for tta in VIEWS:
                for merge in ("union", "average") if tta != "none" else ("union",):
                    row = merged.setdefault(f"{tta}, {merge}" if tta != "none" else tta, [])
                    row.append(scorer.score(record["image_id"], *load_record(record), tta, tta_merge=merge, **plain))
        print(f"{options.data}, {len(records)} images\n{'views':34s} {'score':>8s} {'to flip':>9s}  interval")
        for name, scores in merged.items():
            print(line(name, scores, merged["flip, union"]))

        print(f"\n{'one view':34s} {'score':>8s} {'gain':>9s}  interval")
        for scale in map(float, options.scales.split(",")):
            before, after = [], []
            for record in tqdm(records, desc=f"scale {scale:g}", unit="image", disable=None):
                image, truth = resampled(*load_record(record), scale)
                if truth.size > LARGE:
                    continue
                name = f"{record['image_id']}-{scale:g}"
                before.append(scorer.score(name, image, truth, "none", **plain))
                after.append(scorer.score(name, image, truth, "none", rescale=RESCALE))
            changed = int((np.array(before) != after).sum())
            print(f"{f'x {scale:g}, {len(before)} images, as they come':34s} {np.mean(before):8.4f}")
            print(line(f"x {scale:g}, rescaled, {changed} others", after, before), flush=True)


if __name__ == "__main__":
    main()

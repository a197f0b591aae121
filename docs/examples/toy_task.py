"""A task in one file: how many nuclei an image has, without their outlines.

A package that holds it names it among its entry points, in the group maskseg.tasks: ``counting = toy_task``. Then it is
trained and predicts like every other task::

    maskseg train --config-file nuclei_R_18_FPN MODEL.META_ARCHITECTURE CountNet OUTPUT_DIR runs/count
    maskseg predict images/ -o out/ --model runs/count
"""

import numpy as np
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.data.dataset import load_record
from maskseg.evaluation.evaluator import Evaluator
from maskseg.imaging.exposure import normalized
from maskseg.imaging.scaling import channels_first, input_scale, resize_image
from maskseg.inference.predictor import Predictor
from maskseg.models.tasks import Task, register
from maskseg.training.mapper import Samples


def add_keys(cfg):
    """Config keys of this task, with their defaults."""
    cfg.MODEL.COUNT_CHANNELS = 16


@META_ARCH_REGISTRY.register()
class CountNet(nn.Module):
    """Convolutions to a map of nuclei per pixel; its sum is the count."""

    def __init__(self, cfg):
        super().__init__()
        width = cfg.MODEL.COUNT_CHANNELS
        first, second = nn.Conv2d(3, width, 5, 2, 2), nn.Conv2d(width, width, 5, 2, 2)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(width, 1, 1), nn.Softplus())
        self.device = torch.device(cfg.MODEL.DEVICE)

    def forward(self, samples):
        """Training, the loss of samples with ``image`` (3, H, W) and ``count``; otherwise the counts (N,)."""
        images = [sample["image"].to(self.device) / 255 for sample in samples]
        counts = torch.stack([self.layers(image[None]).sum() / 100 for image in images])
        if not self.training:
            return counts
        truth = torch.tensor([float(sample["count"]) for sample in samples], device=self.device)
        return {"loss_count": nn.functional.smooth_l1_loss(counts, truth)}


class CountSamples(Samples):
    """Warped windows of images, as for Mask R-CNN, with the number of nuclei in them."""

    def _sample(self, image, layers, record):
        count = int((np.bincount(layers.ravel())[1:] >= self.aug.MIN_PIXELS).sum())
        return {"image": torch.from_numpy(image), "count": count, "image_id": record["image_id"]}


def network_image(cfg, image):
    """An image as the network sees it, uint8 (3, H, W)."""
    image = normalized(image, cfg.INPUT.NORMALIZE, cfg.INPUT.STAINED)
    scale = input_scale(image.shape[:2], cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK)
    return torch.from_numpy(channels_first(resize_image(image, scale), cfg.INPUT.FORMAT))


def validation_sample(cfg, record):
    """A whole image with its count, for the loss in validation."""
    image = network_image(cfg, load_record(record)[0])
    return {"image": image, "count": len(record["annotations"]), "image_id": record["image_id"]}


class CountPredictor(Predictor):
    """Says how many nuclei there are; it follows none of the options that are for masks."""

    title, formats = "counter", ("table",)

    def __init__(self, cfg, model):
        self.cfg, self.model = cfg, model

    @torch.inference_mode()
    def count(self, image):
        """The number of nuclei in an RGB image, uint8 (H, W, 3)."""
        return float(self.model([{"image": network_image(self.cfg, image)}])[0])


class CountEvaluator(Evaluator):
    """1 for counts without an error, 0 for none better than zeros."""

    score, title = "accuracy", "accuracy of the counts"

    def measure(self, record, predictor, tta=None):
        """Count the nuclei of an image."""
        self._rows[record["file_name"]] = predictor.count(load_record(record)[0]), len(record["annotations"])

    def summary(self):
        """``accuracy`` and the number of images."""
        found, truth = np.array(list(self._rows.values())).T
        return {"images": len(truth), "accuracy": max(0.0, 1 - float(np.abs(found - truth).sum() / truth.sum()))}

    def table(self, summary):
        """The summary in a line."""
        return f"{self.title}: {summary['accuracy']:.3f} ({summary['images']} images)"


def predict_counts(predictor, files, out, *_):
    """Write counts.csv; images that were left out, with the reasons."""
    failed = []
    with write_whole(out / "counts.csv", "w", encoding="utf-8") as table:
        table.write("image_id,nuclei\n")
        for file in files:
            try:
                table.write(f"{file.id},{predictor.count(file.read()):.1f}\n")
            except InputError as error:
                failed.append((file.id, str(error)))
    return failed


parts = {"samples": CountSamples, "validation_sample": validation_sample, "evaluator": CountEvaluator}
register(Task(CountNet, **parts, predictor=CountPredictor, predict=predict_counts, add_keys=add_keys))

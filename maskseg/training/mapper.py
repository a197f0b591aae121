"""Training samples for Mask R-CNN: one image, one label image (more where nuclei overlap)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from maskseg.data.dataset import load_layers, record_layers, unreviewed
from maskseg.formats.reviewed import REVIEWED
from maskseg.imaging import intensity
from maskseg.imaging.exposure import normalized
from maskseg.imaging.reading import read_image
from maskseg.imaging.scaling import channels_first, input_scale, labels_to_shape, resize_image
from maskseg.imaging.stains import COLOUR, DENSITY, EITHER
from maskseg.training.augment import RandomWarp, Warp, warp_image, warp_labels
from maskseg.training.cache import ImageCache, kept_file
from maskseg.training.label_masks import LabelMasks
from maskseg.training.negatives import negative
from maskseg.training.noise import add_noise
from maskseg.training.stain import jitter_stain

# Warps that are drawn, at most, until one shows something that was reviewed.
_TRIES = 10
# Of a record whose image is kept: how it shows stained tissue.
STAINED = "stained"


class Samples(Dataset):
    """Training samples, made from (position, index) pairs as `maskseg.training.sampler` draws them.

    Every random choice comes from the seed and the position in the training, so that a resumed run sees what the
    unbroken one would have seen, whatever the number of workers.

    Parameters
    ----------
    cfg : CfgNode
    records : list of dict
        From `maskseg.data.dataset.dataset_dicts`.
    """

    def __init__(self, cfg: CfgNode, records: list[dict[str, Any]]) -> None:
        self.records = records
        self.warp = RandomWarp.from_config(cfg)
        self.aug = cfg.INPUT.AUG
        self.normalize = cfg.INPUT.NORMALIZE
        self.stained = (COLOUR, DENSITY) if cfg.INPUT.STAINED == EITHER else (cfg.INPUT.STAINED,)
        self.order = cfg.INPUT.FORMAT
        self.seed = max(cfg.SEED, 0)
        # Where stained tissue is seen in two ways, all images are kept in both.
        kept = [{**self._kept(record), STAINED: way} for way in self.stained for record in records]
        seen = cfg.INPUT.clone()
        seen.pop("AUG")
        files = [file for record in records for file in self._files(record)]
        path = kept_file(cfg.DATALOADER.CACHE_DIR, kept, files, f"{type(self).__name__} {seen.dump()}")
        self.images = ImageCache(kept, cfg.DATALOADER.CACHE_MB << 20, self._read, path)

    def _files(self, record: Mapping[str, Any]) -> list[Path]:
        """What `_read` reads."""
        return [Path(record["file_name"])]

    def _kept(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record with ``height`` and ``width`` of what `_read` gives."""
        return record

    def _read(self, record: Mapping[str, Any]) -> NDArray[np.uint8]:
        return normalized(read_image(Path(record["file_name"])), self.normalize, record[STAINED])

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        position, index = item
        record = self.records[index]
        rng = np.random.default_rng((self.seed, position))
        if self.aug.NEGATIVES and rng.random() < self.aug.NEGATIVES:
            return self._negative(rng)
        image = self.images[index + len(self.records) * self._way(rng)]
        # Read from the run lengths each time: that takes less than keeping label images would save.
        layers = self._layers(record, image.shape[:2])
        unseen = self._unseen(record, image.shape[:2])
        warp = self._drawn(image.shape[:2], unseen, rng)
        image = warp_image(image, warp, self.aug.WINDOW)
        record = {**record, **self._beside(record, layers, unseen, warp)}
        layers = warp_labels(layers, warp, self.aug.WINDOW)
        image = jitter_stain(image, rng, self.aug.STAIN)
        image = intensity.jitter(image, rng, self.aug.CONTRAST, self.aug.BRIGHTNESS, self.aug.GAMMA)
        image = add_noise(image, rng, self.aug.NOISE)
        return self._sample(channels_first(image, self.order), layers, record)

    def _way(self, rng: np.random.Generator) -> int:
        """Which of the ways to see stained tissue a sample has; nothing is drawn where there is one."""
        return int(rng.integers(len(self.stained))) if len(self.stained) > 1 else 0

    def _negative(self, rng: np.random.Generator) -> dict[str, Any]:
        """A sample of a made-up picture, half of the times seen as it would be if it were read from a file."""
        side = self.aug.WINDOW
        image = negative(rng, side)
        if rng.random() < 0.5:
            image = normalized(image, self.normalize, self.stained[self._way(rng)])
        image = intensity.jitter(image, rng, self.aug.CONTRAST, self.aug.BRIGHTNESS, self.aug.GAMMA)
        # As with the images: otherwise noise alone would tell these pictures from them.
        image = add_noise(image, rng, self.aug.NOISE)
        record = {"image_id": "negative", "height": side, "width": side, "annotations": []}
        return self._sample(channels_first(image, self.order), np.zeros((1, side, side), np.int32), record)

    def _unseen(self, record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Where nobody has looked at the image, bool (H, W) of what `_read` gives; None where all of it counts."""
        if REVIEWED not in record:
            return None
        known = unreviewed(record, (record["height"], record["width"]))
        if known is None or known.shape == shape:
            return known
        return labels_to_shape(known, shape)

    def _drawn(self, shape: tuple[int, int], unseen: NDArray[np.bool_] | None, rng: np.random.Generator) -> Warp:
        """A random warp; of an image that was reviewed in part one that shows some of that part, if a few tries can."""
        warp = self.warp.draw(shape, rng)
        for _ in range(_TRIES if unseen is not None else 0):
            # The middle of the sample in the image; near it is what is surely seen.
            linear, offset = warp.matrix[:, :2], warp.matrix[:, 2]
            x, y = np.linalg.solve(linear, self.aug.WINDOW / 2 - offset)
            reach = self.aug.WINDOW / 4 / np.sqrt(abs(np.linalg.det(linear)))
            rows, columns = (slice(max(int(at - reach), 0), max(int(at + reach), 1)) for at in (y, x))
            if not unseen[rows, columns].all():  # type: ignore[index]
                break
            warp = self.warp.draw(shape, rng)
        return warp

    def _beside(
        self,
        record: Mapping[str, Any],
        layers: NDArray[np.integer[Any]],
        unseen: NDArray[np.bool_] | None,
        warp: Warp,
    ) -> dict[str, Any]:
        """What else of the sample is warped: where nobody has looked, and the classes where labels are not kept."""
        side, found = self.aug.WINDOW, dict[str, Any]()
        if unseen is not None:
            found["ignored"] = warp_labels(unseen[None].astype(np.uint16), warp, side, instances=False)[0] > 0
        kinds = class_table(record)
        if warp.inside is not None and kinds.any():
            # Mirror images of instances have labels of their own.
            found["kinds"] = warp_labels(kinds[layers].astype(np.uint16), warp, side, instances=False)
        return found

    def _layers(self, record: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.integer[Any]]:
        return record_layers(record, shape)

    def _sample(self, image: NDArray[np.uint8], layers: NDArray[np.int32], record: dict[str, Any]) -> dict[str, Any]:
        return as_sample(image, layers, record, self.aug.MIN_PIXELS)


def validation_sample(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    """A record as prediction sees it, without augmentation, with its targets."""
    image, layers = load_layers(record)
    image = normalized(image, cfg.INPUT.NORMALIZE, cfg.INPUT.STAINED)
    image = resize_image(image, input_scale(image.shape[:2], cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK))
    shape = image.shape[:2]
    seen = np.stack([labels_to_shape(layer, shape) for layer in layers]).astype(np.int32)
    unseen = unreviewed(record, layers.shape[1:])
    if unseen is not None:
        record = {**record, "ignored": labels_to_shape(unseen, shape)}
    return as_sample(channels_first(image, cfg.INPUT.FORMAT), seen, record, cfg.INPUT.AUG.MIN_PIXELS)


def class_table(record: Mapping[str, Any]) -> NDArray[np.int64]:
    """Class of each label of a record, counted from 1, and 0 where it is not known; all 0 where all are of class 0."""
    kinds = [item.get("category_id", 0) for item in record.get("annotations", ())]
    return np.array([0, *(kind + 1 for kind in kinds)] if any(kinds) else [0] * (len(kinds) + 1), np.int64)


def as_sample(
    image: NDArray[np.uint8], layers: NDArray[np.int32], record: dict[str, Any], min_pixels: int
) -> dict[str, Any]:
    """Detectron2's input dict: the image, uint8 (3, H, W), and one instance for each label of enough pixels.

    `layers` are label images (L, H, W), each label in one of them. The record may have what was warped with them:
    ``ignored``, bool (H, W), where nobody has looked, and ``kinds``, an image of classes for each layer as of
    `class_table`, without which label i is annotation i - 1.
    """
    counts = np.bincount(layers.ravel())
    places: dict[int, tuple[slice, slice]] = {}
    kinds: dict[int, int] = {}
    table = class_table(record)
    for number, layer in enumerate(layers):
        for value, place in enumerate(ndimage.find_objects(layer), start=1):
            if place is not None and counts[value] >= min_pixels:
                places[value] = place[0], place[1]
                if not table.any():
                    kinds[value] = 0
                elif "kinds" in record:
                    of_layer = record["kinds"][number][place]
                    kinds[value] = int(np.bincount(of_layer[layer[place] == value]).argmax()) - 1
                else:
                    kinds[value] = int(table[value]) - 1
    ids = sorted(places)
    boxes = [(places[i][1].start, places[i][0].start, places[i][1].stop, places[i][0].stop) for i in ids]
    instances = Instances(layers.shape[1:])
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor([kinds[i] for i in ids], dtype=torch.int64)
    ignored = record.get("ignored")
    unseen = None if ignored is None or not ignored.any() else torch.from_numpy(ignored)
    instances.gt_masks = LabelMasks(torch.from_numpy(layers), torch.tensor(ids, dtype=torch.int64), unseen)
    return {
        "image": torch.from_numpy(image),
        "instances": instances,
        "image_id": record["image_id"],
        "height": record["height"],
        "width": record["width"],
    }

"""One label map against Detectron2's stack of bitmasks."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes
from scipy import ndimage

from maskseg.imaging.reading import read_image
from maskseg.training.label_masks import LabelMasks


def pair(labels: np.ndarray, ids=None) -> tuple[LabelMasks, BitMasks]:
    """The same masks in either form."""
    ids = np.arange(1, labels.max() + 1) if ids is None else np.array(ids)
    layers = labels if labels.ndim == 3 else labels[None]
    ours = LabelMasks(torch.from_numpy(layers.astype(np.int32)), torch.from_numpy(ids.astype(np.int64)))
    return ours, BitMasks(torch.from_numpy((layers[None] == ids[:, None, None, None]).any(axis=1)))


def blobs(seed: int, shape=(90, 120), count: int = 30) -> np.ndarray:
    """A crowded label map: cells around random points, with gaps and touching neighbours."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    labels[rng.integers(shape[0], size=count), rng.integers(shape[1], size=count)] = np.arange(1, count + 1)
    distance, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return np.where(distance < rng.uniform(5, 12), labels[rows, columns], 0)


def overlapping(seed: int) -> np.ndarray:
    """Three layers of cells, none of them with a label of another, that lie over each other."""
    layers = np.stack([blobs(seed + number) for number in range(3)])
    return np.where(layers > 0, layers + 30 * np.arange(3)[:, None, None], 0)


def jittered(boxes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Proposals as they come: shifted and stretched by up to 60 %, some partly outside the image."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2).clamp(min=1)
    moved = boxes + sides * torch.from_numpy(rng.uniform(-0.6, 0.6, boxes.shape)).float()
    moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 0.5)
    return moved


def agreement(labels: np.ndarray, seed: int, size: int) -> tuple[float, torch.Tensor]:
    ours, theirs = pair(labels)
    boxes = jittered(theirs.get_bounding_boxes().tensor, np.random.default_rng(seed))
    expected = theirs.crop_and_resize(boxes, size)
    got = ours.crop_and_resize(boxes, size)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype == torch.bool
    # Neither all empty nor all full, or agreement would mean nothing.
    assert 0.05 < expected.float().mean() < 0.95
    return (got == expected).float().mean().item(), boxes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [14, 28])
def test_targets_are_those_of_bitmasks(seed, size):
    labels = blobs(seed)
    share, boxes = agreement(labels, seed, size)
    assert (boxes[:, 0] < 0).any() or (boxes[:, 3] > labels.shape[0]).any(), "some boxes reach outside"
    assert share >= 0.999


def test_targets_of_real_nuclei_are_those_of_bitmasks(repository):
    folders = sorted((repository / "datasets" / "sample").glob("*/*/masks"))[::8]
    assert len(folders) == 4
    for number, folder in enumerate(folders):
        masks = [read_image(path)[..., 0] > 128 for path in sorted(folder.iterdir())]
        labels = np.zeros(masks[0].shape, np.int32)
        for value, mask in enumerate(masks, start=1):
            labels[mask] = value
        share, _ = agreement(labels, number, 28)
        assert share >= 0.999, folder


@pytest.mark.parametrize("size", [14, 28])
def test_targets_of_overlapping_masks_are_those_of_bitmasks(size):
    layers = overlapping(3)
    assert ((layers > 0).sum(axis=0) > 1).mean() > 0.1
    share, _ = agreement(layers, 3, size)
    assert share >= 0.999


def test_targets_of_a_box_far_outside_are_empty():
    ours, theirs = pair(blobs(0), [1, 2])
    boxes = torch.tensor([[500.0, 500, 520, 520], [-80, -80, -40, -40]])
    assert not ours.crop_and_resize(boxes, 28).any()
    assert not theirs.crop_and_resize(boxes, 28).any()


def test_boxes_and_emptiness_are_those_of_bitmasks():
    labels = blobs(5)
    labels[labels == 4] = 0
    ours, theirs = pair(labels, [9, 4, 1, 30, 1, 77])
    assert torch.equal(ours.get_bounding_boxes().tensor, theirs.get_bounding_boxes().tensor)
    assert torch.equal(ours.nonempty(), theirs.nonempty())
    assert ours.nonempty().tolist() == [True, False, True, True, True, False]
    ours, theirs = pair(overlapping(5), [3, 88, 40, 91])
    assert torch.equal(ours.get_bounding_boxes().tensor, theirs.get_bounding_boxes().tensor)
    assert ours.nonempty().tolist() == theirs.nonempty().tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "item", [2, slice(1, 4), torch.tensor([3, 0, 3]), torch.tensor([True, False, True, True, False])]
)
def test_selections_are_those_of_bitmasks(item):
    ours, theirs = pair(blobs(6), [8, 3, 5, 1, 2])
    picked, expected = ours[item], theirs[item]
    assert len(picked) == len(expected)
    assert torch.equal(torch.stack(list(picked)), torch.stack(list(expected)))
    assert picked.labels is ours.labels, "the map is shared"


def test_no_instances():
    ours, theirs = pair(np.zeros((20, 30), np.int32), [])
    assert len(ours) == 0
    assert list(ours) == []
    assert ours.nonempty().shape == (0,)
    assert ours.get_bounding_boxes().tensor.shape == (0, 4)
    assert ours.crop_and_resize(torch.zeros(0, 4), 28).shape == theirs.crop_and_resize(torch.zeros(0, 4), 28).shape


def test_selections_are_joined_as_bitmasks_are():
    ours, theirs = pair(blobs(7), [1, 2, 3, 40])
    joined = LabelMasks.cat([ours[2:], ours[:1]])
    assert torch.equal(torch.stack(list(joined)), torch.stack(list(BitMasks.cat([theirs[2:], theirs[:1]]))))
    assert joined.labels is ours.labels, "the map is shared"


def test_masks_of_several_maps_are_joined_as_bitmasks_are():
    # Equal labels in both, one that is in no map, and the same map twice.
    ours, theirs = pair(blobs(7), [1, 2, 3, 40])
    others, their_others = pair(overlapping(8), [2, 1, 70])
    joined = LabelMasks.cat([ours[1:], others, ours[:1], others[:0]])
    expected = BitMasks.cat([theirs[1:], their_others, theirs[:1], their_others[:0]])
    assert torch.equal(torch.stack(list(joined)), torch.stack(list(expected)))
    assert torch.equal(joined.get_bounding_boxes().tensor, expected.get_bounding_boxes().tensor)
    assert len(joined.labels) == 4
    smaller, _ = pair(blobs(8, (20, 30)))
    with pytest.raises(ValueError, match="one size"):
        LabelMasks.cat([ours, smaller])


def test_moved_to_a_device_it_stays_what_it_is():
    ours, _ = pair(blobs(9))
    moved = ours.to(torch.device("cpu"))
    assert moved.device.type == "cpu"
    assert torch.equal(moved.labels, ours.labels)
    assert torch.equal(moved.ids, ours.ids)
    # Only on a device without data is the move itself to be seen, and a data type must not touch the labels.
    assert ours.to("meta").device.type == "meta"
    assert ours.to(dtype=torch.float16).labels.dtype == torch.int32
    assert ours.image_size == (90, 120)
    assert isinstance(moved.get_bounding_boxes(), Boxes)

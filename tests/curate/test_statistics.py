"""Numbers of a data set, and the cover of anchors against Detectron2's own."""

from __future__ import annotations

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.curate.statistics import (
    FITS,
    UNKNOWN,
    Anchors,
    best_iou,
    collect,
    network_boxes,
    suggest_anchors,
    typical_images,
)

REFERENCE = Anchors([[8], [16], [32], [64], [128]], [[0.5, 1, 2]] * 5, [4, 8, 16, 32, 64])


def record(name: str, boxes: list[tuple[int, int, int, int]], shape: tuple[int, int] = (40, 60), modality: str = "a"):
    bitmaps = [np.ones((y1 - y0, x1 - x0), bool) for x0, y0, x1, y1 in boxes]
    rles = CropMasks(shape, np.array(boxes, np.int32), bitmaps).to_rle()
    return {
        "file_name": f"{name}.png",
        "image_id": name,
        "height": shape[0],
        "width": shape[1],
        "modality": modality,
        "annotations": [{"segmentation": rle} for rle in rles],
    }


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 400, (count, 2))
    return np.concatenate([low, low + np.exp(rng.uniform(0.5, 4.7, (count, 2)))], axis=1)


def test_numbers_are_those_of_the_masks():
    found = collect([record("x", [(1, 2, 11, 7), (20, 3, 24, 9)]), record("empty", [], (8, 9), "")])
    assert (found.names, found.modality) == (["x", "empty"], ["a", UNKNOWN])
    assert found.shapes.tolist() == [[40, 60], [8, 9]]
    assert found.boxes.tolist() == [[1, 2, 11, 7], [20, 3, 24, 9]]
    assert found.areas.tolist() == [50, 24]
    assert found.nuclei.tolist() == [2, 0]
    assert found.nuclei_of("a").tolist() == [True, True]
    assert network_boxes(found, [2.0, 5.0]).tolist() == [[2, 4, 22, 14], [40, 6, 48, 18]]


def test_a_mask_of_another_size_is_named():
    wrong = record("x", [(1, 2, 11, 7)]) | {"height": 41}
    with pytest.raises(InputError, match=r"x\.png: .*maskseg check"):
        collect([wrong])


@pytest.mark.slow
@pytest.mark.parametrize("anchors", [REFERENCE, REFERENCE._replace(ratios=[[0.4, 1]] * 5, offset=0.5)])
def test_the_best_anchor_is_that_of_detectron2(anchors):
    torch = pytest.importorskip("torch")
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.structures import Boxes, pairwise_iou

    generator = DefaultAnchorGenerator(
        sizes=anchors.sizes, aspect_ratios=anchors.ratios, strides=anchors.strides, offset=anchors.offset
    )
    levels = [torch.zeros(1, 1, 640 // stride, 640 // stride) for stride in anchors.strides]
    every = Boxes.cat(generator(levels))
    boxes = random_boxes(60)
    expected = pairwise_iou(Boxes(torch.tensor(boxes, dtype=torch.float32)), every).max(dim=1).values.numpy()
    assert best_iou(boxes, anchors) == pytest.approx(expected, abs=1e-4)


def test_suggested_anchors_cover_more_and_keep_levels_and_ratios():
    # All nuclei about 24 pixels wide, where 8, 16, 32 lie to either side.
    low = np.random.default_rng(1).uniform(0, 400, (300, 2))
    boxes = np.concatenate([low, low + 23], axis=1)
    suggested = suggest_anchors(boxes, REFERENCE)
    assert suggested._replace(sizes=REFERENCE.sizes) == REFERENCE
    assert [len(level) for level in suggested.sizes] == [1] * 5
    now, then = best_iou(boxes, REFERENCE), best_iou(boxes, suggested)
    assert (then >= FITS).mean() >= (now >= FITS).mean()
    assert then.mean() > now.mean() + 0.1


def test_typical_images_go_from_the_fewest_to_the_most_nuclei():
    counts = [4, 0, 2, 3, 1]
    records = [record(str(n), [(i * 8, 0, i * 8 + 5, 5) for i in range(n)]) for n in counts]
    found = collect([*records, record("other", [], modality="b")])
    assert [found.names[i] for i in typical_images(found, "a")] == ["0", "2", "4"]
    assert [found.names[i] for i in typical_images(found, "b")] == ["other"]
    assert found.modalities == ["a", "b"]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, SoftCrops, trim

label_images = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 7))


def renumbered(labels):
    """Labels 1..N in rising order of the old ones."""
    values, inverse = np.unique(labels, return_inverse=True)
    return inverse.reshape(labels.shape) + (values[0] != 0)


def full(masks, i):
    """Mask i in full size."""
    x0, y0, x1, y1 = masks.boxes[i]
    mask = np.zeros(masks.shape, bool)
    mask[y0:y1, x0:x1] = masks.bitmaps[i]
    return mask


@pytest.mark.slow
@given(label_images)
def test_labels_come_back_renumbered(labels):
    masks = CropMasks.from_labels(labels)
    assert len(masks) == len(set(labels.ravel().tolist()) - {0})
    assert (masks.to_labels() == renumbered(labels)).all()
    assert masks.to_labels().dtype == np.int32
    assert masks.boxes.dtype == np.int32
    assert masks.scores.tolist() == [1] * len(masks)


@pytest.mark.slow
@given(label_images)
def test_boxes_are_as_small_as_can_be(labels):
    for box, bitmap in zip(CropMasks.from_labels(labels).boxes, CropMasks.from_labels(labels).bitmaps, strict=True):
        tight, _ = trim(bitmap, int(box[0]), int(box[1]))
        assert tuple(box) == tight


@pytest.mark.slow
@given(label_images)
def test_rle_comes_back_and_agrees_with_pycocotools(labels):
    masks = CropMasks.from_labels(labels)
    rles = masks.to_rle()
    for i, (rle, area) in enumerate(zip(rles, masks.areas, strict=True)):
        assert (coco_mask.decode(rle) == full(masks, i)).all()
        assert int(coco_mask.area(rle)) == area
        x, y, w, h = coco_mask.toBbox(rle)
        assert masks.boxes[i].tolist() == [x, y, x + w, y + h]
    back = CropMasks.from_rle(rles, labels.shape)
    assert (back.to_labels() == masks.to_labels()).all()
    assert (back.boxes == masks.boxes).all()


@pytest.mark.slow
@given(label_images, st.sampled_from([np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.uint64]))
def test_the_kind_of_whole_number_does_not_matter(labels, dtype):
    assert (CropMasks.from_labels(labels.astype(dtype)).to_labels() == renumbered(labels)).all()


@pytest.mark.slow
@given(label_images, st.randoms(use_true_random=False))
def test_large_and_distant_labels_cost_nothing_and_keep_their_order(labels, random):
    names = np.array([0, *sorted(random.sample(range(1, 2**32), 7))], np.uint32)
    assert (CropMasks.from_labels(names[labels]).to_labels() == renumbered(labels)).all()


@pytest.mark.slow
@given(label_images, st.data())
def test_choosing_by_mask_by_index_and_by_slice(labels, data):
    count = len(CropMasks.from_labels(labels))
    masks = CropMasks.from_labels(labels, np.arange(count) / 10)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    by_bool, by_index = masks[keep], masks[np.flatnonzero(keep)]
    assert len(by_bool) == len(by_index) == keep.sum()
    assert by_bool.areas.tolist() == masks.areas[keep].tolist() == by_index.areas.tolist()
    assert (by_bool.scores == masks.scores[keep]).all()
    order = np.array(data.draw(st.permutations(range(count))), np.int64)
    assert (masks[order].areas == masks.areas[order]).all()
    assert (masks[1:3].boxes == masks.boxes[1:3]).all()


def squares(scores):
    """Two squares of 4 x 4 pixels that share 2 x 2."""
    boxes = np.array([[0, 0, 4, 4], [2, 2, 6, 6]], np.int32)
    return CropMasks((8, 8), boxes, [np.ones((4, 4), bool)] * 2, np.array(scores))


@pytest.mark.parametrize(("scores", "owner"), [([0.9, 0.8], 1), ([0.8, 0.9], 2), ([0.5, 0.5], 1)])
def test_a_shared_pixel_goes_to_the_higher_score_and_of_equals_to_the_earlier(scores, owner):
    labels = squares(scores).to_labels()
    assert (labels[2:4, 2:4] == owner).all()
    assert (labels > 0).sum() == 28
    assert labels[0, 0] == 1
    assert labels[5, 5] == 2


def test_a_mask_inside_another_of_equal_score_is_kept_whichever_comes_first():
    boxes = np.array([[0, 0, 6, 6], [2, 2, 4, 4]], np.int32)
    bitmaps = [np.ones((6, 6), bool), np.ones((2, 2), bool)]
    for order in ([0, 1], [1, 0]):
        labels = CropMasks((8, 8), boxes[order], [bitmaps[i] for i in order]).to_labels()
        assert sorted(np.bincount(labels.ravel())[1:].tolist()) == [4, 32]


def test_overlapping_masks_survive_rle():
    masks = squares([0.5, 0.7])
    back = CropMasks.from_rle(masks.to_rle(), scores=masks.scores)
    assert back.areas.tolist() == [16, 16]
    assert (back.to_labels() == masks.to_labels()).all()


def test_no_masks():
    masks = CropMasks.empty((5, 7))
    assert len(masks) == 0
    assert masks.boxes.shape == (0, 4)
    assert masks.to_rle() == []
    assert masks.areas.shape == (0,)
    assert (masks.to_labels() == np.zeros((5, 7))).all()
    for other in (
        CropMasks.from_labels(np.zeros((5, 7), int)),
        CropMasks.from_rle([], (5, 7)),
        masks[:0],
        masks[[]],
    ):
        assert (len(other), other.shape) == (0, (5, 7))
    assert len(SoftCrops.paste(np.zeros((0, 28, 28)), np.zeros((0, 4)), (5, 7)).masks(0.5)) == 0


@pytest.mark.parametrize("labels", [np.zeros((3, 3)), np.zeros((3, 3, 1), int), np.array([[-1, 2]])])
def test_what_is_no_label_image_is_refused(labels):
    with pytest.raises(InputError, match="label image"):
        CropMasks.from_labels(labels)


def test_rle_of_another_size_is_refused():
    with pytest.raises(InputError, match="8, 8"):
        CropMasks.from_rle(squares([1, 1]).to_rle(), (8, 9))


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="2 boxes"):
        CropMasks((8, 8), np.zeros((2, 4), int), [np.ones((1, 1), bool)])


def dense_paste(soft, box, threshold, shape):
    """One soft mask sampled bilinearly at the centre of every pixel of the image, zero outside the mask."""
    side = soft.shape[0]
    padded = np.pad(soft.astype(np.float64), 1)
    x0, y0, x1, y1 = box
    gx = (np.arange(shape[1]) + 0.5 - x0) / (x1 - x0) * side - 0.5
    gy = (np.arange(shape[0]) + 0.5 - y0) / (y1 - y0) * side - 0.5
    gx, gy = np.clip(gx, -1, side), np.clip(gy, -1, side)
    fx, fy = np.minimum(np.floor(gx), side - 1).astype(int), np.minimum(np.floor(gy), side - 1).astype(int)
    wx, wy = gx - fx, gy - fy
    rows = padded[fy + 1] * (1 - wy)[:, None] + padded[fy + 2] * wy[:, None]
    values = rows[:, fx + 1] * (1 - wx) + rows[:, fx + 2] * wx
    return values >= threshold, np.abs(values - threshold) < 1e-4


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.35, 0.5]))
def test_soft_masks_give_the_pixels_of_a_full_size_paste(seed, threshold):
    random = np.random.default_rng(seed)
    shape, count = (40, 53), 6
    corners = random.uniform(-8, 45, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0.5, 30, (count, 2))], axis=1).astype(np.float32)
    soft = random.random((count, 28, 28)).astype(np.float32)
    masks = SoftCrops.paste(soft, boxes, shape, random.random(count)).masks(threshold)
    for i in range(count):
        expected, undecided = dense_paste(soft[i], boxes[i].astype(np.float64), threshold, shape)
        assert ((full(masks, i) == expected) | undecided).all()


def test_a_soft_mask_outside_the_image_is_empty():
    masks = SoftCrops.paste(np.ones((1, 28, 28)), np.array([[60.0, 60, 70, 70]]), (40, 50)).masks(0.5)
    assert masks.areas.tolist() == [0]
    assert (masks.to_labels() == 0).all()
    assert len(masks.to_rle()) == 1

"""Post-processing: hand-drawn masks with known answers, and equality with plain dense implementations."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskseg.core.masks import CropMasks, SoftCrops, trim
from maskseg.core.morphology import fill_holes
from maskseg.inference import postprocess
from maskseg.inference.settings import PostprocessSettings


def drawn(*pictures: str, scores=None) -> CropMasks:
    """Masks from pictures of equal size: ``#`` is set."""
    dense = [np.array([[c == "#" for c in line.strip()] for line in picture.split()]) for picture in pictures]
    return from_dense(dense, scores)


def from_dense(dense, scores=None) -> CropMasks:
    boxes, bitmaps = zip(*[trim(mask) for mask in dense], strict=True)
    return CropMasks(dense[0].shape, np.array(boxes), list(bitmaps), scores)


def to_dense(masks: CropMasks) -> list[np.ndarray]:
    result = []
    for (x0, y0, x1, y1), bitmap in zip(masks.boxes, masks.bitmaps, strict=True):
        full = np.zeros(masks.shape, bool)
        full[y0:y1, x0:x1] = bitmap
        result.append(full)
    return result


def picture(mask: np.ndarray) -> list[str]:
    return ["".join("#" if value else "." for value in row) for row in mask]


def test_a_pixel_goes_to_the_highest_score():
    masks = drawn("####..", "..####", scores=[0.8, 0.9])
    cleaned = postprocess.clean(masks, PostprocessSettings(fill_holes=False, close=False, min_area=1))
    assert [picture(mask) for mask in to_dense(cleaned)] == [["..####"], ["##...."]]
    assert cleaned.scores.tolist() == pytest.approx([0.9, 0.8])


CUT = ("##########", "...##.....")


@pytest.mark.parametrize(("rule", "left"), [("drop", ["...##....."]), ("keep_largest", ["...##.....", ".....#####"])])
def test_a_mask_cut_in_two_follows_the_fragment_rule(rule, left):
    cleaned = postprocess.clean(
        drawn(*CUT, scores=[0.8, 0.9]), PostprocessSettings(fill_holes=False, close=False, fragments=rule, min_area=1)
    )
    assert [picture(mask)[0] for mask in to_dense(cleaned)] == left


def test_diagonal_pixels_are_one_piece():
    masks = drawn("#.\n.#")
    assert len(postprocess.clean(masks, PostprocessSettings(close=False, min_area=1))) == 1


def test_a_dropped_mask_takes_no_pixels():
    masks = drawn("..##..", "######", scores=[0.9, 0.8])
    cleaned = postprocess.clean(masks, PostprocessSettings(fill_holes=False, close=False, min_area=3))
    assert [picture(mask) for mask in to_dense(cleaned)] == [["######"]]


def test_minimum_area_keeps_what_reaches_it():
    left, right = drawn("##...."), drawn("...###")
    assert len(postprocess.clean(left, PostprocessSettings(min_area=2))) == 1
    assert len(postprocess.clean(left, PostprocessSettings(min_area=3))) == 0
    assert len(postprocess.clean(right, PostprocessSettings(min_area=3))) == 1


def test_closing_bridges_a_gap_of_one_pixel():
    halves = drawn("###.###\n###.###\n###.###")
    assert picture(to_dense(postprocess.clean(halves))[0]) == ["###.###", "#######", "###.###"]
    assert len(postprocess.clean(halves, PostprocessSettings(close=False))) == 0, "two pieces, so the mask is dropped"


def test_holes_are_filled_but_bays_are_not():
    ring = drawn(
        """#####
           #...#
           #####""",
        """#####
           #...#
           ##.##""",
    )
    assert [fill_holes(bitmap).sum() for bitmap in ring.bitmaps] == [15, 11]


random_masks = st.tuples(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(3, 40), st.integers(1, 8))


def random_dense(seed: int, height: int, width: int, count: int):
    """Blobs, some touching the edge, some overlapping, some ragged."""
    rng = np.random.default_rng(seed)
    dense = []
    while len(dense) < count:
        noise = ndimage.gaussian_filter(rng.random((height, width)), rng.uniform(0.3, 3))
        mask = noise > np.quantile(noise, rng.uniform(0.3, 0.97))
        y, x = rng.integers(height), rng.integers(width)
        mask[: max(0, y - 12)] = mask[y + 12 :] = mask[:, : max(0, x - 12)] = mask[:, x + 12 :] = False
        if mask.any():
            dense.append(mask)
    # Equal scores on purpose: ties are decided by order.
    return dense, np.round(rng.random(count), 1).astype(np.float32)


def dense_clean(dense, scores, rule, min_area):
    """The rules of the published method on full-size masks."""
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    taken = np.zeros(dense[0].shape, bool)
    result = []
    for i in sorted(range(len(dense)), key=lambda i: (-scores[i], i)):
        mask = np.pad(ndimage.binary_fill_holes(dense[i]), 2).astype(np.uint8)
        mask = cv2.erode(cv2.dilate(mask, cross), cross)[2:-2, 2:-2].astype(bool) & ~taken
        pieces, count = ndimage.label(mask, np.ones((3, 3)))
        if count > 1:
            areas = np.bincount(pieces.ravel())[1:]
            mask = np.zeros_like(mask) if rule == "drop" else pieces == 1 + areas.argmax()
        if mask.sum() >= min_area:
            taken |= mask
            result.append((mask, scores[i]))
    return result


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(random_masks, st.sampled_from(["drop", "keep_largest"]), st.integers(1, 20))
@example((165, 11, 37, 8), "keep_largest", 1)  # two pieces of one size
def test_cleaning_equals_the_dense_rules(case, rule, min_area):
    dense, scores = random_dense(*case)
    cleaned = postprocess.clean(from_dense(dense, scores), PostprocessSettings(fragments=rule, min_area=min_area))
    expected = dense_clean(dense, scores, rule, min_area)
    assert len(cleaned) == len(expected)
    for got, score, (mask, true_score) in zip(to_dense(cleaned), cleaned.scores, expected, strict=True):
        np.testing.assert_array_equal(got, mask)
        assert score == true_score


def test_soft_masks_become_the_pixels_that_detectron2_pastes():
    """Against Detectron2's own paste, which makes N x H x W; boxes partly outside the image included."""
    torch = pytest.importorskip("torch")
    from detectron2.layers import paste_masks_in_image

    rng = np.random.default_rng(5)
    shape, count = (90, 120), 60
    corners = rng.uniform(-10, (115, 85), (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(11, 60, (count, 2))], axis=1).astype(np.float32)
    soft = ndimage.gaussian_filter(rng.random((count, 28, 28)), (0, 2, 2)).astype(np.float32)
    threshold = float(np.median(soft))
    pasted = paste_masks_in_image(torch.tensor(soft), torch.tensor(boxes), shape, threshold).numpy()
    cropped = to_dense(SoftCrops.paste(soft, boxes, shape).masks(threshold))
    different = sum((ours != theirs).sum() for ours, theirs in zip(cropped, pasted, strict=True))
    assert pasted.sum() > 5000
    # Rounding may turn a pixel that meets the threshold exactly.
    assert different <= 1e-4 * pasted.sum()

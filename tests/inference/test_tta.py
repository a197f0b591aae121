"""Views are undone exactly, and their masks merged as written: hand-drawn masks with known answers, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.tta import PLAIN, VIEWS, View, merge

MIRRORED = View(mirrored=True)
views = st.sampled_from(VIEWS["d4"])
label_images = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4))


def soft(masks: CropMasks) -> SoftCrops:
    return SoftCrops(masks.shape, masks.boxes, [bitmap.astype(np.float32) for bitmap in masks.bitmaps], masks.scores)


def drawn(*pictures: str, scores=None) -> SoftCrops:
    """Probabilities from pictures of equal size: digits are tenths, ``#`` is 1."""
    values = [
        np.array([[{".": 0, "#": 1}.get(c, ord(c) / 10 - 4.8) for c in line.strip()] for line in picture.split()])
        for picture in pictures
    ]
    height, width = values[0].shape
    boxes = np.tile(np.int32([0, 0, width, height]), (len(values), 1))
    scores = np.ones(len(values), np.float32) if scores is None else np.float32(scores)
    return SoftCrops((height, width), boxes, [value.astype(np.float32) for value in values], scores)


def pictures(masks: CropMasks) -> list[list[str]]:
    result = []
    for (x0, y0, x1, y1), bitmap in zip(masks.boxes, masks.bitmaps, strict=True):
        full = np.zeros(masks.shape, bool)
        full[y0:y1, x0:x1] = bitmap
        result.append(["".join("#" if value else "." for value in row) for row in full])
    return result


def merged(first, *others, how="auto", threshold=0.5, min_iou=0.1):
    rules = PostprocessSettings(mask_threshold=threshold, tta_merge=how, tta_min_iou=min_iou)
    return merge(first, VIEWS["d4"][1 : len(others) + 1], lambda view: others[VIEWS["d4"].index(view) - 1], rules)


def test_the_eight_views_are_all_different_and_a_group():
    picture = np.arange(6).reshape(2, 3)
    seen = {(view.apply(picture).shape, view.apply(picture).tobytes()) for view in VIEWS["d4"]}
    assert len(seen) == 8
    for one in VIEWS["d4"]:
        for other in VIEWS["d4"]:
            both = other.apply(one.apply(picture))
            assert (both.shape, both.tobytes()) in seen
    assert set(VIEWS["none"]) < set(VIEWS["flip"]) < set(VIEWS["d4"])
    assert all(chosen[0] == PLAIN for chosen in VIEWS.values())
    np.testing.assert_array_equal(MIRRORED.apply(picture), picture[:, ::-1])
    assert len({view.name for view in VIEWS["d4"]}) == 8


@pytest.mark.slow
@given(label_images, views)
def test_what_is_seen_in_a_view_is_undone_exactly(labels, view):
    np.testing.assert_array_equal(view.undo(view.apply(labels)), labels)
    assert view.apply(labels).shape == view.shape(labels.shape)
    assert view.shape(view.shape(labels.shape)) == labels.shape
    truth, seen = CropMasks.from_labels(labels), CropMasks.from_labels(view.apply(labels))
    found = view.undo_crops(soft(seen))
    assert found.shape == labels.shape
    np.testing.assert_array_equal(found.boxes, truth.boxes)
    masks = found.masks(0.5)
    np.testing.assert_array_equal(masks.boxes, truth.boxes)
    for bitmap, expected in zip(masks.bitmaps, truth.bitmaps, strict=True):
        np.testing.assert_array_equal(bitmap, expected)
    np.testing.assert_array_equal(view.boxes(truth.boxes, labels.shape), seen.boxes)
    assert [view.undo_box(view.box(box, labels.shape), labels.shape) for box in map(tuple, truth.boxes.tolist())] == [
        tuple(box) for box in truth.boxes.tolist()
    ]


@pytest.mark.slow
@given(label_images, views, st.integers(0, 2**32 - 1))
def test_soft_masks_pasted_in_a_view_come_back_over_the_border_too(labels, view, seed):
    """Boxes of parts of a pixel, some beyond the image."""
    rng = np.random.default_rng(seed)
    shape = labels.shape
    corners = rng.integers(-8, 4 * max(shape) + 8, (5, 4)) / 4
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + np.abs(corners[:, 2:]) + 0.25], axis=1).astype(np.float32)
    masks = rng.integers(0, 5, (5, 28, 28)).astype(np.float32) / 4
    plain = SoftCrops.paste(masks, boxes, shape)
    seen = SoftCrops.paste(np.array([view.apply(mask) for mask in masks]), view.boxes(boxes, shape), view.shape(shape))
    back = view.undo_crops(seen)
    assert back.shape == plain.shape
    np.testing.assert_array_equal(back.boxes, plain.boxes)
    for crop, expected in zip(back.crops, plain.crops, strict=True):
        np.testing.assert_allclose(crop, expected, atol=1e-4)


def test_union_with_the_best_partner_of_the_flipped_view():
    first = drawn(
        """##....
           ##....
           ......""",
        """....##
           ....##
           ......""",
        """......
           ......
           ..##..""",
        scores=[0.9, 0.8, 0.7],
    )
    other = drawn(
        """.##...
           .##...
           ......""",  # IoU 2/6 with the first
        """###...
           ......
           ......""",  # IoU 2/5 with the first: its best
        """......
           .....#
           .....#""",  # IoU 1/5 with the second
        """......
           ......
           #.....""",  # seen in the flipped view only
    )
    kept, masks = merged(first, other)
    assert kept.tolist() == [0, 1]
    assert pictures(masks) == [["###...", "##....", "......"], ["....##", "....##", ".....#"]]
    assert masks.scores.tolist() == pytest.approx([0.9, 0.8])


def test_a_best_iou_of_exactly_the_limit_is_dropped():
    first, other = drawn("##########"), drawn("#.........")
    assert len(merged(first, other, min_iou=0.1)[1]) == 0
    assert len(merged(first, other, min_iou=0.0999)[1]) == 1


@pytest.mark.parametrize("how", ["union", "average"])
def test_nothing_in_one_view_leaves_nothing(how):
    some, none = drawn("##########"), drawn("##########")[np.zeros(0, int)]
    assert len(merged(some, none, how=how)[1]) == 0
    assert len(merged(none, some, how=how)[1]) == 0
    assert len(merged(some, how=how)[1]) == 1


def test_the_average_is_taken_pixel_by_pixel_over_the_views_that_have_the_nucleus():
    first = drawn(".89964....")
    second = drawn(".48986....")
    third = drawn("8.........")  # no partner
    # Means of the first two: 6, 8.5, 9, 7, 5 tenths.
    assert pictures(merged(first, second, how="average", threshold=0.65)[1]) == [["..###....."]]
    assert pictures(merged(first, second, how="average", threshold=0.55)[1]) == [[".####....."]]
    assert pictures(merged(first, second, how="average", threshold=0.72)[1]) == [["..##......"]]
    # With the second twice the fourth is 22 / 3 tenths.
    assert pictures(merged(first, second, second, third, how="average", threshold=0.72)[1]) == [["..###....."]]


@pytest.mark.parametrize(
    ("kinds", "scores", "expected"),
    [
        ((0, 1, 1, 1), (0.9, 0.8, 0.8, 0.8), 1),
        ((0, 1, 0, 1), (0.9, 0.9, 0.9, 0.9), 0),
        ((0, 1), (0.9, 0.5), 0),
        ((2, 2), (0.9, 0.5), 2),
    ],
)
def test_the_class_is_that_of_most_views_by_their_scores_and_else_of_the_first(kinds, scores, expected):
    pictures_ = [drawn("##\n##", scores=[score]) for score in scores]
    for one, kind in zip(pictures_, kinds, strict=True):
        one.classes = np.array([kind], np.int32)
    _, masks = merged(*pictures_, how="average" if len(kinds) > 2 else "union")
    assert masks.classes.tolist() == [expected]


def test_auto_is_the_union_of_two_views_and_the_average_of_more():
    first, other = drawn(".99991"), drawn("199991")
    wider = drawn("999999")
    assert pictures(merged(first, wider)[1]) == [["######"]]
    assert pictures(merged(first, other, wider)[1]) == [[".####."]]
    assert pictures(merged(first, other, wider, how="union")[1]) == [["######"]]


def test_a_nucleus_needs_a_partner_in_more_than_half_of_the_other_views():
    first = drawn("##....", "...##.")
    both, left = first, drawn("##....")
    assert merged(first, both, left)[0].tolist() == [0]
    assert merged(first, both, left, both)[0].tolist() == [0, 1]
    assert merged(first, both, both, left, left)[0].tolist() == [0]


@pytest.mark.slow
@given(label_images, st.sampled_from(["union", "average"]), st.integers(1, 7))
def test_views_that_agree_change_nothing(labels, how, count):
    truth = CropMasks.from_labels(labels)
    kept, masks = merged(soft(truth), *[soft(truth)] * count, how=how)
    assert kept.tolist() == list(range(len(truth)))
    np.testing.assert_array_equal(masks.boxes, truth.boxes)
    np.testing.assert_array_equal(masks.to_labels(), truth.to_labels())

"""Edits against the same on whole boolean images, one a nucleus."""

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.serve import edits
from maskseg.serve.nuclei import Nuclei, Nucleus, crop, from_json, read_masks, to_json, write_masks

SHAPE = (40, 60)


def of(*boxes):
    """Nuclei that are rectangles."""
    nuclei = Nuclei(SHAPE)
    for x0, y0, x1, y1 in boxes:
        box = (x0, y0, x1, y1)
        nuclei.put({nuclei.next_id: Nucleus(box, np.ones((y1 - y0, x1 - x0), bool), 0.8, by_hand=False)})
    return nuclei


def whole(nuclei, number):
    nucleus = nuclei[number]
    return crop(nucleus.bitmap, nucleus.box, (0, 0, SHAPE[1], SHAPE[0]))


def labels(nuclei):
    found = np.zeros(SHAPE, int)
    for number in nuclei.masks()[0]:
        assert not (found[whole(nuclei, number)]).any(), "two nuclei share a pixel"
        found[whole(nuclei, number)] = number
    return found


def test_a_drawn_nucleus_takes_the_free_pixels_inside_its_line():
    nuclei = of((10, 10, 20, 20))
    nuclei.put(edits.add(nuclei, [[5, 5], [15, 5], [15, 15], [5, 15]]))
    expected = np.zeros(SHAPE, int)
    expected[5:15, 5:15] = 2
    expected[10:20, 10:20] = 1
    np.testing.assert_array_equal(labels(nuclei), expected)


def test_a_line_around_taken_pixels_only_adds_nothing():
    with pytest.raises(InputError, match="nothing is free"):
        edits.add(of((10, 10, 20, 20)), [[11, 11], [15, 11], [15, 15]])


@pytest.mark.parametrize("ring", [[[-50, -50], [-40, -50], [-40, -40]], [[5, 5]], [[5, 5], [9, 9]]])
def test_a_line_that_holds_no_pixel_is_said_so(ring):
    with pytest.raises(InputError):
        edits.add(of(), ring)


def test_merging_keeps_every_pixel_and_the_lowest_number():
    nuclei = of((2, 2, 10, 10), (10, 4, 18, 12), (30, 30, 35, 35))
    before = labels(nuclei)
    nuclei.put(edits.merge(nuclei, [2, 1]))
    np.testing.assert_array_equal(labels(nuclei), np.where(before == 2, 1, before))


@pytest.mark.parametrize("line", [[[15, 0], [15, 39]], [[0, 15], [59, 15]], [[8, 8], [22, 22]], [[22, 9], [9, 23]]])
def test_a_split_loses_no_pixel_and_parts_the_sides(line):
    nuclei = of((10, 10, 20, 20), (40, 10, 50, 12))
    before = whole(nuclei, 1)
    nuclei.put(edits.split(nuclei, line, [1]))
    after = labels(nuclei)
    np.testing.assert_array_equal(np.isin(after, [1, 3]), before)
    assert {1, 2, 3} == set(np.unique(after)) - {0}
    assert (after == 1).sum() >= (after == 3).sum()
    # On either side of the line, away from it, one part only.
    (ax, ay), (bx, by) = line
    y, x = np.nonzero(before)
    side = (bx - ax) * (y + 0.5 - ay) - (by - ay) * (x + 0.5 - ax)
    length = np.hypot(bx - ax, by - ay)
    for far in (side > 1.5 * length, side < -1.5 * length):
        assert len(np.unique(after[y[far], x[far]])) == 1


@pytest.mark.parametrize("line", [[[15, 0], [15, 15]], [[0, 5], [59, 5]], [[10, 0], [10, 39]]])
def test_a_line_that_does_not_cross_divides_nothing(line):
    with pytest.raises(InputError, match="divides no nucleus"):
        edits.split(of((10, 10, 20, 20)), line)


def test_a_line_without_numbers_divides_what_it_crosses_and_nothing_else():
    nuclei = of((10, 10, 20, 20), (30, 10, 40, 20), (10, 30, 20, 39))
    nuclei.put(edits.split(nuclei, [[5, 15], [45, 15]]))
    assert len(nuclei) == 5
    assert whole(nuclei, 3).sum() == 90


def test_a_brush_paints_its_circle_on_free_pixels():
    nuclei = of((10, 10, 20, 20), (24, 10, 30, 20))
    nuclei.put(edits.brush(nuclei, [[20, 15]], 5, 1))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disk = (x + 0.5 - 20) ** 2 + (y + 0.5 - 15) ** 2 <= 25
    other = np.zeros(SHAPE, bool)
    other[10:20, 24:30] = True
    square = np.zeros(SHAPE, bool)
    square[10:20, 10:20] = True
    np.testing.assert_array_equal(whole(nuclei, 1), (square | disk) & ~other)
    np.testing.assert_array_equal(whole(nuclei, 2), other)


def test_a_brush_without_a_number_makes_a_nucleus():
    nuclei = of((10, 10, 20, 20))
    nuclei.put(edits.brush(nuclei, [[40, 20], [50, 20]], 2))
    assert 40 < whole(nuclei, 2).sum() < 70


def test_an_eraser_through_the_middle_leaves_two():
    nuclei = of((10, 10, 30, 20))
    before = whole(nuclei, 1)
    nuclei.put(edits.erase(nuclei, [[18, 5], [18, 25]], 1.5))
    after = labels(nuclei)
    gone = before & (after == 0)
    assert set(np.flatnonzero(gone.any(axis=0))) == {16, 17, 18, 19}
    assert (after == 1).sum() > (after == 2).sum() > 0


def test_an_eraser_over_all_of_it_removes_it():
    nuclei = of((10, 10, 14, 14), (30, 10, 40, 20))
    nuclei.put(edits.erase(nuclei, [[12, 12]], 9))
    assert nuclei.masks()[0] == [2]


def test_smoothing_takes_a_whisker_off_and_keeps_neighbours():
    nuclei = of((10, 10, 30, 30), (30, 10, 45, 30))
    spiky = whole(nuclei, 1)
    spiky[5:10, 20] = True
    nuclei.put({1: Nucleus((10, 5, 30, 30), spiky[5:30, 10:30])})
    other = whole(nuclei, 2)
    nuclei.put(edits.smooth(nuclei, [1]))
    assert not whole(nuclei, 1)[:9].any()
    assert whole(nuclei, 1)[12:28, 12:28].all()
    np.testing.assert_array_equal(whole(nuclei, 2), other)
    labels(nuclei)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda n: edits.merge(n, [1]),
        lambda n: edits.merge(n, [1, 9]),
        lambda n: edits.delete(n, []),
        lambda n: edits.delete(n, [7]),
        lambda n: edits.brush(n, [[1, 1]], 0, 1),
        lambda n: edits.brush(n, [[1, 1]], 1e9, 1),
        lambda n: edits.brush(n, [[float("nan"), 1]], 2, 1),
        lambda n: edits.brush(n, [], 2, 1),
        lambda n: edits.erase(n, [[55, 35]], 2),
        lambda n: edits.smooth(n, [1], 0),
        lambda n: edits.classify(n, [1], 256),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(wrong):
    with pytest.raises(InputError) as caught:
        wrong(of((10, 10, 20, 20)))
    assert "\n" not in str(caught.value)


def test_a_new_prediction_leaves_what_a_person_has_done():
    nuclei = of((2, 2, 10, 10), (20, 2, 30, 10), (40, 20, 50, 30))
    nuclei.put(edits.classify(nuclei, [1], 2))
    found = CropMasks(
        SHAPE,
        # Over the nucleus by hand; half over it; in the reviewed region; anew.
        np.array([[2, 2, 10, 10], [8, 2, 20, 10], [41, 21, 50, 30], [22, 22, 30, 30]]),
        [np.ones((8, 8), bool), np.ones((8, 12), bool), np.ones((9, 9), bool), np.ones((8, 8), bool)],
        [0.9, 0.8, 0.7, 0.6],
    )
    kept, added = edits.predicted(nuclei, found, [(35, 15, 60, 40)])
    assert kept == [1, 3]
    assert [nucleus.box for nucleus in added.values()] == [(10, 2, 20, 10), (22, 22, 30, 30)]
    assert sorted(added) == [4, 5]


def test_nuclei_come_back_from_json_and_from_their_file(tmp_path):
    random = np.random.default_rng(0)
    bitmaps = [random.random((7, 11)) > 0.5 for _ in range(5)]
    for bitmap in bitmaps:
        bitmap[0, 0] = bitmap[-1, -1] = True
    nuclei = Nuclei(SHAPE)
    for k, bitmap in enumerate(bitmaps):
        nuclei.put({k + 1: Nucleus((k, k, k + 11, k + 7), bitmap, k / 8, k, k % 2 == 0)})
    for number in nuclei.masks()[0]:
        assert nuclei[number].same(from_json(to_json(nuclei[number])))
    write_masks(tmp_path / "masks.npz", nuclei.masks()[1])
    back = read_masks(tmp_path / "masks.npz")
    np.testing.assert_array_equal(back.boxes, nuclei.masks()[1].boxes)
    for one, other in zip(back.bitmaps, bitmaps, strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "masks.npz").write_bytes((tmp_path / "masks.npz").read_bytes()[:-40])
    with pytest.raises(InputError, match="predict them again"):
        read_masks(tmp_path / "masks.npz")

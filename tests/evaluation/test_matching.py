import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskseg.core.errors import InputError
from maskseg.evaluation.matching import matches, overlaps

label_images = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.int32, shape, elements=st.integers(0, 6)),
        hnp.arrays(np.int32, shape, elements=st.integers(0, 6)),
    )
)


@pytest.mark.slow
@given(label_images)
def test_areas_intersections_and_unions_are_those_of_the_dense_masks(images):
    truth, prediction = images
    pairs = overlaps(truth, prediction)

    found = {}
    for t, p, intersection, union in zip(
        pairs.truth_labels[pairs.truth_index],
        pairs.pred_labels[pairs.pred_index],
        pairs.intersection,
        pairs.union,
        strict=True,
    ):
        found[int(t), int(p)] = (int(intersection), int(union))
    expected = {}
    for t in set(truth.ravel().tolist()) - {0}:
        for p in set(prediction.ravel().tolist()) - {0}:
            if ((truth == t) & (prediction == p)).any():
                a, b = truth == t, prediction == p
                expected[t, p] = (int((a & b).sum()), int((a | b).sum()))
    assert found == expected
    assert pairs.truth_areas.tolist() == [(truth == t).sum() for t in pairs.truth_labels]
    assert pairs.pred_areas.tolist() == [(prediction == p).sum() for p in pairs.pred_labels]


@pytest.mark.slow
@given(label_images, st.sampled_from([50, 55, 75, 95]))
def test_a_nucleus_matches_at_most_one(images, percent):
    pairs = overlaps(*images)
    matched = matches(pairs, percent)
    for index in (pairs.truth_index, pairs.pred_index):
        assert len(set(index[matched].tolist())) == matched.sum()


@pytest.mark.slow
@given(label_images, st.randoms(use_true_random=False))
def test_renaming_the_labels_changes_no_pair(images, random):
    truth, prediction = images
    names = np.array([0, *random.sample(range(1, 2**32), 6)], np.uint32)
    plain, renamed = overlaps(truth, prediction), overlaps(names[truth], prediction)
    assert sorted(zip(plain.intersection, plain.union, strict=True)) == sorted(
        zip(renamed.intersection, renamed.union, strict=True)
    )
    assert sorted(plain.truth_areas) == sorted(renamed.truth_areas)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_dtype_gives_the_same_pairs(dtype):
    truth = np.array([[1, 1, 0], [0, 1, 0]]).astype(dtype)
    pairs = overlaps(truth, np.array([[1, 0, 0], [0, 1, 2]]))
    assert pairs.intersection.tolist() == [2]
    assert pairs.union.tolist() == [3]
    assert pairs.pred_areas.tolist() == [2, 1]


@pytest.mark.parametrize(("shared", "union", "percent"), [(1, 2, 50), (3, 4, 75), (11, 20, 55), (19, 20, 95)])
def test_an_iou_of_exactly_the_threshold_is_no_match(shared, union, percent):
    prediction = np.ones((1, union), int)
    truth = np.zeros((1, union), int)
    truth[0, :shared] = 1
    pairs = overlaps(truth, prediction)
    assert not matches(pairs, percent).any()

    # One pixel less of union, or the next lower threshold, decides for a match.
    assert matches(overlaps(truth[:, :-1], prediction[:, :-1]), percent).all()
    if percent > 50:
        assert matches(pairs, percent - 5).all()


def test_a_threshold_below_one_half_is_refused():
    with pytest.raises(ValueError, match="unique"):
        matches(overlaps(np.ones((2, 2), int), np.ones((2, 2), int)), 45)


@pytest.mark.parametrize(
    ("truth", "prediction", "says"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), "5 x 4"),
        (np.zeros((4, 5)), np.zeros((4, 5), int), "float64"),
        (np.zeros((4, 5), int), np.zeros((4, 5, 1), int), "prediction has the shape"),
        (np.full((4, 5), -1), np.zeros((4, 5), int), "below 0"),
        (np.zeros((4, 5), int), np.full((4, 5), 2**32), "above"),
    ],
)
def test_what_is_no_pair_of_label_images_is_named(truth, prediction, says):
    with pytest.raises(InputError, match=says):
        overlaps(truth, prediction)


@pytest.mark.parametrize(("shared", "union", "percent"), [(1, 2, 50), (3, 4, 75), (11, 20, 55), (19, 20, 95)])
def test_inclusive_an_iou_of_exactly_the_threshold_is_a_match(shared, union, percent):
    prediction = np.ones((1, 100), int)
    prediction[0, union:] = 0
    truth = np.zeros((1, 100), int)
    truth[0, :shared] = 1
    assert matches(overlaps(truth, prediction), percent, inclusive=True).all()
    prediction[0, union] = 1
    assert not matches(overlaps(truth, prediction), percent, inclusive=True).any()


@pytest.mark.slow
@given(label_images, st.sampled_from([50, 55, 75, 95]))
def test_inclusive_a_nucleus_matches_at_most_one_and_as_many_match_as_can(images, percent):
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    pairs = overlaps(*images)
    matched = matches(pairs, percent, inclusive=True)
    for index in (pairs.truth_index, pairs.pred_index):
        assert len(set(index[matched].tolist())) == matched.sum()
    enough = 100 * pairs.intersection >= percent * pairs.union
    assert not (matched & ~enough).any()
    shape = (len(pairs.truth_areas) + 1, len(pairs.pred_areas) + 1)
    # SciPy before 1.15 matches with places of 32 bits only.
    places = tuple(index[enough].astype(np.int32) for index in (pairs.truth_index, pairs.pred_index))
    table = csr_array((np.ones(enough.sum()), places), shape=shape)
    assert matched.sum() == (maximum_bipartite_matching(table) >= 0).sum()


def test_inclusive_one_of_two_equal_halves_matches():
    whole, halves = np.ones((1, 4), int), np.array([[1, 1, 2, 2]])
    for pairs in (overlaps(whole, halves), overlaps(halves, whole)):
        assert matches(pairs, 50, inclusive=True).sum() == 1
        assert matches(pairs, 50).sum() == 0

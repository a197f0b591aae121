import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from maskseg.core.errors import InputError
from maskseg.formats.label_values import instances

from .annotated import LABELS

DISCS = np.zeros((60, 80), np.uint8)
for _number, (_y, _x, _r) in enumerate([(10, 10, 6), (12, 40, 8), (30, 20, 5), (45, 60, 9), (40, 30, 4)], start=1):
    DISCS[np.hypot(*(np.indices(DISCS.shape) - [[[_y]], [[_x]]])) <= _r] = _number


def pieces(labels):
    return {np.packbits(labels == value).tobytes() for value in np.unique(labels) if value}


def test_labels_are_left_as_they_are():
    for labels in (LABELS, DISCS, np.zeros((5, 5), np.int32), (LABELS == 2) * 3, np.arange(400).reshape(20, 20)):
        found, classes, _ = instances(labels)
        np.testing.assert_array_equal(found, labels)
        assert classes is None
    assert instances(LABELS)[2] == []


@pytest.mark.parametrize("values", [(DISCS > 0), (DISCS > 0) * np.uint8(255), (DISCS > 0) * np.uint8(1)])
def test_masks_of_two_values_are_taken_apart(values):
    found, classes, notes = instances(values)
    assert pieces(found) == pieces(DISCS)
    assert classes is None
    assert len(notes) == 1


def test_classes_are_taken_apart_and_kept():
    kinds = np.array([0, 1, 2, 1, 2, 1])[DISCS]
    # Two values in five pieces are few; nine are many.
    values = np.concatenate([kinds, kinds], axis=1)
    found, classes, notes = instances(values)
    assert pieces(found) == pieces(np.concatenate([DISCS, DISCS + 5 * (DISCS > 0)], axis=1))
    assert [values[found == number + 1][0] for number in range(10)] == classes.tolist()
    assert "classes" in notes[0]


def test_an_interior_and_its_border_are_one_nucleus():
    border = (DISCS > 0) & ~ndimage.binary_erosion(DISCS > 0)
    for inside, around in ((1, 2), (255, 128)):
        found, _, notes = instances(np.where(border, around, np.where(DISCS > 0, inside, 0)))
        assert pieces(found) == pieces(DISCS)
        assert "border" in notes[0]


def test_nuclei_that_a_border_divides_stay_two():
    values = np.zeros((20, 30), np.uint8)
    values[2:18, 2:28] = 2
    values[3:17, 3:14] = values[3:17, 16:27] = 1
    values[0, 0] = 2
    found, _, _ = instances(values)
    assert len(pieces(found)) == 3
    assert (found[10, :15][2:] == found[10, 5]).all()
    assert (found[10, 15:28] == found[10, 20]).all()
    np.testing.assert_array_equal(found > 0, values > 0)


def test_colours_are_labels_where_they_lie_in_pieces():
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9], [255, 0, 0]], np.uint8)
    for background in (0, 255):
        colours = palette.copy()
        colours[0] = background
        found, _, notes = instances(colours[DISCS])
        assert pieces(found) == pieces(DISCS)
        assert "colours" in notes[0]
    grey = np.repeat(DISCS[..., None], 3, axis=2)
    np.testing.assert_array_equal(instances(grey)[0], DISCS)
    clear = np.concatenate([palette[DISCS], np.where(DISCS[..., None] == 2, 0, 255)], axis=2).astype(np.uint8)
    assert len(pieces(instances(clear)[0])) == 4


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_photograph_is_refused(channels):
    generator = np.random.default_rng(0)
    photo = ndimage.gaussian_filter(DISCS * 20.0 + 20, 2)
    photo = (photo[..., None] if channels else photo) + generator.normal(0, 3, (*DISCS.shape, *channels))
    with pytest.raises(InputError, match="photograph"):
        instances(photo.clip(0, 255).astype(np.uint8))


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.int32, bool]), st.sampled_from([(), (3,), (4,)]))
def test_whatever_it_is_the_background_stays_background(seed, dtype, channels):
    values = np.random.default_rng(seed).integers(0, 3, (6, 7, *channels)).astype(dtype)
    try:
        found, classes, _ = instances(values)
    except InputError:
        return
    assert found.shape == (6, 7)
    if not channels:
        np.testing.assert_array_equal(found != 0, values != 0)
    assert classes is None or len(classes) == len(np.unique(found[found > 0]))


def scattered(shape=(80, 100)):
    """Seven nuclei on 0, none of them at the edge."""
    labels = np.zeros(shape, np.int32)
    for number in range(7):
        y, x = 8 + 24 * (number // 3), 10 + 30 * (number % 3)
        labels[y : y + 12, x : x + 14] = number + 1
    return labels


def test_labels_that_begin_with_the_background_are_told():
    labels = scattered()
    found, classes, notes = instances(labels + 1)
    assert ((found == 0) == (labels == 0)).all() and len(np.unique(found)) == 8
    assert classes is None and "the value 1 taken for background" in notes[0]
    # ilastik: 1 is the one class, 2 the other.
    found, _, notes = instances(np.where(labels > 0, 2, 1).astype(np.uint8))
    assert ((found == 0) == (labels == 0)).all() and len(np.unique(found)) == 8 and len(notes) == 2


def test_cells_without_gaps_have_no_background():
    rows, columns = np.mgrid[:60, :60]
    cells = 1 + rows // 15 * 4 + columns // 15
    found, _, notes = instances(cells)
    assert (found == cells).all() and notes == []


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_of_the_background_is_refused(value):
    with pytest.raises(InputError, match="background and nuclei are exchanged"):
        instances(np.where(scattered() > 0, 0, value).astype(np.uint8))
    # One large nucleus with vacuoles is one.
    labels = np.zeros((80, 100), np.uint8)
    labels[4:76, 4:96] = value
    labels[20:24, 20:24] = labels[40:44, 60:64] = 0
    assert instances(labels)[0].max() > 0

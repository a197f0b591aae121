import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.overlay import PREDICTION_COLOUR, TRUTH_COLOUR, overlay, panel, write_picture

GREY = (90, 90, 90)


def where(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=2)


def grey(shape):
    return np.full((*shape, 3), 90, np.uint8)


@pytest.mark.slow
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
@settings(max_examples=8)
def test_every_nucleus_is_outlined_inside_itself(labels):
    picture = overlay(grey(labels.shape), truth=labels)
    factor = picture.shape[0] // labels.shape[0]
    large = labels.repeat(factor, 0).repeat(factor, 1)
    red = where(picture, TRUTH_COLOUR)
    assert not red[large == 0].any()
    assert (where(picture, GREY) | red).all()
    # A line runs along both sides of every step between two labels; 0 keeps no line.
    for axis in (0, 1):
        step = np.diff(large, axis=axis) != 0
        pad = [(0, 1), (0, 0)] if axis == 0 else [(0, 0), (0, 1)]
        before = np.pad(step, pad)
        after = np.roll(before, 1, axis=axis)
        assert red[(before | after) & (large > 0)].all()


def test_a_small_image_is_enlarged_so_that_the_line_hides_little():
    labels = np.zeros((64, 64), int)
    labels[10:30, 10:30] = 1
    picture = overlay(grey((64, 64)), truth=labels)
    assert max(picture.shape) >= 1200
    inside = picture[11 * 19 : 29 * 19, 11 * 19 : 29 * 19]  # all but one image pixel around
    assert where(inside, GREY).all()


def test_a_large_image_keeps_its_size_and_the_argument_is_not_drawn_on():
    image = grey((30, 1300))
    labels = np.zeros((30, 1300), int)
    labels[5:20, 100:200] = 4
    picture = overlay(image, prediction=labels)
    assert picture.shape == image.shape
    assert where(image, GREY).all()
    assert where(picture, PREDICTION_COLOUR).sum() == 2 * (100 + 15) - 4


def test_truth_and_prediction_can_be_told_apart_where_they_agree():
    labels = np.zeros((40, 1200), int)
    labels[5:30, 100:200] = 1
    picture = overlay(grey(labels.shape), labels, labels)
    red, blue = where(picture, TRUTH_COLOUR), where(picture, PREDICTION_COLOUR)
    assert (red | blue).sum() == where(overlay(grey(labels.shape), labels), TRUTH_COLOUR).sum()
    assert 0.3 < red.sum() / (red.sum() + blue.sum()) < 0.7


def test_masks_and_grey_images_are_drawn_alike():
    labels = np.zeros((50, 60), int)
    labels[5:20, 10:30], labels[20:25, 10:30] = 3, 7
    expected = overlay(grey((50, 60)), labels)
    assert (overlay(np.full((50, 60), 90, np.uint8), CropMasks.from_labels(labels)) == expected).all()
    assert where(overlay(grey((50, 60))), GREY).all()


def test_masks_of_another_size_are_refused():
    with pytest.raises(InputError, match="6 x 5 pixels on an image of 5 x 6"):
        overlay(grey((5, 6)), truth=np.zeros((6, 5), int))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_sheet_shows_every_picture(count):
    colours = [(20 * i + 10, 200, 30) for i in range(count)]
    pictures = [(f"picture {i}", np.full((60, 90 + 10 * i, 3), c, np.uint8)) for i, c in enumerate(colours)]
    sheet = panel(pictures, cell=120)
    assert sheet.dtype == np.uint8
    for i, colour in enumerate(colours):
        height = round(60 * 120 / (90 + 10 * i))
        assert where(sheet, colour).sum() == 120 * height


@pytest.mark.slow
def test_a_sheet_has_the_columns_asked_for_and_titles_that_fit():
    picture = np.zeros((80, 80, 3), np.uint8)
    one, many = (
        panel([("a", picture)] * 6, columns=1, cell=80),
        panel([("a", picture)] * 6, columns=6, cell=80),
    )
    assert one.shape[0] > 6 * 80 > one.shape[1]
    assert many.shape[1] > 6 * 80 > many.shape[0]
    assert panel([("a" * 500, picture)], cell=80).shape == panel([("a", picture)], cell=80).shape
    with pytest.raises(ValueError, match="at least one"):
        panel([])


def test_a_picture_is_written_in_its_own_colours(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_picture(tmp_path / "new" / "x.png", picture)
    assert (np.asarray(Image.open(tmp_path / "new" / "x.png")) == picture).all()

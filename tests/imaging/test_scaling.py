"""Images and their labels in another size."""

import numpy as np
import pytest

from maskseg.imaging.scaling import labels_to_shape, to_shape


@pytest.mark.parametrize("shape", [(40, 50), (50, 64), (75, 90), (100, 125), (31, 41), (13, 17)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, bool])
def test_labels_stay_on_their_image(shape, kind):
    labels = np.zeros((50, 64), kind)
    labels[20:31, 25:42] = 1
    moved = labels_to_shape(labels, shape)
    assert moved.dtype == kind and moved.shape == shape and set(np.unique(moved)) == {0, 1}
    image = to_shape(labels.astype(np.uint8) * 255, shape).astype(float)
    for axis in (0, 1):
        at = [np.average(np.indices(shape)[axis], weights=of) for of in (moved, image)]
        assert abs(at[0] - at[1]) < 0.5
    assert np.array_equal(labels_to_shape(labels[::-1, ::-1], shape), moved[::-1, ::-1])


def test_magnified_by_a_whole_number_every_pixel_is_repeated():
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert np.array_equal(labels_to_shape(labels, (9, 8)), labels.repeat(3, axis=0).repeat(2, axis=1))

"""Operations on the pixels of one mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from maskseg.core.morphology import components


@pytest.mark.slow
@pytest.mark.parametrize(("connectivity", "structure"), [(8, np.ones((3, 3))), (4, None)])
@given(bitmap=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 14))))
def test_components_are_those_of_scipy(connectivity, structure, bitmap):
    labels, areas = components(bitmap, connectivity)
    expected, count = ndimage.label(bitmap, structure)
    assert len(areas) == count
    # Numbered by their first pixels, wherever the crop begins: of two of one size the first one is kept.
    assert labels.tolist() == expected.tolist()
    assert areas.tolist() == np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()

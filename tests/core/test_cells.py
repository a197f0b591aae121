"""Cells are those of scikit-image's expand_labels, also where the nuclei come tile by tile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import expand_labels

from maskseg.core.cells import Growing, grow
from maskseg.core.masks import CropMasks


def labels_of(rng, shape, count):
    """Disks of random size that do not overlap, some cut by the border."""
    labels = np.zeros(shape, int)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for label in range(1, count + 1):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        labels[(np.hypot(rows - y, columns - x) < rng.uniform(1, 7)) & (labels == 0)] = label
    return labels


def tied(labels, distance):
    """Pixels that are equally near to several nuclei: which of them has the pixel is not defined."""
    far = np.array([distance_transform_edt(labels != value) for value in np.unique(labels[labels > 0])])
    near = far.min(axis=0)
    return (np.isclose(far, near).sum(axis=0) > 1) & (near <= distance) & (near > 0)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0, 3.7, 5.0, 12.0]))
def test_cells_are_those_of_scikit_image(seed, distance):
    rng = np.random.default_rng(seed)
    labels = labels_of(rng, (50, 70), 12)
    masks = CropMasks.from_labels(labels)
    cells = grow(masks, distance)
    total = np.zeros(labels.shape, int)
    for (x0, y0, x1, y1), bitmap in zip(cells.boxes, cells.bitmaps, strict=True):
        total[y0:y1, x0:x1] += bitmap
    assert total.max(initial=0) <= 1
    theirs = expand_labels(masks.to_labels(), distance)
    np.testing.assert_array_equal(total > 0, theirs > 0)
    defined = ~tied(masks.to_labels(), distance)
    np.testing.assert_array_equal(cells.to_labels()[defined], theirs[defined])


@pytest.mark.slow
@pytest.mark.parametrize("distance", [1, 4.5, 20])
def test_cells_are_the_same_row_by_row(distance):
    labels = labels_of(np.random.default_rng(3), (120, 90), 80)
    masks = CropMasks.from_labels(labels)
    masks = masks[np.argsort(masks.boxes[:, 1], kind="stable")]
    growing = Growing(masks.shape, distance)
    whole = {cell.number: cell for cell in [*growing.add(masks, 0), *growing.close()]}
    growing, found, most = Growing(masks.shape, distance), [], 0
    for row in range(0, 120, 5):
        some = masks[(masks.boxes[:, 1] >= row) & (masks.boxes[:, 1] < row + 5)]
        found += growing.add(some, row + 5)
        most = max(most, len(growing._held))
    found += growing.close()
    assert len(found) == len(masks) and most < len(masks)
    for cell in found:
        other = whole[cell.number]
        assert (cell.box, cell.neighbours) == (other.box, other.neighbours)
        np.testing.assert_array_equal(cell.cell, other.cell)
        np.testing.assert_array_equal(cell.nucleus, other.nucleus)


def test_neighbours_are_those_that_a_cell_can_touch():
    one = np.ones((2, 2), bool)
    masks = CropMasks((20, 40), [[2, 5, 4, 7], [8, 5, 10, 7], [25, 5, 27, 7]], [one] * 3)
    counts = {}
    for distance in (2, 2.5, 9):
        growing = Growing(masks.shape, distance)
        counts[distance] = [cell.neighbours for cell in [*growing.add(masks, 0), *growing.close()]]
    # Five pixels from edge to edge of the first two, 16 of the last two.
    assert counts == {2: [0, 0, 0], 2.5: [1, 1, 0], 9: [1, 2, 1]}


def test_overlapping_nuclei_keep_their_pixels_and_empty_ones_have_none():
    masks = CropMasks(
        (20, 20), [[2, 2, 8, 8], [6, 2, 12, 8], [0, 0, 0, 0]], [np.ones((6, 6), bool)] * 2 + [np.zeros((0, 0), bool)]
    )
    cells = grow(masks, 2)
    assert len(cells) == 3 and cells.areas[2] == 0
    for nucleus, cell in zip(masks[:2].to_rle(), cells[:2].to_rle(), strict=True):
        assert nucleus != cell
    assert cells.areas[0] > 36 < cells.areas[1]


def test_a_distance_is_above_0():
    with pytest.raises(ValueError, match="above 0"):
        Growing((5, 5), 0)

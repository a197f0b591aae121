import numpy as np
import pytest
import roifile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskseg.core.masks import CropMasks
from maskseg.core.outlines import fill
from maskseg.formats.imagej import write_imagej
from maskseg.formats.labels import read_labels, write_labels

# Few labels on few pixels: pieces, holes, nuclei inside nuclei and contacts at corners are common.
label_images = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=st.integers(0, 3)
)


def pixels(roi, box):
    """What ImageJ fills: a centre is inside where an odd number of rings is around it."""
    inside = np.zeros((box[3] - box[1], box[2] - box[0]), bool)
    for ring in roi.coordinates(multi=True):
        inside ^= fill([[ring]], box)
    return inside


def drawn(path, shape):
    """The label image of a zip: each region filled with the number that is its name."""
    labels = np.zeros(shape, np.int32)
    for roi in roifile.roiread(path):
        labels[roi.top : roi.bottom, roi.left : roi.right][pixels(roi, (roi.left, roi.top, roi.right, roi.bottom))] = (
            int(roi.name)
        )
    return labels


@pytest.mark.slow
@given(label_images)
def test_regions_drawn_again_are_the_label_image(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "round.zip"
    masks = CropMasks.from_labels(labels)
    write_imagej(path, masks)
    np.testing.assert_array_equal(drawn(path, masks.shape), masks.to_labels())


@pytest.mark.slow
def test_real_nuclei_drawn_again_are_the_label_image(tmp_path, sample_masks):
    for masks in sample_masks:
        write_imagej(tmp_path / "x.zip", masks)
        write_labels(tmp_path / "x.tif", masks.to_labels())
        np.testing.assert_array_equal(drawn(tmp_path / "x.zip", masks.shape), read_labels(tmp_path / "x.tif"))


def test_a_piece_is_traced_and_what_has_holes_or_pieces_is_composite(tmp_path):
    labels = np.zeros((9, 9), int)
    labels[1:4, 1:4], labels[2, 2] = 1, 0
    labels[6, 6], labels[7:9, 7] = 2, 2
    labels[5:9, 1:3] = 3
    write_imagej(tmp_path / "x.zip", CropMasks.from_labels(labels, [0.5, 0.7, 1]))
    rois = roifile.roiread(tmp_path / "x.zip")
    assert [roi.composite for roi in rois] == [True, True, False]
    assert [roi.roitype.name for roi in rois] == ["RECT", "RECT", "TRACED"]
    assert [roi.properties["score"] for roi in rois] == [0.5, 0.7, 1]
    assert rois[2].coordinates().tolist() == [[1, 5], [3, 5], [3, 9], [1, 9]]
    assert [(roi.left, roi.top, roi.right, roi.bottom) for roi in rois] == [(1, 1, 4, 4), (6, 6, 8, 9), (1, 5, 3, 9)]


def test_corners_beyond_two_bytes_stay_where_they_are(tmp_path):
    """As on a slide; ImageJ wraps whole numbers above 60,535."""
    for x in (32_767, 60_000, 65_530, 99_990):
        box = (x, 40_000, x + 4, 40_003)
        bitmap = np.ones((3, 4), bool)
        bitmap[0, 0] = False
        write_imagej(tmp_path / "x.zip", CropMasks((100_000, 100_000), [box], [bitmap]))
        (roi,) = roifile.roiread(tmp_path / "x.zip")
        np.testing.assert_array_equal(pixels(roi, box), bitmap)


def test_the_same_nuclei_are_the_same_bytes_and_empty_masks_no_region(tmp_path):
    masks = CropMasks((5, 5), [(0, 0, 0, 0), (1, 1, 3, 3)], [np.zeros((0, 0), bool), np.ones((2, 2), bool)])
    for name in ("a.zip", "b.zip"):
        write_imagej(tmp_path / name, masks)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert [roi.name for roi in roifile.roiread(tmp_path / "a.zip")] == ["0002"]
    write_imagej(tmp_path / "c.zip", CropMasks.empty((5, 5)))
    assert roifile.roiread(tmp_path / "c.zip") == []

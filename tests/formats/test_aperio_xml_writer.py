from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.formats.aperio_xml import read_regions, region_masks, write_aperio_xml
from tests.fixtures.converting import convert_folders as convert

SAMPLE = Path(__file__).parents[2] / "datasets" / "sample" / "heldout"
label_images = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=st.integers(0, 3)
)


def read(path, shape, **options):
    drawn = region_masks(read_regions(path).regions, shape, **options)
    assert not drawn.lost
    assert not drawn.beyond
    return drawn.masks


@pytest.mark.slow
@given(label_images)
def test_label_images_come_back_exactly(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "round.xml"
    masks = CropMasks.from_labels(labels)
    write_aperio_xml(path, masks)
    np.testing.assert_array_equal(read(path, labels.shape).to_labels(), masks.to_labels())


@pytest.mark.slow
def test_real_nuclei_come_back_exactly(tmp_path):
    convert(SAMPLE, tmp_path, progress=False)
    data = load_coco(tmp_path)
    assert len(data.images) == 8
    for image in data.images:
        masks = data.masks(image)
        write_aperio_xml(tmp_path / "x.xml", masks)
        found = read(tmp_path / "x.xml", masks.shape)
        np.testing.assert_array_equal(found.boxes, masks.boxes)
        for bitmap, expected in zip(found.bitmaps, masks.bitmaps, strict=True):
            np.testing.assert_array_equal(bitmap, expected)


@pytest.mark.parametrize("offset", [(-1, -1), (-0.5, -0.5), (3, 0.25)])
def test_the_offset_of_the_reader_is_undone(tmp_path, offset):
    labels = np.zeros((6, 7), int)
    labels[1:4, 2:7] = 1
    write_aperio_xml(tmp_path / "x.xml", CropMasks.from_labels(labels), offset=offset)
    np.testing.assert_array_equal(read(tmp_path / "x.xml", labels.shape, offset=offset).to_labels(), labels)


def test_with_pixel_corners_at_whole_numbers_the_vertices_are_the_corners(tmp_path):
    write_aperio_xml(tmp_path / "x.xml", CropMasks.from_labels(np.ones((2, 3), int)), offset=(-0.5, -0.5))
    (region,) = read_regions(tmp_path / "x.xml").regions
    assert region.points.tolist() == [[0, 0], [3, 0], [3, 2], [0, 2]]


def test_a_hole_is_a_negative_region_of_the_same_nucleus(tmp_path):
    labels = np.zeros((5, 9), int)
    labels[0:5, 0:5], labels[1:4, 1:4], labels[2, 6], labels[2, 8] = 1, 0, 2, 2
    write_aperio_xml(tmp_path / "x.xml", CropMasks.from_labels(labels, [0.5, 1]), microns_per_pixel=0.5)
    file = read_regions(tmp_path / "x.xml")
    assert file.microns_per_pixel == 0.5
    assert [(region.nucleus, region.negative) for region in file.regions] == [
        ("1", False),
        ("1", True),
        ("2", False),
        ("2", False),
    ]
    outer, hole, *_ = ElementTree.parse(tmp_path / "x.xml").iterfind("Annotation/Regions/Region")
    sizes = ("Length", "Area", "LengthMicrons", "AreaMicrons")
    assert [float(outer.get(name)) for name in sizes] == [20, 25, 10, 6.2]
    assert [float(hole.get(name)) for name in sizes] == [12, 9, 6, 2.2]


def test_without_nuclei_it_is_an_empty_layer(tmp_path):
    write_aperio_xml(tmp_path / "x.xml", CropMasks.empty((4, 5)))
    assert read_regions(tmp_path / "x.xml") == ([], None)
    assert len(read(tmp_path / "x.xml", (4, 5))) == 0

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskseg.core.masks import CropMasks
from maskseg.core.outlines import outlines
from maskseg.formats.svg import write_svg

SVG = "{http://www.w3.org/2000/svg}"
label_images = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=st.integers(0, 3)
)


def rings(path):
    """Vertices of the subpaths, by SVG's meaning of M, H, V and Z."""
    found = []
    for letter, numbers in re.findall(r"([MHVZ])([\d ]*)", path.get("d")):
        values = [int(number) for number in numbers.split()]
        if letter == "M":
            found.append([values])
        elif letter == "H":
            found[-1].append([values[0], found[-1][-1][1]])
        elif letter == "V":
            found[-1].append([found[-1][-1][0], values[0]])
    return found


def assert_outlines(path, masks):
    root = ET.parse(path).getroot()
    assert root.get("viewBox") == f"0 0 {masks.shape[1]} {masks.shape[0]}"
    paths = root.findall(f"{SVG}path")
    assert [item.get("id") for item in paths] == [f"nucleus-{label}" for label in range(1, len(masks) + 1)]
    for item, bitmap, box in zip(paths, masks.bitmaps, masks.boxes.tolist(), strict=True):
        expected = [ring.tolist() for polygon in outlines(bitmap, (box[0], box[1])) for ring in polygon]
        assert rings(item) == expected


@pytest.mark.slow
@given(label_images)
def test_vertices_are_those_of_the_outlines(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "x.svg"
    masks = CropMasks.from_labels(labels)
    write_svg(path, masks)
    assert_outlines(path, masks)


def test_real_nuclei(tmp_path, sample_masks):
    for masks in sample_masks:
        write_svg(tmp_path / "x.svg", masks)
        assert_outlines(tmp_path / "x.svg", masks)


def test_a_path_tells_label_and_score_and_an_empty_mask_has_none(tmp_path):
    masks = CropMasks((4, 5), [(0, 0, 0, 0), (1, 1, 3, 3)], [np.zeros((0, 0), bool), np.ones((2, 2), bool)], [1, 0.75])
    write_svg(tmp_path / "x.svg", masks)
    (path,) = ET.parse(tmp_path / "x.svg").getroot().findall(f"{SVG}path")
    assert path.get("id") == "nucleus-2"
    assert path.find(f"{SVG}title").text == "2: 0.750"

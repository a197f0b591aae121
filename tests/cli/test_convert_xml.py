import csv
import json

import numpy as np
import pytest
from PIL import Image

from maskseg.core.masks import CropMasks
from maskseg.formats.aperio_xml import write_aperio_xml


@pytest.fixture
def source(tmp_path):
    """One tissue image of 40 x 40 pixels with two nuclei, one of them on the cut."""
    for folder in ("tissue", "xml"):
        (tmp_path / folder).mkdir()
    labels = np.zeros((40, 40), int)
    labels[2:9, 2:9], labels[15:25, 4:12] = 1, 2
    Image.fromarray((labels > 0).astype(np.uint8) * 200).save(tmp_path / "tissue" / "t.tif")
    write_aperio_xml(tmp_path / "xml" / "t.xml", CropMasks.from_labels(labels), microns_per_pixel=0.25)
    return tmp_path / "tissue", tmp_path / "xml"


def test_a_good_set_ends_well(maskseg, source, tmp_path):
    status, out, err = maskseg("convert", "xml", *source, "-o", tmp_path / "set")
    assert (status, err) == (0, "")
    assert "regions: 1 kept, 0 clipped, 1 divided, 0 hole, 0 dropped" in out
    assert "4 images with 3 nuclei, from 2 regions" in out
    data = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["t_0_0.png", "t_0_1.png", "t_1_0.png", "t_1_1.png"]
    with (tmp_path / "set" / "regions.csv").open(newline="") as file:
        assert [row["pieces"] for row in csv.DictReader(file)] == ["t_0_0", "t_0_0 t_1_0"]


def test_pieces_offset_and_layer_are_options(maskseg, source, tmp_path):
    options = ("--pieces", 1, "--offset", -2, 1, "--layer", "nuclei", "--workers", 1)
    status, _, err = maskseg("convert", "xml", *source, "-o", tmp_path / "set", *options)
    assert (status, err) == (0, "")
    data = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["t.png"]
    assert [item["bbox"] for item in data["annotations"]] == [[1, 4, 7, 7], [3, 17, 8, 10]]


def test_what_is_left_out_is_a_line_each_and_the_status(maskseg, source, tmp_path):
    tissue, xml = source
    (tissue / "empty.tif").write_bytes(b"")
    (xml / "empty.xml").write_text("<Annotations/>")
    (xml / "widow.xml").write_text("<Annotations/>")
    status, out, err = maskseg("convert", "xml", tissue, xml, "-o", tmp_path / "set", "--workers", 1)
    assert status == 2
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        f"left out {tissue / 'empty.tif'}",
        f"left out {xml / 'widow.xml'}",
    ]
    assert "4 images with 3 nuclei, from 2 regions; 2 x image left out" in out


def test_a_bad_argument_is_one_line(maskseg, source, tmp_path):
    status, out, err = maskseg("convert", "xml", source[0], tmp_path / "none", "-o", tmp_path / "set")
    assert (status, out) == (2, "")
    assert "none: no such folder" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "set").exists()

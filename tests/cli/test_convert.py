import json
import shutil
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "datasets" / "sample"
SMALL = ("08ae2741", "6fb82031", "a1f50f10")


@pytest.fixture
def source(tmp_path):
    """Three image folders of the sample, seven nuclei each."""
    for name in SMALL:
        (folder,) = (SAMPLE / "heldout").glob(f"{name}*")
        shutil.copytree(folder, tmp_path / "source" / folder.name)
    return tmp_path / "source"


def test_good_folders_end_well(maskseg, source, tmp_path):
    table = SAMPLE / "modality.csv"
    status, out, err = maskseg("convert", "folders", source, "-o", tmp_path / "set", "--modality", table)
    assert (status, err) == (0, "")
    assert "3 images with 21 nuclei, from 21 mask files" in out
    data = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert len(data["annotations"]) == 21
    assert {image["modality"] for image in data["images"]} == {"white on black"}


def test_what_is_left_out_is_a_line_each_and_the_status(maskseg, source, tmp_path):
    first, second, third = sorted(source.iterdir())
    shutil.rmtree(first / "masks")
    image = next((second / "images").iterdir())
    image.write_bytes(image.read_bytes()[:1000])
    mask = next((third / "masks").iterdir())
    mask.write_bytes(b"")
    status, out, err = maskseg("convert", "folders", source, "-o", tmp_path / "set")
    assert status == 2
    lines = err.splitlines()
    assert len(lines) == 3
    for line, file in zip(lines, (first, second, mask), strict=True):
        assert line.startswith(f"left out {file}: ")
    assert "1 images with 6 nuclei, from 14 mask files; 2 x image left out; 1 x unreadable mask" in out


@pytest.mark.parametrize("bad", ["source", "modality"])
def test_a_bad_argument_is_one_line(bad, maskseg, source, tmp_path):
    options = ["--modality", tmp_path / "none.csv"] if bad == "modality" else []
    status, out, err = maskseg(
        "convert", "folders", tmp_path / "none.csv" if bad == "source" else source, "-o", tmp_path / "set", *options
    )
    assert status == 2
    assert out == ""
    assert "none.csv" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "set").exists()

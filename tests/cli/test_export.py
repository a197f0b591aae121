import cv2
import numpy as np
import pytest

from maskseg.data.dataset import write_coco
from maskseg.formats.coco import annotation

SHAPE = (30, 40)
BOXES = [(2, 2, 12, 12), (7, 7, 17, 17)]


@pytest.fixture
def dataset(tmp_path):
    """One image with two squares that share twenty-five pixels."""
    items = [annotation(np.ones((10, 10), bool), box, SHAPE) for box in BOXES]
    items = [{"id": number, "image_id": 1, **item} for number, item in enumerate(items, start=1)]
    image = {"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}
    write_coco(tmp_path / "set" / "annotations.json", [image], items)
    (tmp_path / "set" / "images").mkdir()
    cv2.imwrite(str(tmp_path / "set" / "images" / "a.png"), np.zeros(SHAPE, np.uint8))
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("labels", {"images/a.png", "masks/a.tif"}),
        ("folders", {"a/images/a.png", "a/masks/0001.png", "a/masks/0002.png"}),
        ("coco", {"images/a.png", "annotations.json"}),
        ("xml", {"a.xml"}),
        ("geojson", {"a.geojson"}),
    ],
)
def test_each_form_is_written(form, files, maskseg, dataset, tmp_path):
    status, out, err = maskseg("export", dataset, "-o", tmp_path / "out", "--to", form)
    assert (status, err) == (0, "")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == files
    assert f"{tmp_path / 'out'}: 1 images with 2 nuclei" in out
    assert ("25 shared pixels" in out) == (form == "labels")


def test_what_is_left_out_is_a_line_and_the_status(maskseg, dataset, tmp_path):
    image = dataset / "images" / "a.png"
    image.rename(image.with_name("b.png"))
    status, _, err = maskseg("export", dataset, "-o", tmp_path / "out", "--to", "labels")
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith(f"left out {dataset / 'annotations.json'}: image a.png: image left out: no image a in ")
    assert line.endswith("(2 nuclei left out with it)")


@pytest.mark.parametrize("bad", ["form", "source", "images"])
def test_a_bad_argument_says_so(bad, maskseg, dataset, tmp_path):
    options = ["--images", tmp_path / "none"] if bad == "images" else []
    source = tmp_path / "none" if bad == "source" else dataset
    form = "none" if bad == "form" else "labels"
    status, out, err = maskseg("export", source, "-o", tmp_path / "out", "--to", form, *options)
    assert status == 2
    assert out == ""
    assert "none" in err
    assert not (tmp_path / "out").exists()

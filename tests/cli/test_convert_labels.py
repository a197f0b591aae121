import json

import cv2
import numpy as np
import pytest

SHAPE = (30, 40)


@pytest.fixture
def source(tmp_path):
    """Two images with label images in StarDist's layout, one of them of another size."""
    for folder, (name, height) in [
        ("images", ("a", 30)),
        ("images", ("b", 30)),
        ("masks", ("a", 30)),
        ("masks", ("b", 29)),
    ]:
        (tmp_path / "source" / folder).mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((height, 40), np.uint8)
        pixels[2:6, 3:9], pixels[10:20, 3:9] = 4, 9
        cv2.imwrite(str(tmp_path / "source" / folder / f"{name}.png"), pixels)
    return tmp_path / "source"


@pytest.fixture
def coco(source, tmp_path):
    images = [{"id": 7, "file_name": "elsewhere/a.png", "height": 30, "width": 40}]
    square = [[3, 2, 9, 2, 9, 6, 3, 6]]
    items = [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": square},
        {"id": 2, "image_id": 7, "category_id": 2, "segmentation": [[30, 20, 35, 20, 35, 25]]},
        {"id": 3, "image_id": 7, "category_id": 1, "segmentation": []},
    ]
    categories = [{"id": 1, "name": "tumour"}, {"id": 2, "name": "stroma"}]
    file = tmp_path / "given.json"
    file.write_text(json.dumps({"images": images, "annotations": items, "categories": categories}))
    return file


def test_labels_are_converted_and_what_is_left_out_is_a_line_and_the_status(maskseg, source, tmp_path):
    (tmp_path / "modality.csv").write_text("image_id,modality\na,white on black\n")
    options = ["--modality", tmp_path / "modality.csv", "--workers", 2]
    status, out, err = maskseg("convert", "labels", source, "-o", tmp_path / "set", *options)
    assert status == 2
    assert err == f"left out {source / 'images' / 'b.png'}: image left out: " + (
        "b.png has 29x40 pixels, the image 30x40; make them equal\n"
    )
    assert "1 images with 2 nuclei, from 2 labels; 1 x image left out" in out
    data = json.loads((tmp_path / "set" / "annotations.json").read_text())
    assert data["images"][0]["modality"] == "white on black"
    (source / "images" / "b.png").unlink()
    (source / "masks" / "b.png").unlink()
    status, out, err = maskseg("convert", "labels", source, "-o", tmp_path / "set")
    assert (status, err) == (0, "")


def test_coco_is_converted_with_the_categories_that_are_named(maskseg, coco, source, tmp_path):
    arguments = ["convert", "coco", coco, "-o", tmp_path / "set", "--images", source / "images"]
    status, out, err = maskseg(*arguments, "--category", "tumour")
    assert status == 2
    assert err == f"left out {coco}: annotation 3: annotation left out: no outline; draw it\n"
    assert "1 images with 1 nuclei, from 2 annotations" in out
    status, out, err = maskseg(*arguments, "--category", "all")
    assert "1 images with 2 nuclei in 2 classes (tumour, stroma), from 3 annotations" in out


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["no category", "no images", "no file", "workers"])
def test_a_bad_argument_is_one_line_and_writes_nothing(bad, maskseg, coco, source, tmp_path):
    images = tmp_path / "none" if bad == "no images" else source / "images"
    options = [] if bad == "no category" else ["--category", "tumour"]
    if bad == "workers":
        options += ["--workers", "0"]
    file = tmp_path / "none" if bad == "no file" else coco
    status, out, err = maskseg("convert", "coco", file, "-o", tmp_path / "set", "--images", images, *options)
    assert status == 2
    assert out == ""
    assert {"no category": "--category", "no images": "--images", "no file": "none", "workers": "--workers"}[bad] in err
    assert len(err.splitlines()) == 1 or bad == "workers"
    assert not (tmp_path / "set").exists()


def test_ultrasound_says_what_contradicts_and_what_is_left_out(maskseg, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    frame = np.random.default_rng(0).integers(0, 255, (6, 8), np.uint8)
    frame = cv2.resize(frame, (58, 42), interpolation=cv2.INTER_LINEAR)
    for name, mask in (("1_1", 0), ("1_2", 255), ("1_3", None)):
        cv2.imwrite(str(folder / f"{name}.tif"), frame)
        if mask is not None:
            cv2.imwrite(str(folder / f"{name}_mask.tif"), np.full_like(frame, mask))
    status, out, err = maskseg("convert", "ultrasound", folder, "-o", tmp_path / "set")
    assert status == 2
    assert err.splitlines() == [
        f"left out {folder / '1_3.tif'}: image left out: no 1_3_mask beside it; add it, all 0 if there is no nerve"
    ]
    assert "contradict each other: 1;" in out
    assert "2 images with 1 nerves, from 2 mask files" in out
    assert (tmp_path / "set" / "contradictions.csv").read_text().splitlines()[1] == "1_1,1_2,1.0000,0.0000"

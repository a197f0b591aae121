import json

import cv2
import numpy as np
import pytest

from tests.formats.annotated import LABELS, masks_of, write, zipped


@pytest.fixture
def photos(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), np.full((*LABELS.shape, 3), len(name), np.uint8))
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["geojson", "imagej", "labelme", "coco", "yolo", "cellpose", "xml"])
@pytest.mark.parametrize("packed", [False, True])
def test_it_says_what_it_saw_and_converts_it(maskseg, photos, tmp_path, name, packed):
    given = tmp_path / "given"
    write(name, given, {"a": masks_of(), "b": masks_of(LABELS[::-1].copy())})
    if name == "cellpose":  # images lie beside the masks
        for path in photos.iterdir():
            (given / path.name).write_bytes(path.read_bytes())
    source = zipped(given, tmp_path / "given.zip") if packed else given
    images = zipped(photos, tmp_path / "photos.zip") if packed else photos
    if packed:
        given.rename(tmp_path / "elsewhere")
    status, out, error = maskseg("convert", "auto", source, "-o", tmp_path / "out", "--images", images, "--workers", 1)
    assert (status, error) == (0, "")
    assert f"the same as maskseg convert {name}" in out
    assert f"2 images with {10 if name == 'yolo' else 8} nuclei" in out


def test_what_is_nothing_known_is_told_by_what_is_there(maskseg, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.doc").write_text("a")
    status, _, error = maskseg("convert", "auto", tmp_path / "x", "-o", tmp_path / "out")
    assert status == 2
    assert "there is 1 .doc" in error


def test_an_image_of_which_no_annotation_can_be_used_is_left_out(maskseg, photos, tmp_path):
    write("labelme", tmp_path / "given", {"a": masks_of()})
    point = {"label": "x", "points": [[1, 1]], "shape_type": "point", "group_id": None, "flags": {}}
    (tmp_path / "given" / "b.json").write_text(json.dumps({"shapes": [point], "imagePath": "b.png"}))
    status, out, error = maskseg("convert", "labelme", tmp_path / "given", "-o", tmp_path / "out", "--images", photos)
    assert status == 2
    assert "none of its 1 annotations can be used" in error
    assert "1 images with 4 nuclei" in out


def test_what_was_done_is_said_by_evaluate_too(maskseg, tmp_path):
    for folder, values in (("truth", (LABELS > 0) * 255), ("found", LABELS)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), values.astype(np.uint8))
    status, _, error = maskseg("evaluate", "--truth", tmp_path / "truth", "--pred", tmp_path / "found")
    assert status == 0
    assert "note: " in error
    assert "each connected piece is a nucleus" in error


def test_export_says_what_is_lost(maskseg, photos, tmp_path):
    write("labels", tmp_path / "given", {"a": masks_of()})
    status, _, error = maskseg("export", tmp_path / "given" / "masks", "-o", tmp_path / "out", "--to", "yolo")
    assert status == 0
    assert "holes are lost" in error

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def source(tmp_path):
    """Two tiles that share one nucleus, and a split."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (64, 128, 3)).astype(np.uint8), (0, 0), 2)
    records, items = [], []
    for number, name in enumerate(("left", "right")):
        path = tmp_path / "set" / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture[:, 64 * number : 64 * (number + 1)])
        records.append({"id": number + 1, "file_name": path.name, "height": 64, "width": 64})
        # ten pixels of a column at the seam
        start = 20 if number else 63 * 64 + 20
        segmentation = {"size": [64, 64], "counts": [start, 10, 64 * 64 - start - 10]}
        box = [0 if number else 63, 20, 1, 10]
        items.append({"id": number + 1, "image_id": number + 1, "category_id": 1, "bbox": box, "area": 10})
        items[-1]["segmentation"] = segmentation
    (tmp_path / "set" / "annotations.json").write_text(json.dumps({"images": records, "annotations": items}))
    (tmp_path / "set" / "split.csv").write_text("image_id,part\nleft,train\nright,train\n")
    return tmp_path / "set"


def test_a_part_is_converted_and_the_cut_nucleus_is_one(maskseg, source, tmp_path):
    status, out, err = maskseg("convert", "mosaics", f"{source}:train", "-o", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "1 images with 1 nuclei, from 2 nuclei in tiles" in out
    (item,) = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert (item["bbox"], item["area"]) == ([63, 20, 2, 10], 20)


def test_without_a_part_it_is_said_that_all_are_used(maskseg, source, tmp_path):
    status, _, err = maskseg("convert", "mosaics", source, "-o", tmp_path / "out")
    assert status == 0
    assert f"{source}:train" in err


def test_a_missing_tile_is_a_line_and_the_status(maskseg, source, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(
        "img_id,mosaic_idx,mosaic_position\nleft,1,up_left\nright,1,up_right\ngone,1,down_left\n", encoding="utf-8"
    )
    status, out, err = maskseg("convert", "mosaics", f"{source}:train", "-o", tmp_path / "out", "--table", table)
    assert status == 2
    assert err.splitlines() == [
        f"left out {table}: mosaic 1: tile missing: image gone (row 1, column 0) is not in the data set; add it"
    ]
    assert "1 images" in out


def test_bad_input_is_one_line(maskseg, source, tmp_path):
    status, out, err = maskseg("convert", "mosaics", f"{source}:train", "-o", tmp_path / "out", "--table", "none.csv")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "none.csv" in err
    assert not (tmp_path / "out").exists()

"""`maskseg compare`: drawn predictions whose changes are known."""

import csv
import json

import numpy as np
import pytest

from maskseg.formats.labels import write_labels


def squares(count, side=4):
    labels = np.zeros((24, 30), np.int32)
    for i in range(count):
        y, x = 6 * (i // 4), 6 * (i % 4)
        labels[y : y + side, x : x + side] = i + 1
    return labels


@pytest.fixture
def folders(tmp_path):
    """Truth of 8 nuclei each; A finds 4 everywhere, B all of "one", 2 of "two" and as many as A of "three"."""
    for name, b in {"one": 8, "two": 2, "three": 4}.items():
        write_labels(tmp_path / "truth" / f"{name}.tif", squares(8))
        write_labels(tmp_path / "a" / f"{name}.tif", squares(4))
        write_labels(tmp_path / "b" / f"{name}.tif", squares(b))
    (tmp_path / "split.csv").write_text("image_id,part,modality\none,dev,x\ntwo,dev,y\nthree,train,y\n")
    return tmp_path


def run(maskseg, folders, *more):
    return maskseg("compare", folders / "a", folders / "b", "--truth", folders / "truth", *more)


def test_differences_and_the_images_that_changed_most(maskseg, folders):
    status, output, error = run(maskseg, folders, "--split", folders / "split.csv", "-o", folders / "out")
    assert (status, error.strip()) == (0, "")
    lines = output.splitlines()
    (x,), (y,), (everything,) = (
        [line.split() for line in lines if line.startswith(f"{n} ")] for n in ("x", "y", "all")
    )
    # By score: one 4/8 -> 8/8, two 4/8 -> 2/8, three unchanged.
    assert x[1:5] == ["1", "0.5000", "1.0000", "+0.5000"]
    assert y[1:5] == ["2", "0.5000", "0.3750", "-0.1250"]
    assert everything[4] == "+0.0833"
    changed = [line.split()[0] for line in lines[lines.index("") :] if line.startswith(("one", "two", "three"))]
    assert changed == ["one", "two"]
    rows = {row["image_id"]: row for row in csv.DictReader((folders / "out" / "per_image.csv").open())}
    assert {name: float(row["difference"]) for name, row in rows.items()} == {"one": 0.5, "two": -0.25, "three": 0}
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert (summary["better"], summary["worse"], summary["equal"]) == (1, 1, 1)


def test_one_part_only(maskseg, folders):
    status, output, _ = run(maskseg, folders, "--split", f"{folders / 'split.csv'}:train")
    assert status == 0
    assert "no image changed" in output
    status, _, error = run(maskseg, folders, "--split", f"{folders / 'split.csv'}:nothing")
    assert status == 2
    assert "dev, train" in error


def test_what_one_side_lacks_is_named_with_its_side(maskseg, folders):
    (folders / "b" / "two.tif").unlink()
    status, output, error = run(maskseg, folders)
    assert status == 2
    assert error.strip() == f"{folders / 'b'}: without prediction, counted as nothing found: two"
    assert "-0.5000" in output

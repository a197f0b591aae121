from pathlib import Path

import pytest

from maskseg.data.coco import dataset_dicts, write_coco
from maskseg.data.split import read_split, write_split

TABLE = "image_id,modality\n" + "".join(f"i{n},{'tissue' if n % 4 else 'cells'}\n" for n in range(40))


@pytest.fixture
def dataset(tmp_path):
    """Forty images without nuclei."""
    images = [{"id": n + 1, "file_name": f"i{n}.png", "height": 8, "width": 9} for n in range(40)]
    write_coco(tmp_path / "set" / "annotations.json", images, [])
    return tmp_path / "set"


@pytest.fixture
def split(maskseg):
    """``maskseg split``: arguments to (status, stdout, stderr)."""
    return lambda *arguments: maskseg("split", *arguments)


def ids(dataset, part):
    return {record["image_id"] for record in dataset_dicts(f"{dataset}:{part}")}


def test_parts_are_made_with_their_share_of_every_modality(split, dataset, tmp_path):
    (tmp_path / "modality.csv").write_text(TABLE)
    status, out, err = split(dataset, "--modality", tmp_path / "modality.csv", "--dev", 0.2, "--val", 0)
    assert (status, err) == (0, "")
    records = dataset_dicts(f"{dataset}:dev")
    assert sorted(record["modality"] for record in records) == ["cells"] * 2 + ["tissue"] * 6
    assert not ids(dataset, "dev") & ids(dataset, "train")
    assert [line.split() for line in out.splitlines()] == [
        ["dev", "cells", "2"],
        ["dev", "tissue", "6"],
        ["train", "cells", "8"],
        ["train", "tissue", "24"],
    ]


def test_without_a_table_the_parts_are_train_dev_and_val(split, dataset):
    assert split(dataset)[0] == 0
    assert [len(ids(dataset, part)) for part in ("train", "dev", "val")] == [32, 4, 4]


def test_a_given_table_is_taken_over(split, dataset, tmp_path):
    rows = [{"image_id": f"i{n}", "part": "train" if n else "dev", "group": "7"} for n in range(60)]
    write_split(tmp_path / "given.csv", rows)
    status, _, err = split(dataset, "--from", tmp_path / "given.csv")
    assert (status, err) == (0, "")
    kept = read_split(dataset / "split.csv")
    assert list(kept) == [f"i{n}" for n in range(40)]
    assert all(row == read_split(tmp_path / "given.csv")[name] for name, row in kept.items())


def test_images_that_a_given_table_does_not_name_are_in_no_other_part(split, dataset, tmp_path):
    write_split(tmp_path / "given.csv", [{"image_id": f"i{n}", "part": "train"} for n in range(30)])
    status, _, err = split(dataset, "--from", tmp_path / "given.csv")
    assert status == 0
    assert "10 images are not in" in err
    assert ids(dataset, "unlisted") == {f"i{n}" for n in range(30, 40)}
    assert ids(dataset, "train") == {f"i{n}" for n in range(30)}


@pytest.mark.parametrize(
    "options",
    [
        ["--from", "other.csv"],
        ["--from", "none.csv"],
        ["--modality", "none.csv"],
        ["--dev", "0.5", "--val", "0.5"],
        ["--dev", "-0.1"],
        ["--dev", "0.01", "--val", "0.01"],
    ],
)
def test_a_bad_argument_is_one_line_and_leaves_the_split(options, split, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_split(Path("other.csv"), [{"image_id": "another image", "part": "train"}])
    assert split(dataset)[0] == 0
    before = (dataset / "split.csv").read_bytes()
    status, _, err = split(dataset, *options)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert (dataset / "split.csv").read_bytes() == before

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskseg.data.dataset import dataset_dicts, write_coco
from maskseg.data.split import read_split, write_split

TABLE = "image_id,modality\n" + "".join(f"i{n},{'tissue' if n % 4 else 'cells'}\n" for n in range(40))
CELLS, TISSUE = "white on black", "purple on white"


def picture(number):
    """Nuclei at random; every fourth image is fluorescence, the others are stained, of three sizes and focuses."""
    rng = np.random.default_rng(number)
    cells, kind = number % 4 == 0, number % 3
    image = np.full((60 + 12 * kind, 70 + 12 * kind, 3), 10 if cells else 225, np.uint8)
    for _ in range(12):
        centre = tuple(int(rng.integers(size)) for size in image.shape[1::-1])
        cv2.circle(image, centre, int(rng.integers(4, 7)), (180, 180, 180) if cells else (110, 50, 150), -1)
    noise = rng.normal(0, 3, image.shape[:2])[:, :, None]
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1 + kind) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty images, i0 to i39, and no nuclei marked."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "images").mkdir()
    images = []
    for n in range(40):
        image = picture(n)
        cv2.imwrite(str(folder / "images" / f"i{n}.png"), image[:, :, ::-1])
        images.append({"id": n + 1, "file_name": f"i{n}.png", "height": image.shape[0], "width": image.shape[1]})
    write_coco(folder / "annotations.json", images, [])
    return folder


@pytest.fixture
def dataset(pictures, tmp_path):
    """A data set of its own for a test."""
    shutil.copytree(pictures, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def split(maskseg):
    """``maskseg split``: arguments to (status, stdout, stderr)."""
    return lambda *arguments: maskseg("split", "--workers", 1, *arguments)


def ids(dataset, part):
    return {record["image_id"] for record in dataset_dicts(f"{dataset}:{part}")}


@pytest.mark.slow
def test_parts_are_made_with_their_share_of_every_modality(split, dataset, tmp_path):
    (tmp_path / "modality.csv").write_text(TABLE)
    status, out, err = split(dataset, "--modality", tmp_path / "modality.csv", "--dev", 0.2, "--val", 0)
    assert (status, err) == (0, "")
    records = dataset_dicts(f"{dataset}:dev")
    assert sorted(record["modality"] for record in records) == ["cells"] * 2 + ["tissue"] * 6
    assert not ids(dataset, "dev") & ids(dataset, "train")
    assert out.splitlines()[0] == "modality: 40 given, 0 inferred from the colours"
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["dev", "cells", "2"],
        ["dev", "tissue", "6"],
        ["train", "cells", "8"],
        ["train", "tissue", "24"],
    ]


def test_without_a_table_the_parts_are_train_dev_and_val(split, dataset):
    status, out, _ = split(dataset)
    assert status == 0
    assert [len(ids(dataset, part)) for part in ("train", "dev", "val")] == [32, 4, 4]
    assert "0 given, 40 inferred" in out
    found = {name: row["modality"] for name, row in read_split(dataset / "split.csv").items()}
    assert found == {f"i{n}": TISSUE if n % 4 else CELLS for n in range(40)}


def test_a_given_table_is_taken_over(split, dataset, tmp_path):
    rows = [{"image_id": f"i{n}", "part": "train" if n else "dev", "group": "7"} for n in range(60)]
    write_split(tmp_path / "given.csv", rows)
    status, _, err = split(dataset, "--from", tmp_path / "given.csv")
    assert (status, err) == (0, "")
    kept = read_split(dataset / "split.csv")
    assert list(kept) == [f"i{n}" for n in range(40)]
    for name, row in kept.items():
        # What the table does not give is found out, apart from groups.
        assert row == {**rows[int(name[1:])], "modality": TISSUE if int(name[1:]) % 4 else CELLS, "mosaic": ""}


def test_images_that_a_given_table_does_not_name_are_in_no_other_part(split, dataset, tmp_path):
    write_split(tmp_path / "given.csv", [{"image_id": f"i{n}", "part": "train"} for n in range(30)])
    status, _, err = split(dataset, "--from", tmp_path / "given.csv")
    assert status == 0
    assert "10 images are not in" in err
    assert ids(dataset, "unlisted") == {f"i{n}" for n in range(30, 40)}
    assert ids(dataset, "train") == {f"i{n}" for n in range(30)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--from", "other.csv"],
        ["--from", "none.csv"],
        ["--modality", "none.csv"],
        ["--dev", "0.5", "--val", "0.5"],
        ["--dev", "-0.1"],
        ["--mosaics", "none.csv"],
        ["--val-grouped", "0.01"],
        ["--val-grouped", "0.9"],
        ["--dev", "0.001"],
        ["--folds", "41"],
        ["--folds", "20", "--grouped"],
        ["--train-only", "*"],
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


def test_folds_are_named_by_training(split, dataset):
    assert split(dataset, "--folds", 4)[0] == 0
    everything = {f"i{n}" for n in range(40)}
    for fold in range(1, 5):
        assert len(ids(dataset, f"fold{fold}")) == 10
        assert ids(dataset, f"-fold{fold}") == everything - ids(dataset, f"fold{fold}")
    kinds = Counter((row["part"], row["modality"]) for row in read_split(dataset / "split.csv").values())
    assert all(2 <= kinds[f"fold{fold}", CELLS] <= 3 for fold in range(1, 5))


def test_a_group_is_in_one_fold(split, dataset):
    assert split(dataset, "--folds", 3, "--grouped")[0] == 0
    rows = read_split(dataset / "split.csv").values()
    # Three sizes and focuses in two modalities.
    assert len({row["group"] for row in rows}) == 6
    assert len({(row["part"], row["group"]) for row in rows}) == 6


def test_four_parts_with_whole_groups_held_out(split, dataset):
    status, out, _ = split(dataset, "--val-grouped", 0.35, "--val", 0.15, "--dev", 0.15)
    assert status == 0
    rows = read_split(dataset / "split.csv").values()
    held_out = {row["group"] for row in rows if row["part"] == "val_grouped"}
    assert {row["part"] for row in rows} == {"train", "dev", "val_stratified", "val_grouped"}
    assert not held_out & {row["group"] for row in rows if row["part"] != "val_grouped"}
    assert "6 groups; 0 tiles in 0 mosaics" in out


def test_images_for_training_only(split, dataset):
    assert split(dataset, "--folds", 2, "--train-only", "i1?", "--train-only", "i20")[0] == 0
    assert ids(dataset, "train") == {f"i{n}" for n in range(10, 21)}
    assert ids(dataset, "train") < ids(dataset, "-fold1")


def test_tiles_of_a_mosaic_stay_together(split, dataset, tmp_path):
    table = tmp_path / "mosaics.csv"
    table.write_text("image_id,mosaic\n" + "".join(f"i{n},{n // 4}\n" for n in range(20)))
    assert split(dataset, "--folds", 2, "--mosaics", table)[0] == 0
    rows = read_split(dataset / "split.csv")
    assert {name: row["mosaic"] for name, row in rows.items() if row["mosaic"]} == {
        f"i{n}": f"{n // 4}" for n in range(20)
    }
    assert all(len({rows[f"i{4 * m + k}"]["part"] for k in range(4)}) == 1 for m in range(5))


def test_without_a_table_mosaics_are_found(split, dataset):
    field = cv2.resize(picture(1), (140, 120), interpolation=cv2.INTER_CUBIC)
    for number, tile in zip(
        (1, 5, 13, 17), (field[:60, :70], field[:60, 70:], field[60:, :70], field[60:, 70:]), strict=True
    ):
        cv2.imwrite(str(dataset / "images" / f"i{number}.png"), tile[:, :, ::-1])
    status, out, _ = split(dataset, "--folds", 2)
    assert status == 0
    assert "4 tiles in 1 mosaics" in out
    rows = read_split(dataset / "split.csv")
    assert {name for name, row in rows.items() if row["mosaic"]} == {"i1", "i5", "i13", "i17"}
    assert len({rows[name]["part"] for name in ("i1", "i5", "i13", "i17")}) == 1


@pytest.mark.slow
def test_near_duplicates_stay_together_and_are_named_where_a_table_divides_them(split, dataset, tmp_path):
    cv2.imwrite(str(dataset / "images" / "i7.png"), cv2.imread(str(dataset / "images" / "i3.png"))[:, ::-1])
    for seed in range(4):
        assert split(dataset, "--folds", 5, "--seed", seed)[::2] == (0, "")
        rows = read_split(dataset / "split.csv")
        assert rows["i3"]["part"] == rows["i7"]["part"]
    write_split(
        tmp_path / "given.csv", [{"image_id": f"i{n}", "part": "dev" if n == 7 else "train"} for n in range(40)]
    )
    status, _, err = split(dataset, "--from", tmp_path / "given.csv")
    assert status == 0
    assert err == "near duplicates: i3 (train) and i7 (dev), 1.000\n"


def test_a_damaged_image_is_named_and_the_others_are_divided(split, dataset):
    (dataset / "images" / "i8.png").write_bytes(b"no image")
    status, _, err = split(dataset)
    assert status == 2
    assert [line for line in err.splitlines() if "i8.png" in line] == err.splitlines()
    rows = read_split(dataset / "split.csv")
    assert len(rows) == 40
    assert rows["i8"]["modality"] == ""


def test_a_set_whose_images_are_gone_is_told_in_few_lines(split, dataset):
    shutil.rmtree(dataset / "images")
    status, _, err = split(dataset)
    assert status == 2
    assert len(err.splitlines()) == 21
    assert err.endswith("and 20 more images that cannot be read\n")


def test_a_set_without_images_is_one_line(split, dataset):
    write_coco(dataset / "annotations.json", [], [])
    status, _, err = split(dataset)
    assert status == 2
    assert "holds no image" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_division_is_the_same_for_any_number_of_processes(maskseg, dataset):
    assert maskseg("split", dataset, "--workers", 1)[0] == 0
    alone = (dataset / "split.csv").read_bytes()
    assert maskseg("split", dataset, "--workers", 2)[0] == 0
    assert (dataset / "split.csv").read_bytes() == alone


def test_pieces_of_one_tissue_image_stay_together(split, dataset):
    content = json.loads((dataset / "annotations.json").read_text())
    for image in content["images"]:
        # Ten tissue images in four pieces each.
        image["group"] = f"tissue{image['id'] % 10}"
    (dataset / "annotations.json").write_text(json.dumps(content))
    assert split(dataset, "--dev", 0.2, "--val", 0.2)[0] == 0
    parts = {}
    for image, row in zip(content["images"], read_split(dataset / "split.csv").values(), strict=True):
        parts.setdefault(image["group"], set()).add(row["part"])
    assert len(parts) == 10
    assert all(len(found) == 1 for found in parts.values())
    assert {part for found in parts.values() for part in found} == {"train", "dev", "val"}


@pytest.fixture
def few(dataset):
    """A function that leaves some of the images of the data set."""

    def keep(count):
        content = json.loads((dataset / "annotations.json").read_text())
        write_coco(dataset / "annotations.json", content["images"][:count], [])
        return dataset

    return keep


@pytest.mark.parametrize(("count", "expected"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (9, (7, 1, 1))])
def test_a_few_images_are_divided_as_nearly_as_can_be(split, few, count, expected):
    dataset = few(count)
    status, _, err = split(dataset)
    assert status == 0, err
    parts = Counter(row["part"] for row in read_split(dataset / "split.csv").values())
    assert tuple(parts[name] for name in ("train", "dev", "val")) == expected
    assert ("none is in val" in err) == (count == 2)


def test_shares_that_make_many_folds_need_not_as_many_images(split, few):
    dataset = few(7)
    assert split(dataset, "--dev", 0.3, "--val", 0)[0] == 0
    assert len(ids(dataset, "dev")) == 2


@pytest.mark.parametrize(
    ("count", "options", "says"),
    [(1, (), "annotate a second one"), (3, ("--folds", "5"), "has 3 images"), (3, ("--train-only", "*"), "give fewer")],
)
def test_what_cannot_be_divided_says_what_to_do(split, few, count, options, says):
    status, _, err = split(few(count), *options)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert says in err

import csv
import json

import numpy as np
import pytest
from PIL import Image

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import write_coco
from maskseg.formats.kaggle import write_submission
from maskseg.formats.labels import write_labels

SHAPE = (24, 30)


def grid(count):
    """Squares of 4 x 4 pixels, numbered from 1."""
    labels = np.zeros(SHAPE, np.int32)
    for i in range(count):
        y, x = 6 * (i // 4), 6 * (i % 4)
        labels[y : y + 4, x : x + 4] = i + 1
    return labels


TRUTH = {"one": grid(4), "two": grid(8), "three": grid(2), "none": grid(0)}
MODALITY = {"one": "fluorescence", "two": "tissue", "three": "tissue", "none": "fluorescence"}


@pytest.fixture
def dataset(tmp_path):
    """A data set folder of `TRUTH`, with a split: "one" and "none" in dev, the others in train."""
    folder = tmp_path / "dataset"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, (name, labels) in enumerate(TRUTH.items(), start=1):
        Image.fromarray(np.zeros(SHAPE, np.uint8)).save(folder / "images" / f"{name}.png")
        size = {"height": SHAPE[0], "width": SHAPE[1]}
        images.append({"id": number, "file_name": f"{name}.png", **size, "modality": MODALITY[name]})
        for rle in CropMasks.from_labels(labels).to_rle():
            annotations.append({"id": len(annotations) + 1, "image_id": number, "segmentation": rle, "category_id": 1})
    write_coco(folder / "annotations.json", images, annotations)
    rows = [f"{name},{'dev' if name in ('one', 'none') else 'train'},{MODALITY[name]},," for name in TRUTH]
    (folder / "split.csv").write_text("\n".join(["image_id,part,modality,group,mosaic", *rows]) + "\n")
    return folder


@pytest.fixture
def label_folder(tmp_path):
    folder = tmp_path / "labels"
    for name, labels in TRUTH.items():
        write_labels(folder / f"{name}.tif", labels)
    return folder


@pytest.fixture
def evaluate(maskseg):
    return lambda truth, pred, *more: maskseg("evaluate", "--truth", truth, "--pred", pred, *more)


def last_line(output):
    """Name, DSB score, interval (three words), images and so on of the whole set."""
    (line,) = [line for line in output.splitlines() if line.startswith("all ")]
    return line.split()


def last_score(output):
    return float(last_line(output)[1])


def forms(dataset, label_folder, tmp_path):
    """The same nuclei in every form."""
    csv_file, sized = tmp_path / "truth.csv", tmp_path / "sized.csv"
    write_submission(csv_file, [(name, CropMasks.from_labels(labels)) for name, labels in TRUTH.items()])
    lines = csv_file.read_text().splitlines()
    sized.write_text("\n".join([lines[0] + ",Height,Width", *(f"{line},24,30" for line in lines[1:])]) + "\n")
    arrays, pictures = tmp_path / "arrays", tmp_path / "predicted" / "labels"
    arrays.mkdir()
    pictures.mkdir(parents=True)
    for name, labels in TRUTH.items():
        np.save(arrays / f"{name}.npy", labels)
        Image.fromarray(labels.astype(np.uint8)).save(pictures / f"{name}.png")
    return [dataset, dataset / "annotations.json", label_folder, arrays, pictures.parent, csv_file, sized]


@pytest.mark.slow
def test_truth_scores_one_against_itself_in_every_form(evaluate, dataset, label_folder, tmp_path):
    every = forms(dataset, label_folder, tmp_path)
    for truth in every:
        sizes = ("--images", dataset / "images") if truth.name == "truth.csv" else ()
        for pred in every:
            status, output, error = evaluate(truth, pred, *sizes)
            assert (status, last_score(output)) == (0, 1), (truth, pred, error)


def test_each_modality_has_its_line_and_files_hold_the_same(evaluate, dataset, label_folder, tmp_path):
    write_labels(label_folder / "two.tif", grid(4))  # half of the nuclei: 4 / 8 at every threshold
    status, output, _ = evaluate(dataset, label_folder, "-o", tmp_path / "scores")
    assert status == 0
    lines = output.splitlines()
    assert "mean IoU (DSB score)" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["fluorescence", "tissue", "all"]
    assert [float(line.split()[1]) for line in lines[1:4]] == [1, 0.75, 0.875]

    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["dsb_score"] == 0.875
    assert summary["by_modality"]["tissue"]["dsb_score"] == 0.75
    with (tmp_path / "scores" / "per_image.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert {name: row["modality"] for name, row in rows.items()} == MODALITY
    assert np.mean([float(row["dsb_score"]) for row in rows.values()]) == 0.875
    assert (rows["two"]["n_truth"], rows["two"]["n_pred"]) == ("8", "4")


@pytest.mark.slow
def test_modalities_from_a_table(evaluate, label_folder, dataset):
    _, output, _ = evaluate(label_folder, label_folder)
    assert output.splitlines()[2] == ""
    _, output, _ = evaluate(label_folder, label_folder, "--modality", dataset / "split.csv")
    assert [line.split()[0] for line in output.splitlines()[1:4]] == ["fluorescence", "tissue", "all"]


def test_one_part_of_a_data_set_against_predictions_of_all(evaluate, dataset, label_folder):
    status, output, error = evaluate(f"{dataset}:dev", label_folder)
    assert (status, error.strip()) == (0, "")
    assert last_line(output)[5] == "2"
    status, _, error = evaluate(f"{dataset}:nothing", label_folder)
    assert status == 2
    assert "dev, train" in error


def test_an_image_without_prediction_counts_as_nothing_found(evaluate, dataset, label_folder):
    (label_folder / "two.tif").unlink()
    status, output, error = evaluate(dataset, label_folder)
    assert status == 2
    assert error.strip().splitlines() == ["without prediction, counted as nothing found: two"]
    assert last_score(output) == 0.75


def test_what_does_not_fit_is_named_and_the_rest_scored(evaluate, dataset, label_folder):
    write_labels(label_folder / "one.tif", grid(4).T)
    (label_folder / "two.tif").write_bytes(b"II*\0cut")
    write_labels(label_folder / "unheard.tif", grid(4))
    status, output, error = evaluate(dataset, label_folder)
    assert status == 2
    left_out, one, two = error.strip().splitlines()
    assert left_out == "predicted but not in the truth, left out: unheard"
    assert one.startswith("one left out: ")
    assert "30 x 24" in one
    assert two.startswith("two left out: ")
    assert "two.tif" in two
    assert last_line(output)[5] == "2"
    assert last_score(output) == 1


def test_a_row_that_does_not_fit_leaves_out_its_image_only(evaluate, dataset, tmp_path):
    path = tmp_path / "s.csv"
    write_submission(path, [(name, CropMasks.from_labels(labels)) for name, labels in TRUTH.items()])
    path.write_text(path.read_text().replace("three,", "three,9999 1 ", 1))
    status, output, error = evaluate(dataset, path)
    assert status == 2
    assert error.count("\n") == 1
    assert "three left out" in error
    assert "out of range" in error
    assert "s.csv" in error
    assert last_score(output) == 1


@pytest.mark.parametrize(
    ("pred", "says"),
    [
        ("nowhere", "does not exist"),
        ("empty", "neither annotations.json nor label images"),
        ("other", "no image in common"),
        ("twice", "for the same image"),
        ("text.txt", "give a folder"),
        ("table.csv", "header"),
        ("broken.json", "not a COCO file"),
    ],
)
def test_bad_input_is_one_line_and_status_two(evaluate, label_folder, tmp_path, pred, says):
    (tmp_path / "empty").mkdir()
    write_labels(tmp_path / "other" / "x.tif", grid(1))
    write_labels(tmp_path / "twice" / "one.tif", grid(1))
    np.save(tmp_path / "twice" / "one.npy", grid(1))
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "broken.json").write_text("{")
    status, output, error = evaluate(label_folder, tmp_path / pred)
    assert (status, output) == (2, "")
    assert error.startswith("maskseg: error: ")
    assert error.count("\n") == 1
    assert says in error
    assert str(tmp_path / pred) in error


def test_a_truth_without_sizes_says_what_to_give(evaluate, label_folder, tmp_path):
    path = tmp_path / "s.csv"
    write_submission(path, [("one", CropMasks.from_labels(grid(4)))])
    status, _, error = evaluate(path, label_folder)
    assert status == 2
    assert "--images" in error


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_scored(evaluate, label_folder, dataset, tmp_path):
    path = tmp_path / "s.csv"
    write_submission(path, [(name, CropMasks.from_labels(labels)) for name, labels in TRUTH.items()])
    (dataset / "images" / "one.png").write_bytes(b"no image")
    status, output, error = evaluate(path, path, "--images", dataset / "images")
    assert status == 2
    (line,) = error.splitlines()
    assert line.startswith("one left out: ") and "one.png: " in line
    assert last_score(output) == 1


def test_labels_of_any_kind_count_the_same(evaluate, dataset, label_folder, tmp_path):
    """Not consecutive, 32 bit, stored as whole floats."""
    other = tmp_path / "other"
    other.mkdir()
    for name, labels in TRUTH.items():
        np.save(other / f"{name}.npy", {"one": labels * 70_001, "two": labels.astype(float)}.get(name, labels))
    status, output, error = evaluate(dataset, other)
    assert (status, error.strip(), last_score(output)) == (0, "", 1)


def test_a_folder_of_predict_gives_its_scores_and_a_pixel_of_two_masks_counts_for_the_higher(
    evaluate, dataset, tmp_path
):
    images, annotations = [], []
    for number, (name, labels) in enumerate(TRUTH.items(), start=1):
        images.append({"id": number, "file_name": f"{name}.png", "height": SHAPE[0], "width": SHAPE[1]})
        found = CropMasks.from_labels(labels)
        # Over everything lies one mask more, of a lower score: where a nucleus is, the nucleus counts.
        for rle, score in [
            *zip(found.to_rle(), [0.9] * len(found), strict=True),
            *((rle, 0.2) for rle in CropMasks.from_labels(np.ones(SHAPE, np.int32)).to_rle()),
        ]:
            item = {"image_id": number, "segmentation": rle, "category_id": 1, "score": score}
            annotations.append({"id": len(annotations) + 1, **item})
    write_coco(tmp_path / "predicted" / "predictions.json", images, annotations)
    status, output, error = evaluate(dataset, tmp_path / "predicted", "-o", tmp_path / "scores")
    assert (status, error.strip()) == (0, "")
    with (tmp_path / "scores" / "per_image.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert {name: int(row["tp_95"]) for name, row in rows.items()} == {"one": 4, "two": 8, "three": 2, "none": 0}
    # One mask too many in each image, where there should be none the only one.
    assert float(rows["none"]["dsb_score"]) == 0
    assert float(rows["two"]["dsb_score"]) == pytest.approx(8 / 9)
    # All 14 true nuclei stand before the 4 wrong masks.
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["coco"]["ap"] == pytest.approx(1)
    assert "COCO mask AP 1.0000" in output


def test_parts_modalities_and_groups_from_a_split_table(evaluate, label_folder, dataset):
    split = dataset / "split.csv"
    status, output, _ = evaluate(label_folder, label_folder, "--split", f"{split}:dev")
    assert status == 0
    assert last_line(output)[5] == "2"
    assert "groups of acquisition" not in output
    header, *rows = split.read_text().splitlines()
    grouped = [f"{row.removesuffix(',,')},{number // 2}," for number, row in enumerate(rows)]
    split.write_text("\n".join([header, *grouped]))
    _, output, _ = evaluate(label_folder, label_folder, "--split", split)
    assert "over the 2 groups of acquisition" in output

"""Protein localisation data: channels, classes, the split. The images are made up."""

import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseg.core.errors import InputError
from maskseg.imaging.finding import find_images
from maskseg.projects.protein.data import (
    CLASSES,
    check_predicted,
    class_table,
    group_channels,
    in_dev,
    protein_dicts,
    read_channels,
    read_targets,
    write_predicted,
)


@pytest.fixture
def write_images(tmp_path):
    """A function that writes channels, each of one grey value, and the table."""

    def write(channels, rows, shape=(8, 6)):
        (tmp_path / "train").mkdir(exist_ok=True)
        for name, value in channels.items():
            cv2.imwrite(str(tmp_path / "train" / f"{name}.png"), np.full(shape, value, np.uint8))
        (tmp_path / "train.csv").write_text("Id,Target\n" + "".join(f"{row}\n" for row in rows))
        return tmp_path

    return write


def test_there_are_28_classes():
    assert len(set(CLASSES)) == 28
    assert (CLASSES[0], CLASSES[27]) == ("Nucleoplasm", "Rods & rings")


@pytest.mark.slow
def test_the_data_code_needs_no_torch():
    code = "import sys, maskseg.projects.protein.data; sys.exit('torch' in sys.modules or 'detectron2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_channels_come_in_the_order_asked_for(write_images):
    folder = write_images({"a_red": 10, "a_green": 20, "a_blue": 30, "a_yellow": 40, "b_c_green": 50}, [])
    images = group_channels(find_images([folder / "train"]))
    assert {name: set(files) for name, files in images.items()} == {
        "a": {"red", "green", "blue", "yellow"},
        "b_c": {"green"},  # an id may hold the sign that parts it from the channel
    }
    orders = ((["green"], [20]), (["yellow", "red"], [40, 10]), (["red", "green", "blue"], [10, 20, 30]))
    for channels, values in orders:
        image = read_channels("a", images["a"], channels)
        assert image.dtype == np.uint8
        assert np.array_equal(image, np.broadcast_to(values, (8, 6, len(values))))


def test_a_missing_channel_is_one_line(write_images):
    files = group_channels(find_images([write_images({"a_green": 1, "a_blue": 1}, []) / "train"]))["a"]
    with pytest.raises(InputError, match=r"^a_red\.png: no such file beside .*INPUT\.CHANNELS.*blue, green here\)$"):
        read_channels("a", files, ["green", "red"])


def test_a_file_without_a_channel_in_its_name_is_no_channel(write_images):
    images = group_channels(find_images([write_images({"a_purple": 1}, []) / "train"]))
    with pytest.raises(InputError, match=r"^a_purple_green\.png: no such file"):
        read_channels("a_purple", images["a_purple"], ["green"])


def test_channels_of_different_sizes_are_refused(write_images):
    write_images({"a_red": 1}, [], (8, 6))
    folder = write_images({"a_green": 1}, [], (6, 8))
    files = group_channels(find_images([folder / "train"]))["a"]
    with pytest.raises(InputError, match="different sizes"):
        read_channels("a", files, ["red", "green"])


@pytest.mark.parametrize("row", ["b,28", "b,-1", "b,1.0", "b,", "b", ",1", "a,1", "b,1;2"])
def test_a_faulty_row_is_named_with_its_line(write_images, row):
    folder = write_images({}, ["a,25 0", row])
    with pytest.raises(InputError, match=r"train\.csv: line 3: .* from 0 to 27$"):
        read_targets(folder / "train.csv")


def test_a_table_of_other_columns_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("image,label\na,1\n")
    with pytest.raises(InputError, match="Id,Target"):
        read_targets(tmp_path / "train.csv")


def test_images_that_are_not_there_are_counted_and_the_others_used(write_images, caplog):
    # b is not there, and no row names z.
    folder = write_images({"a_green": 1, "c_green": 1, "z_green": 1}, ["a,25 0", "b,0", "c,0"])
    with caplog.at_level(logging.WARNING):
        records = protein_dicts([str(folder)])
    assert [record["image_id"] for record in records] == ["a", "c"]
    assert "2 of its 3 images are there" in caplog.text
    assert records[0]["labels"] == (0, 25)
    assert (records[0]["height"], records[0]["width"]) == (8, 6)
    # The rarest class of an image, and its odds, are those of the whole table.
    assert records[0]["modality"] == "Cytosol"
    assert records[0]["odds"][[0, 25]].tolist() == [0, 2]


def test_a_data_set_without_any_image_is_refused(write_images):
    folder = write_images({"z_green": 1}, ["a,25 0"])
    with pytest.raises(InputError, match="unpack the images"):
        protein_dicts([str(folder)])


def test_parts_come_from_the_split_table_or_else_by_themselves(write_images):
    names = "abcdefghij"
    folder = write_images({f"{name}_green": 1 for name in names}, [f"{name},0" for name in names])

    def ids(part):
        return [record["image_id"] for record in protein_dicts([f"{folder}:{part}"])]

    assert sorted(ids("train") + ids("dev")) == list(names)
    assert len(ids("dev")) == 2
    assert ids("-dev") == ids("train")
    with pytest.raises(InputError, match="no part 'fold1'"):
        ids("fold1")
    (folder / "split.csv").write_text("image_id,part\n" + "".join(f"{name},fold{name < 'd'}\n" for name in names))
    assert ids("foldTrue") == ["a", "b", "c"]


labels_of_images = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=2, max_size=60)


@pytest.mark.slow
@given(labels_of_images, st.integers(0, 3))
def test_every_class_of_two_images_is_on_both_sides(targets, seed):
    labels = class_table([sorted(set(numbers)) for numbers in targets])
    dev = in_dev(labels, 0.2, seed)
    assert np.array_equal(dev, in_dev(labels, 0.2, seed))
    once = labels[:, labels.sum(axis=0) >= 2]
    # The images of a rare class may have been given out for a rarer one; of single labels none is.
    if (labels.sum(axis=1) == 1).all():
        assert once[dev].any(axis=0).all() and once[~dev].any(axis=0).all()


def test_shares_of_all_classes_are_met():
    rng = np.random.default_rng(0)
    # From 1,500 of 3,000 images down to 6.
    labels = rng.random((3000, 9)) < 0.5 ** np.arange(1, 10)
    labels[~labels.any(axis=1), 0] = True
    dev = in_dev(labels, 0.2)
    assert dev.mean() == pytest.approx(0.2, abs=0.01)
    assert labels[dev].sum(axis=0) == pytest.approx(0.2 * labels.sum(axis=0), abs=2)
    # By chance alone the classes would be off by more.
    assert not np.array_equal(dev, in_dev(labels, 0.2, seed=2))


def test_a_submission_is_written_recognised_and_checked(tmp_path):
    path = tmp_path / "submission.csv"
    write_predicted(path, [("a", [0, 25]), ("b", np.array([3]))])
    assert path.read_text() == "Id,Predicted\na,0 25\nb,3\n"
    assert check_predicted(path, ["b", "a"])
    for images, fault in ((["a"], "image b is unknown"), (["a", "b", "c"], "image c is missing")):
        with pytest.raises(InputError, match=fault):
            check_predicted(path, images)
    path.write_text("Id,Predicted\na,0 28\n")
    with pytest.raises(InputError, match="line 2"):
        check_predicted(path, ["a"])
    path.write_text("ImageId,EncodedPixels\n")
    assert not check_predicted(path, ["a"])

import zipfile

import numpy as np
import pytest

from maskseg.formats.kaggle_reader import read, recognises
from maskseg.formats.reader import Note
from maskseg.formats.submission_check import check_submission

from .annotated import LABELS, masks_of, pixels, read_all

SHAPE = LABELS.shape


def texts(by_rows=False):
    """Run lengths of the masks, the plain way."""
    for label in (1, 2, 3, 7):
        flat = (label == LABELS).ravel(order="C" if by_rows else "F")
        edges = np.flatnonzero(np.diff(np.concatenate(([0], flat, [0]))))
        yield " ".join(f"{begin + 1} {end - begin}" for begin, end in zip(edges[::2], edges[1::2], strict=True))


def save(path, header, rows, divider=",", encoding="utf-8"):
    path.write_text("\n".join(divider.join(cells) for cells in [header, *rows]) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("divider", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_spreadsheets_save_them(tmp_path, divider, encoding):
    path = save(tmp_path / "a.csv", ("ImageId", "EncodedPixels"), [("a", text) for text in texts()], divider, encoding)
    assert recognises(path)
    assert pixels(read_all("rle", path, SHAPE)[0]["a"].masks) == pixels(masks_of())
    faults = check_submission(path, {"a": SHAPE}) if encoding != "utf-16" else ["not read"]
    assert bool(faults) == (divider != "," or encoding == "utf-16")


@pytest.mark.parametrize("header", [("id", "annotation"), ("id", "predicted")])
def test_sartorius_runs_go_along_the_rows(tmp_path, header):
    path = save(tmp_path / "a.csv", header, [("a", text) for text in texts(by_rows=True)])
    assert recognises(path)
    assert pixels(read_all("rle", path, SHAPE)[0]["a"].masks) == pixels(masks_of())


def test_sartorius_labels_have_sizes_and_classes(tmp_path):
    rows = [("a", text, str(SHAPE[1]), str(SHAPE[0]), kind) for text, kind in zip(texts(True), "xyxy", strict=True)]
    path = save(tmp_path / "a.csv", ("id", "annotation", "width", "height", "cell_type"), rows)
    found = read_all("rle", path)[0]["a"]
    assert pixels(found.masks) == pixels(masks_of())
    assert found.classes == ["x", "y", "x", "y"]


def test_ignored_rows_and_their_images_do_not_count(tmp_path):
    rows = [("a", text, "14", "18", "Private") for text in texts()]
    rows += [("b", "1 2", "14", "18", "Ignored"), ("a", "1 1", "14", "18", "ignored")]
    path = save(tmp_path / "a.csv", ("ImageId", "EncodedPixels", "Height", "Width", "Usage"), rows)
    items, others = read_all("rle", path)
    assert list(items) == ["a"]
    assert len(items["a"].masks) == 4
    assert len(others) == 1 and isinstance(others[0], Note)
    assert others[0].text.startswith("2 rows of Usage Ignored")


def test_a_row_at_fault_is_left_out_alone(tmp_path):
    rows = [("a", "1 2"), ("a", "x"), ("a", "9999 4"), ("a", "5 1 3 1"), ("b", ""), ("c", "-1")]
    path = save(tmp_path / "a.csv", ("ImageId", "EncodedPixels"), rows)
    items, _ = read_all("rle", path, SHAPE)
    assert len(items["a"].masks) == 1
    assert [one.file.rpartition(": ")[2] for one in items["a"].left_out] == ["line 3", "line 4", "line 5"]
    assert len(items["b"].masks) == len(items["c"].masks) == 0
    assert not items["c"].left_out


def test_endings_and_zip_files_and_folders(tmp_path):
    (tmp_path / "set").mkdir()
    path = save(tmp_path / "set" / "train.csv", ("ImageId", "EncodedPixels"), [("a.png", "1 2")])
    save(tmp_path / "set" / "other.csv", ("name", "number"), [("a", "1")])
    with zipfile.ZipFile(tmp_path / "train.csv.zip", "w") as archive:
        archive.write(path, "train.csv")
    for source in (path, tmp_path / "set", tmp_path / "train.csv.zip"):
        assert recognises(source)
        (item,) = read(source)
        assert (item.image_id, item.file_name) == ("a", "a.png")
    (tmp_path / "set" / "predictions.json").write_text("{}")
    assert not recognises(tmp_path / "set")


def test_sizes_that_are_claimed_cost_nothing(tmp_path):
    side = str(1 << 16)
    header = ("ImageId", "EncodedPixels", "Height", "Width")
    path = save(tmp_path / "a.csv", header, [("a", f"1 {1 << 32}", side, side), ("a", "1 2", side, side)])
    found = read_all("rle", path)[0]["a"]
    assert len(found.masks) == len(found.left_out) == 1

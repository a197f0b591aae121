"""Names and signs are recognised in time by the length of the text."""

import time

import pytest

from maskseg.convert import pairing
from maskseg.formats import coco_reader, hovernet, imagej_reader, yolo
from maskseg.formats.registry import recognise

from .annotated import read_all

LONG = 100_000
SHAPE = (10, 10)


def yaml(folder, text):
    (folder / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (folder / "data.yaml").write_text(text)
    return read_all("yolo", folder, SHAPE)[0]["a"].classes


@pytest.mark.parametrize(
    "work",
    [
        lambda folder: yaml(folder, "names:\n0: a" + " " * LONG + "x\n"),
        lambda folder: yaml(folder, "names:\n- a" + " " * LONG + "x\n"),
        lambda folder: yaml(folder, "names:\n" + " " * LONG + "x\n"),
        lambda folder: yaml(folder, "names:[\n" * LONG),
        lambda folder: yaml(folder, "names:" + " " * LONG + "\n" * LONG),
        lambda folder: yaml(folder, "names\n" * LONG),
        lambda folder: list(pairing._readings("?" * LONG + "\n\n")),
        lambda folder: list(pairing._readings("a.png?" + "#" * LONG + "\nb")),
        lambda folder: pairing.by_number("7", ["9" * LONG]),
        lambda folder: imagej_reader._image_id("a" + " " * LONG + "b"),
        lambda folder: imagej_reader._image_id("roi" + "_" * LONG),
        *(
            lambda folder, sign=module._SIGN, word=word: [sign.search(word * (8192 // len(word))) for _ in range(20)]
            for module, word in [
                (coco_reader, b'"image_id":'), (coco_reader, b'"image_id":"'), (coco_reader, b'}"image_id"'),
                (hovernet, b'"contour":[['), (hovernet, b'{"contour":'), (hovernet, b'"contour": [ ["type"'),
            ]
        ),
    ],
)  # fmt: skip
def test_what_has_no_name_is_seen_in_time_by_its_length(work, tmp_path):
    begin = time.process_time()
    work(tmp_path)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "line", ["0 " + "11 " * 40 + "x", "0 " + "1" * 4000 + "x", "0 " + "1." * 2000, "0 " + "1e" * 2000, " " * 8000 + "x"]
)
def test_what_is_no_line_of_yolo_is_seen_in_time_by_its_length(line, tmp_path):
    (tmp_path / "a.txt").write_text(f"{line}\n")
    begin = time.process_time()
    assert not yolo.recognises(tmp_path)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 .1 0.1 5e-1 0.1 0.5 0.5", True),
        ("12\t1 0 1 1 0 1 0.9", True),
        ("0 0.5 0.5 0.1 0.1", True),
        ("0 0.5 0.5 0.1", False),
        ("0 0.5 nan 0.1 0.1", False),
        ("0 0.5 1_0 0.1 0.1", False),
        ("a 0.5 0.5 0.1 0.1", False),
        ("0 " + "0.25 0.75 " * 2000, True),
    ],
)
def test_lines_of_yolo(line, expected, tmp_path):
    (tmp_path / "a.txt").write_text(f"{line}\n")
    assert yolo.recognises(tmp_path) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nc: 1\nnames: ['round cell', b]\n", "round cell"),
        ("names:\n  [\n  a,\n  b]\n", "a"),
        ("names :\n  '0' : \"a: b\"\n", "a: b"),
        ("names:\n- 'it''s'\n- b\n", "it''s"),
        ("data:\n  names:\n    0: a\n", "a"),
        ("train: names/a\nnames:\n  0: a\n", "a"),
        ("names:\n" + "9" * 5000 + ": a\n", "0"),
    ],
)
def test_names_of_yolo(text, expected, tmp_path):
    assert yaml(tmp_path, text) == [expected]


@pytest.mark.parametrize(
    ("name", "expected"), [("RoiSet_a", "a"), ("a_RoiSet", "a"), ("a - roi", "a"), ("a b", "a b"), ("a_overlays", "a")]
)
def test_names_around_regions(name, expected):
    assert imagej_reader._image_id(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"score": 1, "image_id": 3, "image_id": 3, "bbox": [1, 2, 3, 4]}]', "coco"),
        ('[{"image_id": 3}, {"image_id": 3, "segmentation": {"size": [2, 2], "counts": "4"}}]', "coco"),
        ('{"1": {"bbox": [1], "contour": [[1, 2], [3, 4], [5, 6]], "type": 1}}', "hovernet"),
        ('{"mag": 40, "nuc": {}}', "hovernet"),
    ],
)
def test_signs_of_formats(text, expected, tmp_path):
    (tmp_path / "a.json").write_text(text)
    assert recognise(tmp_path).name == expected

import copy
import json
import zipfile

import pytest

from maskseg.core.errors import InputError
from maskseg.formats.coco import load_coco

GOOD = {
    "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 24}],
    "annotations": [
        {"id": 1, "image_id": 1, "bbox": [2, 3, 7, 5], "segmentation": {"size": [20, 24], "counts": [63, 4, 413]}}
    ],
}
WRONG = [
    ("images", "file_name", value) for value in (None, 1, "", "../a.png", "/etc/passwd", "C:\\a", "\ud800", ["a"])
] + [
    ("images", "height", value) for value in (None, 0, -1, 2.5, True, "20", 10**400)
] + [
    ("images", "id", [1]), ("images", "modality", {}),
    ("annotations", "image_id", 2), ("annotations", "image_id", None), ("annotations", "bbox", [1, 2, 3]),
    ("annotations", "bbox", [1, 2, 3, float("nan")]), ("annotations", "score", "high"),
    ("annotations", "segmentation", [[1, 2]]), ("annotations", "segmentation", {"size": [20, 25], "counts": [500]}),
    ("annotations", "segmentation", {"size": [20, 24], "counts": [10**400]}),
    ("annotations", "segmentation", {"size": [20, 24], "counts": None}),
]  # fmt: skip


def load(folder, data):
    (folder / "annotations.json").write_text(json.dumps(data))
    return load_coco(folder)


@pytest.mark.parametrize(("part", "key", "value"), WRONG)
def test_a_damaged_record_is_named_in_one_line(tmp_path, part, key, value):
    assert len(load(tmp_path, GOOD).images) == 1
    data = copy.deepcopy(GOOD)
    data[part][0][key] = value
    with pytest.raises(InputError, match=r"annotations\.json: (image|annotation) record 0: .*maskseg convert"):
        load(tmp_path, data)


def test_a_data_set_in_a_zip_is_refused_with_the_way_to_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ZIP", "w") as file:
        file.writestr("annotations.json", json.dumps(GOOD))
    with pytest.raises(InputError, match=r"a\.ZIP: a data set is a folder; unpack it, or .* maskseg convert auto"):
        load_coco(tmp_path / "a.ZIP")


@pytest.mark.parametrize("data", [[], {}, {"images": 1, "annotations": []}, {"images": [1], "annotations": []}, 5])
def test_what_is_no_data_set_is_named_in_one_line(tmp_path, data):
    with pytest.raises(InputError, match=r"annotations\.json"):
        load(tmp_path, data)

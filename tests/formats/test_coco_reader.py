import json
import math

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskseg.core.errors import InputError
from maskseg.core.masks import trim
from maskseg.core.outlines import outlines
from maskseg.core.rle import runs_to_crop
from maskseg.data.dataset import image_id, load_coco
from maskseg.formats.coco_reader import segmentation_runs
from tests.fixtures.converting import convert_coco as convert

from .annotated import read_all, zipped

SHAPE = (40, 50)
MASK = np.zeros(SHAPE, np.uint8)
MASK[5:15, 5:20] = 1
MASK[8:11, 9:12] = 0
SQUARE = [[10.0, 20.0, 18.0, 20.0, 18.0, 30.0, 10.0, 30.0]]
SQUARE_MASK = np.zeros(SHAPE, np.uint8)
SQUARE_MASK[20:30, 10:18] = 1


def compressed(mask):
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(SHAPE), "counts": rle["counts"].decode()}


def counts(mask):
    """Uncompressed run lengths, the plain way."""
    flat = mask.ravel(order="F").tolist()
    runs, value = [0], 0
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(SHAPE), "counts": runs}


def record(number=1, name="a.png", **more):
    return {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1], **more}


def item(segmentation, number=1, image=1, category=1, **more):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


@pytest.fixture
def coco(tmp_path):
    """Writes a COCO file and its images, converts it: summary and image id -> masks, decoded by pycocotools."""

    def make(records, annotations, listed=({"id": 1, "name": "cell"},), files=("a.png",), text=None, **options):
        for name in files:
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Every file is another picture.
            cv2.imwrite(str(path), np.full((*SHAPE, 3), len(list(path.parent.iterdir())), np.uint8))
        data = {"images": records, "annotations": annotations, "categories": list(listed)}
        (tmp_path / "given.json").write_text(text or json.dumps(data))
        options = {"images": tmp_path / "photos", "progress": False, **options}
        summary = convert(tmp_path / "given.json", tmp_path / "out", **options)
        written = load_coco(tmp_path / "out")
        masks = {
            image_id(image): [
                coco_mask.decode(item["segmentation"]) for item in written.annotations.get(image["id"], [])
            ]
            for image in written.images
        }
        return summary, masks

    return make


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (compressed(MASK), MASK),
        (counts(MASK), MASK),
        (SQUARE, SQUARE_MASK),
        (SQUARE[0], SQUARE_MASK),
        ([*SQUARE, [1.0, 1.0, 2.0, 2.0]], SQUARE_MASK),
    ],
    ids=["compressed", "uncompressed", "polygon", "polygon without its list", "polygon and a line"],
)
def test_each_kind_of_segmentation_is_read(segmentation, expected, coco):
    summary, masks = coco([record()], [item(segmentation)])
    assert (summary.masks, summary.annotation_count, summary.left_out) == (1, 1, [])
    assert (masks["a"][0] == expected).all()


def test_a_polygon_along_the_edges_of_pixels_is_its_mask():
    rng = np.random.default_rng(5)
    for _ in range(50):
        bitmap = ndimage.binary_fill_holes(cv2.blur(rng.random((20, 30)), (5, 5)) > 0.5)
        polygons = [polygon[0].ravel().tolist() for polygon in outlines(bitmap, (4, 6))]
        box, found = runs_to_crop(*segmentation_runs(polygons, SHAPE), SHAPE)
        expected_box, expected = trim(bitmap, 4, 6)
        assert box.tolist() == list(expected_box)
        assert (found == expected).all()


def test_polygons_are_rasterised_as_pycocotools_does_and_united():
    rng = np.random.default_rng(3)
    for _ in range(200):
        # Some lie partly outside, some cross themselves.
        polygons = [rng.uniform(-10, 60, 2 * rng.integers(3, 9)).tolist() for _ in range(rng.integers(1, 4))]
        (x0, y0, x1, y1), bitmap = runs_to_crop(*segmentation_runs(polygons, SHAPE), SHAPE)
        found = np.zeros(SHAPE, np.uint8)
        found[y0:y1, x0:x1] = bitmap
        each = coco_mask.decode(coco_mask.frPyObjects(polygons, *SHAPE))
        assert (found == each.any(axis=2)).all()


def test_ids_that_are_not_consecutive_and_text_beside_numbers(coco):
    summary, masks = coco(
        [record(900, "b.png"), record("17", "a.png")],
        [item(SQUARE, 55, 17), item(compressed(MASK), 3, 900), item(compressed(1 - MASK), 9, 17)],
        files=("a.png", "b.png"),
    )
    assert summary.left_out == []
    assert [len(masks[name]) for name in "ab"] == [2, 1]
    assert (masks["b"][0] == MASK).all()


@pytest.mark.parametrize(
    "name",
    ["a.png", "/home/me/a.png", "C:\\data\\set\\a.png", "../../a.png", "val/a.png", "A.PNG", "https://x.y/z/a.png"],
)
def test_paths_of_another_machine_lead_to_the_file(name, coco, tmp_path):
    summary, _ = coco([record(name=name)], [item(SQUARE)])
    assert (summary.masks, summary.left_out) == (1, [])
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["A.png" if name == "A.PNG" else "a.png"]


def test_images_of_one_name_are_told_apart_by_their_folders(coco, tmp_path):
    summary, masks = coco(
        [record(1, "/x/train/a.png"), record(2, "/x/val/a.png"), record(3, "b.png")],
        [item(SQUARE, 1, 1), item(compressed(MASK), 2, 2)],
        files=("train/a.png", "val/a.png", "val/b.png"),
    )
    assert summary.left_out == []
    assert (masks["train_a"][0] == SQUARE_MASK).all()
    assert (masks["val_a"][0] == MASK).all()
    assert masks["b"] == []
    for name in ("train", "val"):
        given = (tmp_path / "photos" / name / "a.png").read_bytes()
        assert (tmp_path / "out" / "images" / f"{name}_a.png").read_bytes() == given


def test_what_is_known_of_an_image_is_kept(coco, tmp_path):
    coco([record(microns_per_pixel=0.25, modality="tissue", licence=3)], [item(SQUARE)])
    (image,) = load_coco(tmp_path / "out").images
    assert (image["microns_per_pixel"], image["modality"]) == (0.25, "tissue")
    assert "licence" not in image


THREE = ({"id": 5, "name": "Nuclei"}, {"id": 9, "name": "border"}, {"id": 11, "name": "stroma"})


@pytest.mark.parametrize(
    ("used", "wanted", "taken"),
    [
        ([5, 9, 11], [], [5]),
        ([9, 9], [], [9, 9]),
        ([9, 11], ["stroma"], [11]),
        ([5, 9, 11], ["border", "stroma"], [9, 11]),
        ([5, 9, 11], ["all"], [5, 9, 11]),
    ],
)
def test_the_rule_for_categories(used, wanted, taken, coco):
    masks = [np.zeros(SHAPE, np.uint8) for _ in used]
    for number, mask in enumerate(masks):
        mask[number, : used[number]] = 1
    items = [item(compressed(mask), n, category=use) for n, (mask, use) in enumerate(zip(masks, used, strict=True))]
    summary, found = coco([record()], items, THREE, categories=wanted)
    assert sorted(mask.sum() for mask in found["a"]) == sorted(taken)
    assert summary.annotation_count == len(taken)
    assert (f"of {len(used)}" in str(summary)) == (len(taken) < len(used))


@pytest.mark.parametrize(("wanted", "says"), [([], r"border \(2\), stroma \(1\).*--category"), (["tumour"], "tumour")])
def test_a_choice_of_categories_that_is_wanting_is_one_line(wanted, says, coco):
    items = [item(compressed(MASK), 1, 1, 9), item(SQUARE, 2, 1, 9), item(SQUARE, 3, 1, 11)]
    with pytest.raises(InputError, match=says) as error:
        coco([record()], items, THREE, categories=wanted)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"segmentation": compressed(MASK), "iscrowd": 1}, "crowd"),
        ({"segmentation": []}, "no outline"),
        ({"segmentation": None}, "no outline"),
        ({"segmentation": "text"}, "no outline"),
        ({"segmentation": [[]]}, "three points"),
        ({"segmentation": [[1, 2, 3, 4]]}, "three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, math.nan]]}, "no numbers"),
        ({"segmentation": [[1, 2, 3, "4", 5, 6]]}, "no numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, "more than 500 pixels"),
        ({"segmentation": [[100, 100, 110, 100, 110, 110]]}, "not one pixel"),
        ({"segmentation": compressed(np.zeros(SHAPE, np.uint8))}, "not one pixel"),
        ({"segmentation": {"size": [41, 50], "counts": [41 * 50]}}, "of size"),
        ({"segmentation": {"size": list(SHAPE)}}, "of size"),
        ({"segmentation": {"size": list(SHAPE), "counts": [100, 5]}}, "do not fill"),
        ({"segmentation": {"size": list(SHAPE), "counts": "ü"}}, "malformed"),
        ({"segmentation": SQUARE, "image_id": 2}, "no image 2"),
        ({"segmentation": SQUARE, "image_id": None}, "no image None"),
        ({"segmentation": compressed(SQUARE_MASK)}, "the same pixels as annotation 1"),
    ],
)
def test_a_bad_annotation_is_one_line_and_costs_only_itself(bad, says, coco):
    summary, masks = coco([record()], [item(SQUARE, 1), item([], 77) | bad])
    (fault,) = summary.left_out
    assert says in fault.reason
    assert fault.file.endswith("given.json: annotation 77")
    assert "\n" not in fault.reason
    assert (summary.masks, summary.annotation_count) == (1, 2)
    assert (masks["a"][0] == SQUARE_MASK).all()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"file_name": "none.png"}, "no such file"),
        ({"file_name": None}, "no such file"),
        ({"height": 50, "width": 40}, "40x50 pixels, the annotations say 50x40"),
        ({"id": 1}, "2 images have the id 1"),
        ({"file_name": "empty.png"}, "empty"),
    ],
)
def test_a_bad_image_is_one_line_and_its_annotations_are_counted(bad, says, coco, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "empty.png").write_bytes(b"")
    images = [record(5, "good.png"), record(1, "twin.png"), record(2, "b.png") | bad]
    items = [item(SQUARE, n, image) for n, image in enumerate((5, 1, 2))]
    summary, masks = coco(images, items, files=("good.png", "b.png", "twin.png"))
    assert says in summary.left_out[-1].reason
    assert all("\n" not in fault.reason for fault in summary.left_out)
    assert "good" in masks
    assert summary.annotation_count == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": []}', '{"images": {}, "annotations": []}', "\xff"])
def test_what_is_no_coco_file_is_one_line(text, coco):
    with pytest.raises(InputError, match=r"given\.json") as error:
        coco([], [], text=text or " ")
    assert "\n" not in str(error.value)


def test_a_folder_with_one_json_file_and_images_beside_it(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "labels.json").write_text(json.dumps({"images": [record()], "annotations": [item(SQUARE)]}))
    cv2.imwrite(str(tmp_path / "set" / "a.png"), np.zeros((*SHAPE, 3), np.uint8))
    assert convert(tmp_path / "set", tmp_path / "out", progress=False).masks == 1
    (tmp_path / "set" / "second.json").write_text('{"settings": {}}')
    assert convert(tmp_path / "set", tmp_path / "out", progress=False).masks == 1
    (tmp_path / "set" / "labels.json").unlink()
    with pytest.raises(InputError, match="no COCO file"):
        convert(tmp_path / "set", tmp_path / "out", progress=False)


@pytest.mark.parametrize("fault", ["images", "no image"])
def test_a_wrong_folder_of_images_is_one_line(fault, coco, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="--images") as error:
        coco([record()], [item(SQUARE)], images=tmp_path / ("none" if fault == "images" else "empty"))
    assert "\n" not in str(error.value)


def test_numbers_count_by_their_values(coco):
    """Ids, sizes and iscrowd as numbers of any kind or as text."""
    names = [{"id": 1.0, "name": "nucleus"}, {"id": "2", "name": "debris"}]
    sized = {**record("1"), "height": "40", "width": 50.0}
    rle = {**compressed(MASK), "size": ["40", 50.0]}
    items = [item(rle, "7", 1.0, "1", iscrowd="0"), item(SQUARE, 8.0, "1", 2.0, iscrowd=0.0)]
    summary, masks = coco([sized], items, names, categories=["nucleus"])
    assert (summary.masks, summary.left_out) == (1, [])
    np.testing.assert_array_equal(masks["a"][0], MASK)
    assert coco([sized], items, names, categories=["all"])[0].masks == 2
    crowd = [item(SQUARE, 1), item(SQUARE, 2, iscrowd="1"), item(SQUARE, 3, iscrowd=True)]
    assert [one.file.rpartition(" ")[2] for one in coco([sized], crowd)[0].left_out] == ["2", "3"]


def test_run_lengths_with_iscrowd_throughout_are_an_encoding(coco):
    other = np.roll(MASK, 9, axis=1)
    encoded = [item(compressed(mask), number, iscrowd=1) for number, mask in enumerate((MASK, other), start=1)]
    summary, masks = coco([record()], encoded)
    assert (summary.masks, summary.left_out, len(summary.notes)) == (2, [], 1)
    np.testing.assert_array_equal(masks["a"], [MASK, other])
    # With polygons beside them where they are many and no larger, or as CVAT marks them.
    boxed = [{**one, "bbox": [5, 5, 15, 10]} for one in encoded]
    assert coco([record()], [*boxed, item(SQUARE, 3, bbox=[10, 20, 8, 10])])[0].masks == 3
    marked = [{**one, "attributes": {"occluded": False}} for one in encoded]
    assert coco([record()], [*marked, item(SQUARE, 3)])[0].masks == 3


def test_a_crowd_beside_single_nuclei_is_left_out(coco):
    crowd = item(compressed(np.ones(SHAPE, np.uint8)), 9, iscrowd=1, bbox=[0, 0, 50, 40])
    summary, _ = coco([record()], [item(SQUARE, 1, bbox=[10, 20, 8, 10]), crowd])
    assert summary.masks == 1
    assert "crowd" in summary.left_out[0].reason


def test_annotations_by_their_ids_are_their_values(coco):
    text = json.dumps({"images": [record()], "annotations": {"5": item(SQUARE, 5)}, "categories": []})
    assert coco([], [], text=text)[0].masks == 1


def test_a_list_of_results_is_for_the_images_of_its_numbers(coco):
    results = [{**item(compressed(MASK), image=number), "score": 0.5} for number in (1, 2)]
    summary, masks = coco([], [], text=json.dumps(results), files=("img1.png", "img02.png"))
    assert (summary.masks, summary.left_out) == (2, [])
    assert sorted(masks) == ["img02", "img1"]


def test_files_of_one_image_each_are_one_set_without_classes(tmp_path):
    """As SA-1B has them: masks that say neither of which image nor of which category they are."""
    (tmp_path / "set").mkdir()
    for number in (1, 2):
        pixels = np.full((*SHAPE, 3), 10 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "set" / f"sa_{number}.jpg"), pixels)
        image = {"image_id": number, "file_name": f"sa_{number}.jpg", "height": SHAPE[0], "width": SHAPE[1]}
        masks = [{"id": 7, "segmentation": compressed(MASK), "bbox": [5, 5, 15, 10], "predicted_iou": 0.9}]
        (tmp_path / "set" / f"sa_{number}.json").write_text(json.dumps({"image": image, "annotations": masks}))
    summary = convert(tmp_path / "set", tmp_path / "out", progress=False)
    assert (summary.masks, summary.left_out) == (2, [])
    data = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [one["name"] for one in data["categories"]] == ["nucleus"]
    for annotation in data["annotations"]:
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), MASK)
    (tmp_path / "set" / "sa_2.json").write_text('{"image": {}, "annotations": [7]}')
    with pytest.raises(InputError, match=r"sa_2\.json.*'annotations'"):
        convert(tmp_path / "set", tmp_path / "more", progress=False)


def test_the_parts_of_a_roboflow_export_are_one_set(tmp_path):
    for part, grey in (("train", 10), ("valid", 20)):
        (tmp_path / "set" / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / part / "a.png"), np.full((*SHAPE, 3), grey, np.uint8))
        text = json.dumps({"images": [record()], "annotations": [item(SQUARE)]})
        (tmp_path / "set" / part / "_annotations.coco.json").write_text(text)
    for source in (tmp_path / "set", zipped(tmp_path / "set", tmp_path / "set.zip")):
        summary = convert(source, tmp_path / "out", progress=False)
        assert (summary.images, summary.masks, summary.left_out) == (2, 2, [])
        assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["train_a.png", "valid_a.png"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("my%20cell%2B.png", "my cell+.png"),
        ("https://x.y/a.png?token=1#2", "a.png"),
        ("..\\raw\\a.png", "a.png"),
        ("zelle_ä.png", "zelle_a\u0308.png"),
        ("zelle_a\u0308.png", "zelle_ä.png"),
        ("a.tif", "a.png"),
        ("/data/upload/1/0a1b2c3d-a.png", "a.png"),
    ],
)
def test_names_as_programs_write_them_lead_to_the_file(coco, name, file):
    summary, _ = coco([record(name=name)], [item(SQUARE)], files=(file,))
    assert (summary.masks, summary.left_out) == (1, [])


def test_a_size_that_is_claimed_costs_nothing(tmp_path):
    side = 1 << 16
    huge, small = ({"size": [side, side], "counts": [0, count, side * side - count]} for count in (1 << 31, 9))
    data = {"images": [{**record(), "height": side, "width": side}], "annotations": [item(huge), item(small, 2)]}
    (tmp_path / "a.json").write_text(json.dumps(data))
    found = read_all("coco", tmp_path / "a.json")[0]["a"]
    assert found.masks.areas.tolist() == [9]
    assert "too large" in found.left_out[0].reason

"""What a person has looked at: marks in any container, kept as a region of the image."""

import json

import numpy as np
import pytest

from maskseg.convert.annotated import convert_annotations
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts, load_coco, unreviewed
from maskseg.formats.reader import Nuclei
from maskseg.formats.reviewed import as_field, is_mark, region_of, separate_reviewed, within

SHAPE = (40, 60)


def square(x, y, side=6):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def geojson(*features):
    def one(points, name, kind, mark):
        properties = {"objectType": "annotation" if mark else "detection", **({"name": mark} if mark else {})}
        if kind:
            properties["classification"] = {"name": kind}
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]},
            "properties": properties,
        }

    return {"type": "FeatureCollection", "features": [one(*feature) for feature in features]}


LEFT = [[0, 0], [30, 0], [30, 40], [0, 40]]
# Inside, outside, on the edge: more of it inside, more of it outside.
NUCLEI = [square(5, 5), square(45, 5), square(26, 15), square(28, 25)]


def labelme(name):
    shapes = [{"label": "nucleus", "points": points, "shape_type": "polygon"} for points in NUCLEI]
    shapes.append({"label": "reviewed", "points": LEFT, "shape_type": "polygon"})
    return {"shapes": shapes, "imagePath": name, "imageHeight": 40, "imageWidth": 60, "imageData": None}


@pytest.fixture
def pictures(tmp_path):
    import cv2

    (tmp_path / "images").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((*SHAPE, 3), np.uint8))
    return tmp_path / "images"


def write(kind, folder):
    """Annotations of image a with a mark around its left half, of image b without, in a container."""
    folder.mkdir()
    plain = [(points, "", "nucleus", None) for points in NUCLEI]
    if kind == "geojson":
        (folder / "a.geojson").write_text(json.dumps(geojson(*plain, (LEFT, "", "", " Reviewed "))))
        (folder / "b.geojson").write_text(json.dumps(geojson(*plain)))
    elif kind == "geojson-class":
        (folder / "a.geojson").write_text(json.dumps(geojson(*plain, (LEFT, "", "reviewed*", "x"))))
        (folder / "b.geojson").write_text(json.dumps(geojson(*plain)))
        return "geojson"
    elif kind == "labelme":
        (folder / "a.json").write_text(json.dumps(labelme("a.png")))
        other = labelme("b.png")
        other["shapes"].pop()
        (folder / "b.json").write_text(json.dumps(other))
    elif kind == "coco":
        images = [{"id": n, "file_name": f"{name}.png", "height": 40, "width": 60} for n, name in enumerate("ab")]
        items = [
            {"id": n, "image_id": n // 4, "category_id": 1, "segmentation": [np.ravel(points).tolist()]}
            for n, points in enumerate(NUCLEI * 2)
        ]
        items.append({"id": 9, "image_id": 0, "category_id": 5, "segmentation": [np.ravel(LEFT).tolist()]})
        categories = [{"id": 1, "name": "nucleus"}, {"id": 5, "name": "reviewed"}]
        content = {"images": images, "annotations": items, "categories": categories}
        (folder / "x.json").write_text(json.dumps(content))
    return kind


@pytest.mark.parametrize("kind", ["geojson", "geojson-class", "labelme", "coco"])
def test_only_what_lies_in_the_mark_is_taken(kind, pictures, tmp_path):
    form = write(kind, tmp_path / "in")
    options = {"categories": ()} if form == "coco" else {}
    summary = convert_annotations(tmp_path / "in", tmp_path / "out", form, pictures, reviewed=True, **options)
    assert (summary.images, summary.masks, summary.left_out, summary.classes) == (1, 2, [], ["nucleus"])
    assert summary.notes["not marked as reviewed, left out"] == 1
    (record,) = dataset_dicts(str(tmp_path / "out"))
    assert record["image_id"] == "a"
    assert sorted(item["bbox"][:2] for item in record["annotations"]) == [[5, 5], [26, 15]]
    unseen = unreviewed(record, SHAPE)
    assert unseen[:15, 30:].all() and not unseen[:15, :30].any()
    # The nucleus that is taken counts whole; of the one that is not taken the part inside counts for nothing.
    assert not unseen[15:21, 26:32].any() and unseen[25:31, 28:34].all()


def test_without_the_option_all_is_taken_and_the_mark_is_no_nucleus(pictures, tmp_path):
    write("geojson", tmp_path / "in")
    summary = convert_annotations(tmp_path / "in", tmp_path / "out", "geojson", pictures)
    assert (summary.images, summary.masks) == (2, 8)
    assert any("--reviewed" in note for note in summary.notes)
    assert not any("reviewed" in image for image in load_coco(tmp_path / "out").images)


def test_a_flag_of_labelme_marks_the_whole_image(pictures, tmp_path):
    (tmp_path / "in").mkdir()
    for name, flag in (("a", True), ("b", False)):
        content = labelme(f"{name}.png")
        content["shapes"].pop()
        content["flags"] = {"reviewed": flag}
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(content))
    summary = convert_annotations(tmp_path / "in", tmp_path / "out", "labelme", pictures, reviewed=True)
    assert (summary.images, summary.masks) == (1, 4)
    (record,) = dataset_dicts(str(tmp_path / "out"))
    assert "reviewed" in record and unreviewed(record, SHAPE) is None


def test_nothing_marked_is_one_line_with_the_remedy(pictures, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.geojson").write_text(json.dumps(geojson(*[(points, "", "", None) for points in NUCLEI])))
    with pytest.raises(InputError, match="without --reviewed all is taken"):
        convert_annotations(tmp_path / "in", tmp_path / "out", "geojson", pictures, reviewed=True)


def test_a_region_comes_back_from_an_image_record():
    region = np.zeros(SHAPE, bool)
    region[3:20, 10:50] = True
    assert (region_of({"reviewed": as_field(region)}, SHAPE) == region).all()
    assert region_of({}, SHAPE) is None and region_of({"reviewed": True}, SHAPE).all()
    with pytest.raises(InputError, match="of size"):
        region_of({"reviewed": as_field(region)}, (40, 61))
    with pytest.raises(InputError, match="no run lengths"):
        region_of({"reviewed": {"size": list(SHAPE)}}, SHAPE)


def test_marks_are_told_by_their_names():
    assert all(map(is_mark, ("reviewed", "Reviewed", " REVIEWED* ")))
    assert not any(map(is_mark, ("", "reviewed by me", "nucleus")))
    labels = np.zeros((6, 6), np.int32)
    labels[:3], labels[4:] = 1, 2
    nuclei, region = separate_reviewed(Nuclei(CropMasks.from_labels(labels), ["reviewed", "Tumor"]))
    assert (region == (labels == 1)).all()
    assert nuclei.classes == ["Tumor"] and nuclei.masks.areas.tolist() == [12]
    kept, _ = within(nuclei.masks, region)
    assert kept.tolist() == []

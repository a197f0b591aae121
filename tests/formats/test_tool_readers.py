"""One faithful file of each program, and the masks that it stands for."""

import csv
import json

import cv2
import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.formats.label_studio import brush
from maskseg.formats.registry import recognise

from .annotated import LABELS, masks_of, pixels, read_all, zipped

SHAPE = (40, 50)
SQUARE = [(2, 3), (12, 3), (12, 9), (2, 9)]
SQUARE_BOX = [2, 3, 12, 9]


def image(path, shape=SHAPE, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*shape, 3), value, np.uint8))


def only(name, source, shape=SHAPE):
    """The nuclei of the one image, read from the folder and from a zip file of it, and its id."""
    assert recognise(source).name == name
    items, _ = read_all(name, source, shape)
    ((image_id, found),) = items.items()
    if source.is_dir() and name != "stacks":
        archive = zipped(source, source.with_suffix(".zip"))
        assert recognise(archive).name == name
        ((_, packed),) = read_all(name, archive, shape)[0].items()
        assert pixels(packed.masks) == pixels(found.masks)
    return image_id, found


# ---- CVAT ----


def runs_of(bitmap):
    """Runs along the rows, outside first, the plain way."""
    runs, value = [0], 0
    for pixel in bitmap.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return ", ".join(map(str, runs))


def test_cvat(tmp_path):
    mask = (LABELS == 1)[1:8, 1:9]
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in SQUARE)
    source = tmp_path / "job"
    image(source / "images" / "sub" / "a.png")
    (source / "annotations.xml").write_text(
        f"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task/></meta>
        <image id="0" name="sub/a.png" width="50" height="40">
        <polygon label="nucleus" source="manual" occluded="0" points="{points}" z_order="0"/>
        <mask label="nucleus" source="manual" rle="{runs_of(mask)}" left="20" top="10" width="8" height="7"/>
        <box label="cell" xtl="30" ytl="1" xbr="34" ybr="3" z_order="0"/>
        <ellipse label="cell" cx="40" cy="30" rx="6" ry="4" z_order="0"/>
        <polygon label="cell" points="1,20;5,20;5,24;1,24" group_id="3"/>
        <polygon label="cell" points="8,20;9,20;9,24;8,24" group_id="3"/>
        <points label="cell" points="1,1"/><tag label="good"/><polyline label="cell" points="1,1;2,2"/>
        <mask label="nucleus" rle="3, 4" left="1" top="1" width="1000000" height="1000000"/>
        </image></annotations>"""
    )
    image_id, found = only("cvat", source)
    assert image_id == "a"
    np.testing.assert_array_equal(found.masks.boxes[0], SQUARE_BOX)
    np.testing.assert_array_equal(found.masks.boxes[1], [20, 10, 28, 17])
    np.testing.assert_array_equal(found.masks.bitmaps[1], mask)
    assert found.masks.areas[[2, 4]].tolist() == [8, 20]
    y, x = np.indices(SHAPE) + 0.5
    assert found.masks.areas[3] == np.count_nonzero(((x - 40) / 6) ** 2 + ((y - 30) / 4) ** 2 <= 1)
    assert found.classes == ["nucleus", "nucleus", "cell", "cell", "cell"]
    assert len(found.left_out) == 3


def test_cvat_of_a_video_is_said(tmp_path):
    (tmp_path / "a.xml").write_text('<annotations><track id="0"><box frame="0"/></track></annotations>')
    assert "video" in read_all("cvat", tmp_path / "a.xml")[1][0].reason


# ---- ASAP ----


def test_asap(tmp_path):
    def annotation(kind, group, points):
        coordinates = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(points))
        return (
            f'<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{coordinates}</Coordinates></Annotation>"
        )

    comma = [(f"{x},0", f"{y},0") for x, y in ((20, 3), (24, 3), (24, 9))]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.xml").write_text(
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        + annotation("Polygon", "Tumor", SQUARE)
        + annotation("Spline", "None", comma)
        + annotation("Dot", "Tumor", [(1, 1)])
        + '</Annotations><AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#64FE2E"/></AnnotationGroups>'
        "</ASAP_Annotations>"
    )
    image_id, found = only("asap", tmp_path / "set")
    assert image_id == "a"
    np.testing.assert_array_equal(found.masks.boxes[0], SQUARE_BOX)
    assert found.classes == ["Tumor", ""]
    assert len(found.left_out) == 1


# ---- YOLO ----


def test_yolo(tmp_path):
    source = tmp_path / "set"
    image(source / "train" / "images" / "a.jpg")
    (source / "train" / "labels").mkdir()
    (source / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: ['cell', 'nucleus']\n")
    line = " ".join(f"{x / 50} {y / 40}" for x, y in SQUARE)
    (source / "train" / "labels" / "a.txt").write_text(
        f"1 {line}\n0 {line} 0.25\n0 0.5 0.5 0.1 0.1\n0 0.1 x 3 4 5 6\n\n"
    )
    image_id, found = only("yolo", source)
    assert image_id == "a"
    np.testing.assert_array_equal(found.masks.boxes, [SQUARE_BOX] * 2)
    assert found.classes == ["nucleus", "cell"]
    assert found.masks.scores.tolist() == [1, 0.25]
    assert ["box" in one.reason for one in found.left_out] == [True, False]


def test_images_may_be_called_after_their_part(tmp_path):
    line = " ".join(f"{x / 50} {y / 40}" for x, y in SQUARE)
    for name in ("train_1", "test_1", "val", "train2017", "README.roboflow", "classes"):
        (tmp_path / f"{name}.txt").write_text(f"0 {line}\n" if "_" in name else "images/a.png\n")
    assert recognise(tmp_path).name == "yolo"
    assert set(read_all("yolo", tmp_path, SHAPE)[0]) == {"train_1", "test_1"}


def test_yolo_names_in_every_form_of_yaml(tmp_path):
    line = " ".join(f"{x / 50} {y / 40}" for x, y in SQUARE)
    (tmp_path / "a.txt").write_text(f"1 {line}\n")
    for text in ("names:\n  0: cell\n  1: nucleus\n", 'names:\n- cell\n- "nucleus"\n', "names: [cell, nucleus]\n"):
        (tmp_path / "data.yaml").write_text(text)
        assert read_all("yolo", tmp_path, SHAPE)[0]["a"].classes == ["nucleus"]


# ---- VIA ----


def via_regions():
    x, y = ([int(value) for value in column] for column in zip(*SQUARE, strict=True))
    polygon = {"name": "polygon", "all_points_x": x, "all_points_y": y}
    ellipse = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 8, "ry": 4, "theta": 0}
    rect = {"name": "rect", "x": 40, "y": 30, "width": 4, "height": 5}
    point = {"name": "point", "cx": 1, "cy": 1}
    names = ({"type": "nucleus"}, {"name": "cell"}, {"kind": {"a": True, "b": False}}, {})
    shapes = (polygon, ellipse, rect, point)
    return [{"shape_attributes": one, "region_attributes": name} for one, name in zip(shapes, names, strict=True)]


def via_file(kind, folder):
    regions = via_regions()
    record = {"filename": "a.png", "size": 123, "regions": regions, "file_attributes": {}}
    if kind == "csv":
        with (folder / "via.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            names = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
            writer.writerow([*names, "region_shape_attributes", "region_attributes"])
            for number, one in enumerate(regions):
                cells = [json.dumps(one[key]) for key in ("shape_attributes", "region_attributes")]
                writer.writerow(["a.png", 123, "{}", len(regions), number, *cells])
        return
    if kind == "version 1":
        record["regions"] = {str(number): one for number, one in enumerate(regions)}
    data = {"a.png123": record}
    if kind == "project":
        data = {"_via_settings": {"ui": {}}, "_via_img_metadata": data, "_via_attributes": {}}
    (folder / "via.json").write_text(json.dumps(data))


@pytest.mark.parametrize("kind", ["version 1", "version 2", "project", "csv"])
def test_via(tmp_path, kind):
    (tmp_path / "set").mkdir()
    via_file(kind, tmp_path / "set")
    image_id, found = only("via", tmp_path / "set")
    assert image_id == "a"
    np.testing.assert_array_equal(found.masks.boxes, [SQUARE_BOX, [22, 16, 38, 24], [40, 30, 44, 35]])
    assert found.classes == ["nucleus", "cell", "a"]
    assert len(found.left_out) == 1


def test_via_of_version_3(tmp_path):
    """Numbers for the kinds of regions; those of a file belong to its view, and options have numbers."""
    flat = [coordinate for point in SQUARE for coordinate in point]
    regions = [([7, *flat], "0"), ([2, 40, 30, 4, 5], "1"), ([4, 30, 20, 8, 4], "1"), ([3, 10, 30, 5], "0")]
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1"},
        "attribute": {"1": {"aname": "kind", "options": {"0": "nucleus", "1": "cell"}}},
        "file": {"1": {"fid": "1", "fname": "other.png"}, "2": {"fid": "2", "fname": "a.png"}},
        "view": {"1": {"fid_list": ["2"]}},
        "metadata": {str(n): {"vid": "1", "z": [], "xy": xy, "av": {"1": av}} for n, (xy, av) in enumerate(regions)},
    }
    project["metadata"]["whole"] = {"vid": "1", "z": [], "xy": [], "av": {"1": "0"}}
    project["metadata"]["point"] = {"vid": "1", "z": [], "xy": [1, 5, 5], "av": {}}
    (tmp_path / "via.json").write_text(json.dumps(project))
    assert recognise(tmp_path).name == "via"
    items, _ = read_all("via", tmp_path, SHAPE)
    found = items["a"]
    np.testing.assert_array_equal(found.masks.boxes, [SQUARE_BOX, [40, 30, 44, 35], [22, 16, 38, 24], [5, 25, 15, 35]])
    assert found.classes == ["nucleus", "cell", "cell", "nucleus"]
    assert len(found.left_out) == 1
    assert len(items["other"].masks) == 0


# ---- HoVer-Net ----


def test_hovernet(tmp_path):
    """Its contours are OpenCV's, and both programs fill them alike; of a nucleus in pieces it keeps one."""
    outer = [key for key in np.unique(LABELS) if key not in (0, 1, 2)]
    nuclei = {}
    for key in outer:
        contours, _ = cv2.findContours((key == LABELS).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        nuclei[str(key)] = {"bbox": [[0, 0], [1, 1]], "centroid": [1.0, 1.0], "contour": contours[0][:, 0].tolist()}
        nuclei[str(key)] |= {"type_prob": 0.9, "type": int(key)}
    nuclei["9"] = {"contour": [[1, "x"]], "type": 1}
    for data in ({"mag": None, "nuc": nuclei}, nuclei):
        (tmp_path / "a.json").write_text(json.dumps(data))
        image_id, found = only("hovernet", tmp_path / "a.json", LABELS.shape)
        assert image_id == "a"
        assert pixels(found.masks) == pixels(masks_of(LABELS * np.isin(LABELS, outer)))
        assert found.classes == ["3", "7"]
        assert len(found.left_out) == 1


def test_json_of_other_programs_is_none_of_hovernet(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"description": "", "tags": [], "objects": [{"points": SQUARE}]}))
    with pytest.raises(InputError, match="no file of HoVer-Net"):
        read_all("hovernet", tmp_path / "a.json", SHAPE)


# ---- Label Studio ----


def packed(values, lengths=(3, 4, 8, 16)):
    """Label Studio's packing of bytes: repeats where there are some, otherwise as they are."""
    bits = [f"{len(values):032b}", f"{7:05b}", *(f"{one - 1:04b}" for one in lengths)]
    at = 0
    while at < len(values):
        same = 1
        while at + same < len(values) and values[at + same] == values[at]:
            same += 1
        count = min(same if same > 1 else 3, len(values) - at, 1 << lengths[-1])
        which = next(i for i, one in enumerate(lengths) if count <= 1 << one)
        bits += ["1" if same > 1 else "0", f"{which:02b}", f"{count - 1:0{lengths[which]}b}"]
        bits += [f"{value:08b}" for value in (values[at : at + 1] if same > 1 else values[at : at + count])]
        at += count
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def test_label_studio(tmp_path):
    bitmap = np.zeros(SHAPE, bool)
    bitmap[5:9, 20:33] = True
    bitmap[6, 22] = False
    rle = packed(np.repeat(np.where(bitmap, 255, 0).ravel(), 4).tolist())
    np.testing.assert_array_equal(brush(rle, SHAPE), bitmap)

    def region(kind, value, **more):
        size = {"original_width": 50, "original_height": 40, "image_rotation": 0}
        names = {"from_name": "tag", "to_name": "image", "type": kind}
        return {**size, **names, "value": value, **more}

    regions = [
        region("polygonlabels", {"points": [[x * 2, y * 2.5] for x, y in SQUARE], "polygonlabels": ["nucleus"]}),
        region("brushlabels", {"format": "rle", "rle": rle, "brushlabels": ["cell"]}),
        region(
            "ellipselabels", {"x": 60, "y": 75, "radiusX": 10, "radiusY": 5, "rotation": 0, "ellipselabels": ["cell"]}
        ),
        region("rectanglelabels", {"x": 2, "y": 50, "width": 8, "height": 10, "rotation": 0}),
        region("keypointlabels", {"x": 2, "y": 50, "width": 0.3, "keypointlabels": ["cell"]}),
        region("choices", {"choices": ["good"]}),
    ]
    old = {"id": 1, "was_cancelled": False, "result": []}
    task = {
        "id": 7,
        "annotations": [old, {"id": 2, "result": regions}],
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
    }
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "export.json").write_text(json.dumps([task]))
    image_id, found = only("labelstudio", tmp_path / "set")
    assert image_id == "0a1b2c3d-a"
    np.testing.assert_array_equal(found.masks.boxes[0], SQUARE_BOX)
    np.testing.assert_array_equal(found.masks.boxes[2:], [[25, 28, 35, 32], [1, 20, 5, 24]])
    np.testing.assert_array_equal(found.masks.bitmaps[1], bitmap[5:9, 20:33])
    assert found.classes == ["nucleus", "cell", "cell", ""]
    assert len(found.left_out) == 1


def test_label_studio_in_the_short_form(tmp_path):
    region = {"points": [[x * 2, y * 2.5] for x, y in SQUARE], "polygonlabels": ["nucleus"]}
    task = {"image": "s3://bucket/a.png", "id": 1, "label": [{**region, "original_width": 50, "original_height": 40}]}
    (tmp_path / "a.json").write_text(json.dumps([task]))
    image_id, found = only("labelstudio", tmp_path / "a.json")
    assert image_id == "a"
    np.testing.assert_array_equal(found.masks.boxes, [SQUARE_BOX])


def test_label_studio_in_the_short_form_with_two_tools(tmp_path):
    """A list for each tool: what was painted does not hide what was drawn."""
    size = {"original_width": 50, "original_height": 40}
    bitmap = np.zeros(SHAPE, bool)
    bitmap[20:24, 30:39] = True
    rle = packed(np.repeat(np.where(bitmap, 255, 0).ravel(), 4).tolist())
    task = {
        "image": "/data/upload/1/a.png", "id": 1, "quality": "good", "kinds": [["cell", "round"]],
        "brush": [{"format": "rle", "rle": rle, "brushlabels": ["cell"], **size}],
        "label": [{"points": [[x * 2, y * 2.5] for x, y in SQUARE], "polygonlabels": ["nucleus"], **size}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps([task]))
    _, found = only("labelstudio", tmp_path / "a.json")
    np.testing.assert_array_equal(found.masks.boxes, [[30, 20, 39, 24], SQUARE_BOX])
    assert found.classes == ["cell", "nucleus"]


def test_a_brush_that_claims_more_than_it_has_is_one_line():
    full = packed([0] * (4 * 40 * 50))
    for rle in (full[:9], packed([0] * 8), [256], "x", [], full[:4] + [255] * 9):
        with pytest.raises(InputError):
            brush(rle, SHAPE)
    with pytest.raises(InputError, match="too large"):
        brush(full, (1 << 16, 1 << 16))

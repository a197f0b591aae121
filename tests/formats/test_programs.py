"""Annotations as the programs that write them read them; most of these tests need the program, which maskseg does not.

labelme draws the line of an outline, too, and datumaro has the rule of pycocotools: both have other pixels along the
edge of a polygon. What is stored pixel by pixel is equal.
"""

import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskseg.formats.cellpose import CellposeWriter
from maskseg.formats.label_studio import brush
from maskseg.formats.labels_reader import seg_masks
from maskseg.formats.writer import ImageInfo

from .annotated import LABELS, masks_of
from .test_oracles import SHAPE, coco, cvat, drawn, filled, labelme, outlines, yolo

RINGS = outlines(np.random.default_rng(7))


def assert_close(found, expected, width=1):
    """The same but for so many pixels at the edge, also along the diagonal."""
    square = np.ones((2 * width + 1, 2 * width + 1), bool)
    assert len(found) == len(expected) > 0
    for mine, other in zip(found, expected, strict=True):
        assert not (mine & ~ndimage.binary_dilation(other, square)).any()
        assert not (ndimage.binary_erosion(mine, square, border_value=1) & ~other).any()
        assert not (ndimage.binary_erosion(other, square, border_value=1) & ~mine).any()


def by_labelme(points, kind):
    """How labelme 5 draws a shape, by Pillow."""
    picture = Image.new("1", SHAPE[::-1])
    draw = ImageDraw.Draw(picture)
    corners = [tuple(point) for point in points]
    if kind == "circle":
        (x, y), edge = corners
        reach = np.hypot(x - edge[0], y - edge[1])
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], outline=1, fill=1)
    elif kind == "rectangle":
        draw.rectangle(corners, outline=1, fill=1)
    else:
        draw.polygon(corners, outline=1, fill=1)
    return np.asarray(picture)


SHAPES = [
    *((ring.tolist(), "polygon") for ring in RINGS),
    ([[20.25, 30.5], [26.5, 36.25]], "circle"),
    ([[40.5, 9.25], [60.25, 29.5]], "rectangle"),
]


def test_labelme_draws_the_same_but_for_the_edge(tmp_path):
    labelme(tmp_path, RINGS)
    content = json.loads((tmp_path / "a.json").read_text())
    content["shapes"] = [{"label": "x", "points": points, "shape_type": kind} for points, kind in SHAPES]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert_close(drawn("labelme", tmp_path), [by_labelme(*shape) for shape in SHAPES])


def test_labelme_draws_as_it_is_said_here():
    own = pytest.importorskip("labelme.utils.shape", reason="labelme, with its Qt, is not installed")
    for points, kind in SHAPES:
        np.testing.assert_array_equal(own.shape_to_mask(SHAPE, points, kind), by_labelme(points, kind))


@pytest.mark.parametrize("form", ["cvat", "coco"])
def test_datumaro_reads_the_same_annotations(tmp_path, form):
    """What is stored pixel by pixel is equal; of polygons the points are, and pycocotools draws them for datumaro."""
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    masks = [filled(ring) for ring in RINGS]
    for name in ("images", "annotations"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full(SHAPE, 90, np.uint8))
    if form == "cvat":
        cvat(tmp_path, RINGS)
        path = tmp_path / "annotations.xml"
        head = f"<annotations><version>1.1</version><meta>{CVAT_TASK}</meta>"
        added = "".join(map(cvat_mask, masks)) + "</image>"
        path.write_text(path.read_text().replace("<annotations>", head).replace("</image>", added))
    else:
        coco(tmp_path / "annotations", RINGS)
        (tmp_path / "annotations" / "a.json").rename(tmp_path / "annotations" / "instances_train.json")
    (item,) = datumaro.Dataset.import_from(str(path if form == "cvat" else tmp_path), form)
    annotations = sorted(item.annotations, key=lambda one: one.id)
    polygons = [by_pycocotools(one.points) for one in annotations if one.type.name == "polygon"]
    given = [np.asarray(one.image, bool) for one in annotations if one.type.name == "mask"]
    found = drawn(form, tmp_path)
    assert_close(found[: len(polygons)], polygons)
    np.testing.assert_array_equal(found[len(polygons) :], given)
    np.testing.assert_array_equal(given, masks)


CVAT_TASK = "<task><size>1</size><labels><label><name>x</name><attributes/></label></labels></task>"


def cvat_mask(bitmap):
    """A mask of CVAT: its box, and runs along the rows, outside first."""
    (y0, x0), (y1, x1) = (one(np.argwhere(bitmap), axis=0) for one in (np.min, np.max))
    inside = bitmap[y0 : y1 + 1, x0 : x1 + 1].ravel().astype(int)
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(inside, prepend=0)), [inside.size]]))
    box = f'left="{x0}" top="{y0}" width="{x1 - x0 + 1}" height="{y1 - y0 + 1}"'
    return f'<mask label="x" source="manual" occluded="0" rle="{", ".join(map(str, runs))}" {box} z_order="0"/>'


def by_pycocotools(points):
    return coco_mask.decode(coco_mask.frPyObjects([list(points)], *SHAPE))[..., 0].astype(bool)


def test_supervision_reads_the_same_labels_of_yolo(tmp_path):
    """It rounds corners down to whole pixels and draws the line, too: two pixels at the edge are its own."""
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full(SHAPE, 90, np.uint8))
    (tmp_path / "data.yaml").write_text("names: [x]\nnc: 1\n")
    yolo(tmp_path / "labels", [ring for ring in RINGS if (ring > 0).all() and (ring < SHAPE[::-1]).all()])
    places = {"images_directory_path": tmp_path / "images", "annotations_directory_path": tmp_path / "labels"}
    found = supervision.DetectionDataset.from_yolo(
        **{key: str(path) for key, path in places.items()}, data_yaml_path=str(tmp_path / "data.yaml"), force_masks=True
    )
    ((_, _, detections),) = found
    assert_close(drawn("yolo", tmp_path), list(np.asarray(detections.mask, bool)), 2)


def test_the_brush_of_label_studio_is_decoded_as_it_does():
    own = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    assert own.encode_rle(np.repeat(255 * BRUSHED.ravel().astype(np.uint8), 4)) == BRUSH
    for ring in RINGS:
        packed = own.encode_rle(np.repeat(255 * filled(ring).ravel().astype(np.uint8), 4))
        np.testing.assert_array_equal(brush(packed, SHAPE), own.decode_rle(packed).reshape(*SHAPE, 4)[..., 3] > 0)


# What label-studio-sdk 2.1.2 makes of the mask below.
BRUSHED = np.array([[0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
BRUSH = [0, 0, 0, 60, 57, 27, 252, 96, 19, 255, 219, 0, 143, 254, 48, 8, 255, 227, 0, 194, 127, 224]


def test_a_brush_that_label_studio_made():
    np.testing.assert_array_equal(brush(BRUSH, BRUSHED.shape), BRUSHED)


def test_cellpose_and_maskseg_read_what_the_other_wrote(tmp_path, monkeypatch):
    own = pytest.importorskip("cellpose.io", reason="cellpose is not installed")
    image, flows = np.zeros((*LABELS.shape, 3), np.uint8), [np.zeros((*size, *LABELS.shape)) for size in ((), (2,), ())]
    flows[0] = np.zeros((*LABELS.shape, 3), np.uint8)
    own.masks_flows_to_seg(image, LABELS.astype(np.uint16), flows, str(tmp_path / "a.png"))
    np.testing.assert_array_equal(seg_masks((tmp_path / "a_seg.npy").read_bytes()), LABELS)
    CellposeWriter(ImageInfo("a", LABELS.shape, "a.png"), tmp_path / "b_seg.npy").write(masks_of())
    written = np.load(tmp_path / "b_seg.npy", allow_pickle=True).item()
    given = np.load(tmp_path / "a_seg.npy", allow_pickle=True).item()
    assert given.keys() - written.keys() <= {
        "ismanual",
        "normalize_params",
        "diameter",
        "manual_changes",
        "img_restore",
    }
    np.testing.assert_array_equal(written["masks"], np.searchsorted(np.unique(LABELS), LABELS))

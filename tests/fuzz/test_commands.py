# ruff: noqa: E501  a line each
"""Files that are made to take all time or memory, given to the commands: one line, within seconds and a gigabyte.

Each is under a megabyte, and stands for its kind. The fuzzers beside it spoil files blindly; these are meant.
"""

import gzip
import io
import json
import os
import struct
import sys
import zipfile
import zlib

import cv2
import numpy as np
import pytest
import roifile
from scipy import io as matlab

from tests.fuzz.commands import Commands
from tests.imaging.test_boundary import png_of, tags

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and forked processes are Linux's"),
]
HEIGHT, WIDTH = 40, 50
# More than a command may take of it; what it claims is far more.
MEGABYTES = 1000
POLYGON = [[1, 1], [9, 1], [9, 9]]
SHAPE = {"label": "x", "points": POLYGON, "shape_type": "polygon"}
WHOLE = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]
# 100 MB of empty objects, which are gigabytes once they are read.
MUCH = b'{"shapes": [' + b"{}," * (33 << 20) + b"{}]}"


def zipped(members, how=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how, compresslevel=6) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def labelme(*shapes, **fields):
    content = {"imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes, **fields}
    return json.dumps(content).encode()


def geojson(*geometries):
    features = [{"type": "Feature", "geometry": geometry, "properties": {}} for geometry in geometries]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def coco(image=None, annotation=None):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, **(image or {})}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], **(annotation or {})}
        ],
    }
    return json.dumps(content).encode()


def aperio(*outlines):
    def region(points):
        return "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points)

    regions = "".join(f'<Region Id="1" Type="0"><Vertices>{region(points)}</Vertices></Region>' for points in outlines)
    return f'<Annotations><Annotation Id="1"><Regions>{regions}</Regions></Annotation></Annotations>'.encode()


def npy(shape, kind="|u1", data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def mat(**arrays):
    file = io.BytesIO()
    matlab.savemat(file, arrays, do_compression=True)
    return file.getvalue()


def cvat(inside):
    return f'<annotations><image id="0" name="a.png" width="50" height="40">{inside}</image></annotations>'.encode()


def picture():
    return cv2.imencode(".png", np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH))[1].tobytes()


def many(count):
    return [[number % WIDTH, number * 7 % HEIGHT] for number in range(count)]


ROI = roifile.ImagejRoi.frompoints(np.array(POLYGON)).tobytes()
LABELS = {"images/a.png": picture}
PIPE = "a pipe"
# Format, and the files of its source: bytes, a function that makes them, or a pipe.
HOSTILE = {
    "packed JSON": ("labelme", {"a.json": lambda: gzip.compress(MUCH, 6)}),
    "packed GeoJSON": ("geojson", {"a.geojson.gz": lambda: gzip.compress(MUCH.replace(b"shapes", b"features"), 6)}),
    "JSON in a zip file": ("labelme", {"set.zip": lambda: zipped({"a.json": MUCH})}),
    "a zip file in bzip2": ("labelme", {"set.zip": lambda: zipped({"a.json": bytes(1 << 20)}, zipfile.ZIP_BZIP2)}),
    "lists in lists": ("coco", {"annotations.json": b"[" * 400_000 + b"]" * 400_000}),
    "objects in objects": ("labelme", {"a.json": b'{"shapes":' * 50_000 + b"1" + b"}" * 50_000}),
    "many empty objects": ("geojson", {"a.geojson": b"[" + b"{}," * 100_000 + b"{}]"}),
    "numbers of 5000 digits": ("coco", {"c.json": coco().replace(b"40", b"4" + b"0" * 5000)}),
    "an outline of many points": ("labelme", {"a.json": lambda: labelme({**SHAPE, "points": many(80_000)})}),
    "outlines beyond all numbers": ("labelme", {"a.json": labelme({**SHAPE, "points": [[1e308, 1], [2, 1], [1, 2]]})}),
    "a circle beyond all numbers": (
        "labelme", {"a.json": labelme({**SHAPE, "points": [[0, 0], [1e300, 1]], "shape_type": "circle"})},
    ),
    "thousands of whole images": ("labelme", {"a.json": lambda: labelme(*[{**SHAPE, "points": WHOLE}] * 8000)}),
    "a size of a slide": ("labelme", {"a.json": labelme(SHAPE, imageHeight=65536, imageWidth=65536)}),
    "names with commands": ("labelme", {"a.json": labelme({**SHAPE, "label": "=cmd|'\x1b[31m\ud800"})}),
    "thousands of holes": (
        "geojson", {"a.geojson": lambda: geojson({"type": "Polygon", "coordinates": [WHOLE] + [POLYGON] * 15_000})},
    ),
    "thousands of polygons in one": (
        "geojson", {"a.geojson": lambda: geojson({"type": "MultiPolygon", "coordinates": [[WHOLE]] * 15_000})},
    ),
    "sizes of no image": ("coco", {"c.json": coco({"height": 1 << 24, "width": 1 << 24})}),
    "run lengths of a slide": (
        "coco",
        {"c.json": coco({"height": 65536, "width": 65536}, {"segmentation": {"size": [65536] * 2, "counts": [0, 2**32]}})},
    ),
    "names that lead outside": ("coco", {"c.json": coco({"file_name": "../../../../etc/passwd"})}),
    "a name of a network": ("coco", {"c.json": coco({"file_name": "http://127.0.0.1:9/a.png"})}),
    "entities": ("xml", {"a.xml": b'<!DOCTYPE l [<!ENTITY a "aaaa">]><Annotations>&a;</Annotations>'}),
    "elements in elements": ("xml", {"a.xml": b"<Annotations>" + b"<A>" * 100_000 + b"</A>" * 100_000}),
    "vertices of no place": ("xml", {"a.xml": aperio([("inf", 1), ("nan", 1), ("1e308", "-1e308")])}),
    "thousands of whole regions": ("xml", {"a.xml": lambda: aperio(*[WHOLE] * 6000)}),
    "masks of CVAT without end": (
        "cvat",
        {"a.xml": lambda: cvat('<mask rle="0" left="90" top="90" width="11000" height="11000"/>' * 10_000)},
    ),
    "ellipses of CVAT without end": ("cvat", {"a.xml": cvat('<ellipse cx="1e300" cy="9" rx="1e308" ry="1e9"/>' * 9)}),
    "labels of YOLO on one line": ("yolo", {"labels/a.txt": b"0 " + b"0.5 " * 200_000}),
    "classes of YOLO without end": ("yolo", {"labels/a.txt": b"0 0 0 1 0 1 1\n", "data.yaml": b"names:\n" + b" - '" * 200_000}),
    "a packed MATLAB file": ("mat", {"a.mat": lambda: mat(inst_map=np.zeros((16_000, 16_000), np.uint8))}),
    "MATLAB labels that are no numbers": ("mat", {"a.mat": lambda: mat(inst_map=np.full((40, 50), np.nan))}),
    "a packed stack": (
        "stacks",
        {"a.npz": lambda: npz(images=np.zeros((1, 14_000, 14_000, 3), np.uint8), masks=np.zeros((1, 14_000, 14_000), np.uint8))},
    ),
    "a stack that is not there": ("stacks", {"images.npy": npy((10**6,) * 3), "masks.npy": npy((10**6,) * 3)}),
    "a stack of nothing": ("stacks", {"images.npy": npy((10**9, 0, 0, 3)), "masks.npy": npy((10**9, 0, 0))}),
    "objects in a stack": ("stacks", {"images.npy": npy((1,), "|O", b"cos\nsystem\n."), "masks.npy": npy((1,), "|O", b".")}),
    "a header of NumPy in parentheses": (
        "labels", {**LABELS, "masks/a.npy": b"\x93NUMPY\x02\0" + struct.pack("<I", 9 << 16) + b"(" * (9 << 16)},
    ),
    "labels of NumPy below zero": ("labels", {**LABELS, "masks/a.npy": npy((-40, 50), "<i4", bytes(8000))}),
    "objects of Cellpose": ("cellpose", {"a.png": picture, "a_seg.npy": npy((), "|O", b"cos\nsystem\n(S'true'\ntR.")}),
    "lists of Cellpose": ("cellpose", {"a.png": picture, "a_seg.npy": npy((), "|O", b"\x80\x02" + b"]" * 400_000 + b".")}),
    "a packed region": ("imagej", {"a.zip": lambda: zipped({"1.roi": ROI + bytes(200 << 20)})}),
    "a region in LZMA": ("imagej", {"a.zip": lambda: zipped({"1.roi": ROI + bytes(1 << 20)}, zipfile.ZIP_LZMA)}),
    "regions with counts of no sense": (
        "imagej",
        {"a.zip": lambda: zipped({f"{place}.roi": ROI[:place] + b"\xff\xff" + ROI[place + 2 :] for place in range(4, 64)})},
    ),
    "regions in pages that lead back": ("imagej", {"a.tif": tags(next_ifd=72)}),
    "labels in pages that lead back": ("labels", {**LABELS, "masks/a.tif": tags(next_ifd=72)}),
    "labels of a size of no sense": ("labels", {**LABELS, "masks/a.tif": tags(ImageWidth=1 << 20, ImageLength=1 << 20)}),
    "labels in a PNG of gigabytes": (
        "labels", {**LABELS, "masks/a.png": lambda: png_of(60_000, 60_000, 16, 0, zlib.compress(bytes(1 << 24)))},
    ),
    "images of gigabytes": (
        "labels",
        {"images/a.png": png_of(60_000, 60_000, 16, 2, zlib.compress(bytes(1 << 20))), "masks/a.png": picture},
    ),
    "runs beyond all numbers": ("rle", {"a.csv": b"ImageId,EncodedPixels\na,1 99999999999999999999\na,5 3\n"}),
    "heights without end": ("rle", {"a.csv": b"ImageId,EncodedPixels,Height,Width\na,1 5,inf,nan\nb,1 5,1e400,1\n"}),
    "a run of a slide": ("rle", {"a.csv": b"ImageId,EncodedPixels,Height,Width\na,1 4294967296,65536,65536\n"}),
    "a quote that does not end": ("rle", {"a.csv": b'ImageId,EncodedPixels\na,"' + b"1 1 " * 200_000}),
    "columns without end": ("rle", {"a.csv": b"ImageId,EncodedPixels" + b"," * 500_000 + b"\na,1 1\n"}),
    "a brush of Label Studio": (
        "labelstudio",
        {
            "a.json": lambda: json.dumps(
                [
                    {
                        "annotations": [{"result": [{"original_width": 50, "original_height": 40, "value": {"rle": [255] * 200_000}}]}],
                        "data": {"image": "/data/local-files/?d=../../../etc/passwd"},
                    }
                ]
            ).encode()
        },
    ),
    **{f"a pipe for {name}": (name, {file: PIPE}) for name, file in {
        "labelme": "a.json", "coco": "annotations.json", "geojson": "a.geojson", "xml": "a.xml", "yolo": "a.txt",
        "mat": "a.mat", "imagej": "a.zip", "stacks": "a.npz", "cellpose": "a_seg.npy", "rle": "a.csv", "via": "via.json",
    }.items()},
}  # fmt: skip


@pytest.fixture(scope="module")
def commands():
    found = Commands()
    yield found
    found.close()


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data == PIPE:
            os.mkfifo(path)
        else:
            path.write_bytes(data() if callable(data) else data)
            assert path.stat().st_size < 1.1e6


def is_told(ended):
    """A good end, or lines that say what is at fault; never a traceback, a hang, or memory without end."""
    assert ended.status in (0, 1, 2), (ended.status, ended.said[-2000:])
    assert "Traceback" not in ended.said, ended.said[-2000:]
    assert "fault of maskseg" not in ended.said
    assert "\x1b" not in ended.said
    assert ended.status != 2 or ended.said.strip()
    assert ended.megabytes < MEGABYTES


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_annotations(commands, tmp_path, what):
    form, files = HOSTILE[what]
    write(tmp_path / "source", files)
    write(tmp_path / "images", {"a.png": picture})
    source, images = tmp_path / "source", tmp_path / "images"
    auto = commands.run("convert", "auto", source, "-o", tmp_path / "out", "--images", images)
    is_told(auto)
    assert not [path for path in tmp_path.rglob(".*") if path.parent != source]
    is_told(commands.run("evaluate", "--truth", source, "--pred", source, "--images", images))
    if f"the same as maskseg convert {form}" not in auto.said:
        own = [] if form in ("labels", "cellpose", "stacks") else ["--images", images]
        is_told(commands.run("convert", form, source, "-o", tmp_path / "out_too", *own))

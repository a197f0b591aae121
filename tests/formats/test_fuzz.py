"""No reader of a spoilt file raises anything but the one line, or allocates what the file merely claims."""

import copy
import json
import random
import zipfile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import io as matlab

from maskseg.core.errors import InputError
from maskseg.formats.reader import Item
from maskseg.formats.registry import formats, readable, recognise
from tests.fuzz.spoiling import FUZZ

from .annotated import LABELS, masks_of, write
from .test_tool_readers import SHAPE, SQUARE, packed, via_file

READERS = readable()


LABEL_FOLDERS = {
    "nuinsseg": ("liver/tissue images/a.png", "liver/label masks/a.tif"),
    "ctc": ("01/t000.tif", "01_GT/SEG/man_seg000.tif"),
}


def examples(name, folder):
    """Write one good source of a format, and give its files."""
    folder.mkdir(exist_ok=True)
    form = formats()[name]
    if form.writer is not None:
        write(name, folder, {"a": masks_of()})
        if name == "folders":
            (folder / "a" / "images").mkdir()
            cv2.imwrite(str(folder / "a" / "images" / "a.png"), LABELS.astype(np.uint8))
    elif name == "via":
        via_file("project", folder)
        via_file("csv", folder)
        (folder / "via3.json").write_text(
            '{"project": {"pid": "__VIA_PROJECT_ID__"}, "attribute": {"1": {"aname": "kind", "options": {"0": "a"}}},'
            '"file": {"1": {"fname": "b.png"}}, "view": {"1": {"fid_list": ["1"]}},'
            '"metadata": {"x": {"vid": "1", "z": [], "xy": [7, 2, 3, 12, 3, 12, 9], "av": {"1": "0"}}}}'
        )
    elif name == "labelstudio":
        size = {"original_width": 50, "original_height": 40}
        values = ({"points": [[4, 5], [9, 5], [9, 20]]}, {"rle": packed([0] * 8000)}, {"x": 3, "y": 3, "radiusX": 2})
        regions = [{**size, "value": value} for value in values]
        (folder / "a.json").write_text(json.dumps([{"annotations": [{"result": regions}], "data": {"image": "a.png"}}]))
    elif name == "cvat":
        (folder / "a.xml").write_text(
            '<annotations><image id="0" name="a.png" width="50" height="40"><polygon label="x" points="1,2;9,2;9,9"/>'
            '<mask rle="3,4,5,4" left="1" top="1" width="4" height="4"/><ellipse cx="9" cy="9" rx="3" ry="2"/></image>'
            "</annotations>"
        )
    elif name == "asap":
        points = "".join(f'<Coordinate Order="0" X="{x}" Y="{y}"/>' for x, y in SQUARE)
        (folder / "a.xml").write_text(
            '<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="x"><Coordinates>'
            f"{points}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
        )
    elif name == "hovernet":
        nucleus = {"bbox": [[3, 2], [9, 12]], "contour": [list(point) for point in SQUARE], "type_prob": 1, "type": 2}
        (folder / "a.json").write_text(json.dumps({"mag": None, "nuc": {"1": nucleus, "2": nucleus}}))
    elif name in LABEL_FOLDERS:
        for path in map(folder.joinpath, LABEL_FOLDERS[name]):
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), LABELS.astype(np.uint16))
    elif name == "mat":
        matlab.savemat(folder / "a.mat", {"inst_map": LABELS, "type_map": LABELS}, do_compression=True)
    elif name == "stacks":
        np.save(folder / "images.npy", np.zeros((1, *LABELS.shape, 3), np.uint8))
        np.save(folder / "labels.npy", np.stack([LABELS, LABELS], axis=-1)[None])
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_spoilt(name, source):
    """Everything that a command would ask of a source; the message of what is wrong, if anything is."""
    try:
        found = recognise(source)
        assert found is not None
    except InputError:
        pass
    said = []
    try:
        for one in formats()[name].imported("reader")(source):
            if not isinstance(one, Item):
                continue
            try:
                nuclei = one.read(SHAPE)
                assert nuclei.classes is None or len(nuclei.classes) == len(nuclei.masks)
                assert (nuclei.masks.areas > 0).all()
                said += [left.reason for left in nuclei.left_out]
            except InputError as error:
                said.append(str(error))
    except InputError as error:
        said.append(str(error))
    assert all(len(text.splitlines()) == 1 and text for text in said), said


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(seed=st.integers(0, 2**32 - 1), how=st.sampled_from(["flip", "cut", "insert", "double", "empty"]))
def test_bytes_that_are_spoilt(tmp_path_factory, name, seed, how):
    folder = tmp_path_factory.mktemp("bytes")
    files = examples(name, folder / "set")
    chance = random.Random(seed)
    path = chance.choice(files)
    data = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data) + 1)
        if how == "flip" and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del data[at:]
        elif how == "insert":
            data[at:at] = chance.choice([b"\0", b"9", b"-1", b'"', b"1e999", b"\xff\xfe", b"NaN", b"{", b"<", b","])
        elif how == "double":
            data[at:at] = data[max(at - 30, 0) : at]
        elif how == "empty":
            data.clear()
    path.write_bytes(data)
    read_spoilt(name, folder / "set" if path.suffix != ".csv" or name != "rle" else path)


ODD = [None, True, -1, 0, 2**70, -0.5, 1e308, float("nan"), "", "x", "7", [], {}, [[]], [None], {"a": 1}, [1, 2, 3]]
JSON = [name for name in READERS if name in ("coco", "labelme", "via", "labelstudio", "hovernet", "geojson")]


def places(value, path=()):
    """All places in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON)
@FUZZ
@given(seed=st.integers(0, 2**32 - 1))
def test_fields_that_are_dropped_or_of_another_type(tmp_path_factory, name, seed):
    folder = tmp_path_factory.mktemp("fields")
    path = next(path for path in examples(name, folder / "set") if "json" in path.suffix)
    data = json.loads(path.read_text())
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        where = chance.choice(list(places(data)))
        if not where:
            continue
        parent = data
        for key in where[:-1]:
            parent = parent[key]
        if chance.random() < 0.3:
            del parent[where[-1]]
        else:
            # A copy: what is put into it must not stay in the list.
            parent[where[-1]] = copy.deepcopy(chance.choice(ODD))
    path.write_text(json.dumps(data))
    read_spoilt(name, path if name == "geojson" else folder / "set")


def test_a_zip_file_that_claims_much_is_refused(tmp_path):
    """A member that says it has 4 GB."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", b"{}")
    data = bytearray(path.read_bytes())
    # The size in both headers.
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(data)
    for name in ("labelme", "coco", "geojson"):
        with pytest.raises(InputError, match="claims to hold"):
            for one in formats()[name].imported("reader")(path):
                if isinstance(one, Item):
                    one.read(SHAPE)
                else:
                    raise InputError(one.reason)

"""What is written is read back, for every format that does both."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from maskseg.convert.annotated import convert_annotations
from maskseg.convert.export import export
from maskseg.data.dataset import load_coco
from maskseg.formats.coco import to_annotations
from maskseg.formats.registry import formats, recognise

from .annotated import (
    LABELS,
    LOSES_HOLES,
    LOSES_PIECES,
    SCORED,
    SCORES,
    assert_same,
    masks_of,
    pixels,
    read_all,
    write,
    zipped,
)

BOTH = [name for name, form in formats().items() if form.reader is not None and form.writer is not None]
# Run lengths need sizes.
EXACT = [name for name in BOTH if name not in LOSES_HOLES | LOSES_PIECES | {"rle"}]
label_images = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9), elements=st.integers(0, 3)
)


def held(name, masks):
    """The pixels of each mask as a format can hold it: perhaps without holes, or each piece for itself."""
    found = []
    for mask in pixels(masks):
        bitmap = np.zeros(masks.shape, bool)
        bitmap[tuple(np.transpose(list(mask)))] = True
        bitmap = ndimage.binary_fill_holes(bitmap) if name in LOSES_HOLES else bitmap
        numbers = ndimage.label(bitmap)[0] if name in LOSES_PIECES else bitmap.astype(int)
        found += [frozenset(zip(*np.nonzero(numbers == n), strict=True)) for n in range(1, numbers.max() + 1)]
    return sorted(map(sorted, found))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH)
def test_what_export_writes_convert_reads(tmp_path, name):
    """Every format that is written and read, whatever it is: from a data set, and back to one."""
    (tmp_path / "set" / "images").mkdir(parents=True)
    images, items = [], []
    for number, masks in enumerate((masks_of(), masks_of(LABELS[::-1].copy())), start=1):
        cv2.imwrite(str(tmp_path / "set" / "images" / f"i{number}.png"), np.full(masks.shape, 90 + number, np.uint8))
        images.append({"id": number, "file_name": f"i{number}.png", "height": 14, "width": 18})
        items += [{"image_id": number, "category_id": 1, **one} for one in to_annotations(masks)]
    items = [{"id": number, **one} for number, one in enumerate(items, start=1)]
    content = {"images": images, "annotations": items, "categories": [{"id": 1, "name": "nucleus"}]}
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(content))
    export(str(tmp_path / "set"), tmp_path / "out", name, progress=False)
    source = tmp_path / "out" / ("submission.csv" if name == "rle" else "")
    assert recognise(source).name == name
    convert_annotations(source, tmp_path / "back", name, tmp_path / "set" / "images", progress=False)
    given, back = load_coco(tmp_path / "set"), load_coco(tmp_path / "back")
    assert [image["file_name"] for image in back.images] == ["i1.png", "i2.png"]
    for before, after in zip(given.images, back.images, strict=True):
        assert sorted(map(sorted, pixels(back.masks(after)))) == held(name, given.masks(before))
        assert (tmp_path / "back" / "images" / after["file_name"]).read_bytes() == (
            tmp_path / "set" / "images" / before["file_name"]
        ).read_bytes()


@pytest.mark.parametrize("name", EXACT)
def test_every_pixel_comes_back(tmp_path, name):
    masks = masks_of(scores=SCORES) if name in SCORED else masks_of()
    write(name, tmp_path / "out", {"a": masks, "b": masks_of(LABELS[::-1].copy())})
    items, others = read_all(name, tmp_path / "out", masks.shape)
    assert not others
    assert set(items) == {"a", "b"}
    assert_same(items["a"].masks, masks)
    assert not items["a"].left_out


# Folders have images, too.
@pytest.mark.parametrize("name", [name for name in BOTH if name != "folders"])
def test_what_is_written_is_recognised(tmp_path, name):
    write(name, tmp_path / "out", {"a": masks_of(), "b": masks_of()})
    assert recognise(tmp_path / "out" / ("submission.csv" if name == "rle" else "")).name == name


@pytest.mark.parametrize("name", ["geojson", "imagej", "labelme"])
def test_a_zip_file_is_read_like_the_folder(tmp_path, name):
    write(name, tmp_path / "out", {"a": masks_of(), "b": masks_of(LABELS[::-1].copy())})
    found, _ = read_all(name, zipped(tmp_path / "out", tmp_path / "out.zip"), LABELS.shape)
    expected, _ = read_all(name, tmp_path / "out", LABELS.shape)
    assert {key: pixels(one.masks) for key, one in found.items()} == {
        key: pixels(one.masks) for key, one in expected.items()
    }
    assert recognise(tmp_path / "out.zip").name == name


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=15)
@given(labels=label_images)
def test_masks_of_any_shape_come_back(tmp_path_factory, name, labels):
    out = tmp_path_factory.mktemp(name)
    masks = masks_of(labels)
    write(name, out, {"a": masks})
    items, _ = read_all(name, out, masks.shape)
    if len(masks) or name in ("coco", "labels"):
        assert_same(items["a"].masks, masks)

"""What is written is read back, for every format that does both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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

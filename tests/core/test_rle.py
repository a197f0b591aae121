import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskseg.core.errors import InputError
from maskseg.core.rle import (
    coco_to_runs,
    coco_to_runs_of_all,
    crop_to_runs,
    joined,
    kaggle_to_runs,
    runs_to_coco,
    runs_to_crop,
    runs_to_kaggle,
)

full_masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def runs_of(mask):
    """Runs of a full-size mask, whose box is the image."""
    return crop_to_runs(mask, (0, 0, mask.shape[1], mask.shape[0]), mask.shape)


def painted(starts, lengths, shape):
    """The full-size mask, one run after the other."""
    flat = np.zeros(shape[0] * shape[1], bool)
    for start, length in zip(starts, lengths, strict=True):
        flat[start : start + length] = True
    return flat.reshape(shape, order="F")


def textbook_kaggle(mask):
    """The competition's own rule, pixel by pixel: counted from 1, top to bottom, then left to right."""
    pixels = (np.flatnonzero(mask.ravel(order="F")) + 1).tolist()
    runs = []
    for pixel in pixels:
        if runs and pixel == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([pixel, 1])
    return " ".join(f"{start} {length}" for start, length in runs)


@pytest.mark.slow
@given(full_masks)
def test_kaggle_text_is_the_textbook_s_and_comes_back(mask):
    text = runs_to_kaggle(*runs_of(mask))
    assert text == textbook_kaggle(mask)
    starts, lengths = kaggle_to_runs(text, mask.shape)
    assert (painted(starts, lengths, mask.shape) == mask).all()


@pytest.mark.slow
@given(full_masks)
def test_coco_equals_pycocotools_both_ways(mask):
    reference = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    ours = runs_to_coco(*runs_of(mask), mask.shape)
    assert ours["counts"] == reference["counts"].decode()
    assert ours["size"] == list(mask.shape)
    assert int(coco_mask.area(ours)) == mask.sum()
    assert (coco_mask.decode(ours) == mask).all()

    starts, lengths = coco_to_runs(reference)
    assert (painted(starts, lengths, mask.shape) == mask).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 4000), st.integers(1, 40))
def test_coco_of_long_runs_comes_back(seed, length, number):
    """Counts of several characters and differences of either sign, which small masks do not have."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, length, size=2 * number + 1)
    shape = (int(counts.sum()), 1)
    starts, lengths = (np.cumsum(counts) - counts)[1::2], counts[1::2]
    for rle in (runs_to_coco(starts, lengths, shape), {"size": shape, "counts": counts.tolist()}):
        back = coco_to_runs(rle)
        assert (back[0] == starts).all()
        assert (back[1] == lengths).all()


@pytest.mark.slow
@given(full_masks, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_box_anywhere_gives_the_runs_of_the_full_mask_and_comes_back_trimmed(mask, top, bottom, left, right):
    placed = np.pad(mask, ((top, bottom), (left, right)))
    box = (left, top, left + mask.shape[1], top + mask.shape[0])
    runs = crop_to_runs(mask, box, placed.shape)
    for ours, expected in zip(runs, runs_of(placed), strict=True):
        assert ours.dtype == np.int64
        assert (ours == expected).all()

    (x0, y0, x1, y1), bitmap = runs_to_crop(*runs, placed.shape)
    assert bitmap.sum() == mask.sum()
    assert (placed[y0:y1, x0:x1] == bitmap).all()
    if mask.any():  # no smaller box would do
        assert bitmap[0].any()
        assert bitmap[-1].any()
        assert bitmap[:, 0].any()
        assert bitmap[:, -1].any()
    else:
        assert bitmap.size == 0


@pytest.mark.slow
@given(full_masks)
def test_runs_are_sorted_and_never_touch(mask):
    starts, lengths = runs_of(mask)
    assert (lengths > 0).all()
    assert (starts[1:] > starts[:-1] + lengths[:-1]).all()


def test_a_full_column_and_the_next_are_one_run():
    mask = np.zeros((4, 5), bool)
    mask[:, 1:3] = True
    assert runs_to_kaggle(*runs_of(mask)) == "5 8"


def test_touching_runs_of_a_file_are_joined():
    starts, lengths = kaggle_to_runs("2 3 5 1", (4, 4))
    assert (starts.tolist(), lengths.tolist()) == ([1], [4])


def test_no_text_is_no_mask():
    starts, lengths = kaggle_to_runs("  ", (4, 4))
    assert len(starts) == len(lengths) == 0
    assert runs_to_kaggle(starts, lengths) == ""


def test_the_last_pixel_is_in_range_and_the_next_is_not():
    assert kaggle_to_runs("16 1", (4, 4))[0].tolist() == [15]
    for text in ("17 1", "16 2", "0 1", "-3 1", "1 9223372036854775807"):
        with pytest.raises(InputError, match="out of range"):
            kaggle_to_runs(text, (4, 4))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 2 5", "pairs"),
        ("1 two", "whole numbers"),
        ("1.5 2", "whole numbers"),
        ("1 99999999999999999999", "whole numbers"),
        ("1 0", "length 0"),
        ("5 -2", "length -2"),
        ("9 2 1 2", "not sorted"),
        ("1 3 1 2", "not sorted"),
        ("1 3 3 2", "overlap"),
    ],
)
def test_malformed_kaggle_text_is_named(text, says):
    with pytest.raises(InputError, match=says):
        kaggle_to_runs(text, (4, 4))


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "0",
        "P",
        "00",
        "ÿ",
        "→",
        "o" * 13 + "0",
        "\x01",
        [3, 5],
        [-1, 17],
        [2**62] * 3 + [2**62 + 16],
        ["a"],
        [[16]],
        16,
        None,
    ],
)
def test_malformed_coco_counts_are_input_errors(counts):
    with pytest.raises(InputError):
        coco_to_runs({"size": [4, 4], "counts": counts})


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from(["text", "bytes", "list", "each"]))
def test_many_masks_at_once_are_the_same_as_one_by_one(seed, number, form):
    random = np.random.default_rng(seed)
    # Every other mask is large enough for counts of several characters; some are empty, some full.
    masks = [random.random((30, 1 + 40 * (seed % 2))) < random.choice([0, 0.02, 0.5, 1]) for _ in range(number)]
    shape = masks[0].shape if masks else (30, 1)
    rles = [runs_to_coco(*runs_of(mask), shape) for mask in masks]
    for which, rle in enumerate(rles):
        if form == "bytes" or (form == "each" and which % 3 == 1):
            rle["counts"] = rle["counts"].encode()
        elif form == "list" or (form == "each" and which % 3 == 2):
            starts, lengths = runs_of(masks[which])
            ends = np.append(starts + lengths, 0)
            counts = np.stack([np.append(starts, masks[which].size) - np.roll(ends, 1), np.append(lengths, 0)], axis=1)
            rle["counts"] = counts.ravel().tolist()
    starts, lengths, index = coco_to_runs_of_all(rles, shape)
    for which, mask in enumerate(masks):
        runs = joined(starts[index == which], lengths[index == which])
        assert all((ours == expected).all() for ours, expected in zip(runs, runs_of(mask), strict=True))
        assert all((ours == alone).all() for ours, alone in zip(runs, coco_to_runs(rles[which]), strict=True))
    assert (np.diff(index) >= 0).all()


def test_what_one_mask_has_too_much_another_does_not_make_up_for():
    good, long, short = (
        coco_mask.frPyObjects({"size": [4, 4], "counts": counts}, 4, 4) for counts in ([5, 11], [5, 12], [5, 10])
    )
    assert len(coco_to_runs_of_all([good, good], (4, 4))[0]) == 2
    for rles in ([long, short], [short, long], [good, {"counts": b""}], [{"counts": b""}, good], [good, good, long]):
        with pytest.raises(InputError, match="do not fill"):
            coco_to_runs_of_all(rles, (4, 4))


@given(st.text(alphabet=[chr(c) for c in range(40, 118)], max_size=30))
def test_any_text_is_read_as_a_mask_that_fits_or_refused(text):
    try:
        starts, lengths = coco_to_runs({"size": [6, 7], "counts": text})
    except InputError:
        return
    assert lengths.sum() <= 42
    assert not len(starts) or (starts[0] >= 0 and starts[-1] + lengths[-1] <= 42)

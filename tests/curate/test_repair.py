"""A repaired copy: what check would have repaired is gone, and nothing else has changed."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks, trim
from maskseg.core.morphology import components
from maskseg.core.overlaps import covered, overlaps_within
from maskseg.curate.check import FINDING_KINDS, check
from maskseg.curate.mask_faults import open_holes
from maskseg.curate.repair import repair_masks, write_repaired
from maskseg.data.dataset import dataset_dicts, image_id, load_coco, write_coco


@pytest.fixture(scope="module")
def fixed(faulty, tmp_path_factory):
    """The repaired copy of the faulty set, and what was done."""
    out = tmp_path_factory.mktemp("fixed") / "copy"
    return out, write_repaired(check(faulty, progress=False), out)


def masks_of(*bitmaps: np.ndarray) -> CropMasks:
    """Masks from bitmaps of the whole image."""
    trimmed = [trim(bitmap) for bitmap in bitmaps]
    return CropMasks(bitmaps[0].shape, np.array([box for box, _ in trimmed]), [bitmap for _, bitmap in trimmed])


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    bitmap = np.zeros((30, 30), bool)
    bitmap[y0:y1, x0:x1] = True
    return bitmap


def full(masks: CropMasks) -> list[np.ndarray]:
    """Bitmaps of the whole image."""
    return [masks[[i]].to_labels() > 0 for i in range(len(masks))]


def test_the_copy_passes_the_check_but_for_what_a_person_decides(fixed, faulty):
    out, _ = fixed
    left = set(check(out, progress=False).counts)
    assert left == {kind for kind in FINDING_KINDS if "--fix" not in FINDING_KINDS[kind].remedy}


def test_every_fault_that_is_repaired_has_its_line(fixed, faulty):
    out, repaired = fixed
    with (out / "changes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {kind for kind in FINDING_KINDS if "--fix" in FINDING_KINDS[kind].remedy}
    assert len(rows) == len(repaired.changes)
    by_image = {(row["image"], row["kind"]): row for row in rows}
    assert by_image["hole", "hole"]["pixels"] == "6"
    assert by_image["record-only", "sizes-differ"]["action"] == "record corrected to 64 x 64"
    assert by_image["sizes-differ", "sizes-differ"]["action"] == "image left out, with 2 annotations"


def test_images_that_cannot_be_used_are_not_in_the_copy(fixed, faulty):
    out, repaired = fixed
    names = [image_id(image) for image in load_coco(out).images]
    gone = {"missing-image", "unreadable-image", "sizes-differ"}
    all_names = {image_id(image) for image in load_coco(faulty, refuse_faults=False).images}
    assert sorted(names) == sorted(all_names - gone)
    # And the second record of an image.
    assert repaired.left_out == 4
    assert sorted(path.stem for path in (out / "images").iterdir()) == sorted(names)
    # The split fits the copy: every record has its part.
    assert len(dataset_dicts(f"{out}:train")) + len(dataset_dicts(f"{out}:dev")) == len(names)
    for path in (out / "images").iterdir():
        assert path.read_bytes() == (faulty / "images" / path.name).read_bytes()


def test_what_was_right_stays_as_it_was(fixed, faulty):
    out, repaired = fixed
    data = load_coco(faulty, refuse_faults=False)
    before = {item["id"]: item for items in data.annotations.values() for item in items}
    after = [item for items in load_coco(out).annotations.values() for item in items]
    changed = {change.annotation for change in repaired.changes}
    ids = [item["id"] for item in after]
    assert len(set(ids)) == len(ids) == repaired.nuclei
    assert sum(item["id"] in before for item in after) > 20
    for item in after:
        # Each has a category now.
        was = {"category_id": 1, **before.get(item["id"], {})}
        assert item["id"] in changed or item["id"] not in before or item == was
    # The piece that became a nucleus of its own has a number of its own.
    (new,) = [item for item in after if item["id"] not in before]
    assert (new["id"], new["area"], new["bbox"]) == (905, 36, [30, 4, 6, 6])


def test_the_data_set_itself_is_not_overwritten(faulty):
    report = check(faulty, progress=False)
    before = (faulty / "annotations.json").read_bytes()
    with pytest.raises(InputError, match="another folder"):
        write_repaired(report, faulty)
    assert (faulty / "annotations.json").read_bytes() == before


def test_a_set_without_any_image_is_not_written(tmp_path):
    write_coco(tmp_path / "annotations.json", [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}], [])
    with pytest.raises(InputError, match="no image is left"):
        write_repaired(check(tmp_path, progress=False), tmp_path / "copy")
    assert not (tmp_path / "copy" / "annotations.json").exists()


@pytest.mark.slow
@given(arrays(bool, st.tuples(st.integers(0, 5), st.just(9), st.just(11))), st.integers(0, 4))
def test_repaired_masks_are_whole_apart_and_stay_so(stack, min_area):
    repaired, source, changes = repair_masks(masks_of(*stack) if len(stack) else CropMasks.empty((9, 11)), min_area)
    taken = covered(repaired)
    assert len(overlaps_within(repaired).first) == 0
    assert (repaired.areas >= max(min_area, 1)).all()
    for (x0, y0, x1, y1), bitmap in zip(repaired.boxes, repaired.bitmaps, strict=True):
        assert len(components(bitmap)[1]) == 1
        assert not open_holes(bitmap, taken[y0:y1, x0:x1]).any()
    again, order, more = repair_masks(repaired, min_area)
    assert not more
    assert order.tolist() == list(range(len(repaired)))
    assert [mask.tolist() for mask in full(again)] == [mask.tolist() for mask in full(repaired)]
    assert (np.diff(source) >= 0).all()
    assert {change.annotation for change in changes} <= set(range(len(stack)))


def test_of_duplicates_the_larger_stays_and_of_equal_ones_the_first():
    large, small = box(2, 2, 12, 12), box(2, 2, 12, 11)
    _, source, changes = repair_masks(masks_of(small, large, large))
    assert source.tolist() == [1]
    assert sorted((change.annotation, change.kind) for change in changes) == [(0, "duplicate"), (2, "duplicate")]


def test_a_dropped_duplicate_drops_no_other():
    # b is alike to a, and c to b, but c not to a.
    a, b, c = box(0, 0, 28, 10), box(2, 0, 28, 10), box(6, 0, 28, 10)
    repaired, source, _ = repair_masks(masks_of(c, b, a))
    assert source.tolist() == [0, 2]
    assert repaired.areas.tolist() == [22 * 10, 6 * 10]


def test_the_smaller_of_two_keeps_the_pixels_also_inside():
    outer, inner = box(2, 2, 20, 20), box(5, 5, 10, 10)
    repaired, _, changes = repair_masks(masks_of(outer, inner))
    assert (full(repaired)[1] == inner).all()
    assert (full(repaired)[0] == outer & ~inner).all()
    assert [change[1:] for change in changes] == [(0, "overlap", "pixels left to a smaller nucleus", 25)]


def test_a_part_that_another_nucleus_cuts_off_is_dropped():
    lying, standing = box(2, 10, 28, 16), box(10, 4, 14, 24)
    repaired, source, _ = repair_masks(masks_of(lying, standing))
    assert source.tolist() == [0, 1]
    assert (full(repaired)[0] == box(14, 10, 28, 16)).all()


def test_pieces_become_nuclei_and_stray_pixels_go():
    repaired, source, _ = repair_masks(masks_of(box(2, 2, 6, 6) | box(10, 2, 16, 8) | box(20, 2, 23, 5)))
    assert source.tolist() == [0, 0]
    assert repaired.areas.tolist() == [36, 16]


def test_a_hole_is_filled_around_the_nucleus_in_it():
    ring, inner = box(2, 2, 20, 20) & ~box(5, 5, 15, 15), box(8, 8, 12, 12)
    repaired, _, _ = repair_masks(masks_of(ring, inner))
    assert (full(repaired)[0] == box(2, 2, 20, 20) & ~inner).all()
    assert (full(repaired)[1] == inner).all()


def test_a_hole_goes_to_the_inner_of_two_nuclei_around_it():
    y, x = np.mgrid[:30, :30]
    # The diamond is closed at its corners only, so the outer nucleus reaches its hole there.
    diamond = abs(x - 12) + abs(y - 12) == 5
    ring = box(2, 2, 23, 23) & ~box(5, 5, 20, 20)
    repaired, _, _ = repair_masks(masks_of(ring, diamond))
    assert (full(repaired)[1] == (abs(x - 12) + abs(y - 12) <= 5)).all()
    assert (full(repaired)[0] | full(repaired)[1] == box(2, 2, 23, 23)).all()

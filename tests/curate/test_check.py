"""Every kind of fault is found, and nothing else."""

from __future__ import annotations

import csv
import itertools

import pytest

from maskseg.core.errors import InputError
from maskseg.curate.check import FINDING_KINDS, check, write_findings
from maskseg.data.dataset import load_coco, write_coco


def test_planted_faults_are_all_found_and_nothing_else(faulty):
    found = {(finding.image, finding.kind): finding for finding in check(faulty, progress=False).findings}
    expected = {(kind, kind) for kind in FINDING_KINDS} - {
        ("repeated-image", "repeated-image"),
        ("unknown-image", "unknown-image"),
        ("near-duplicate", "near-duplicate"),
    }
    expected |= {
        ("ok", "repeated-image"),
        ("999", "unknown-image"),
        ("ok", "near-duplicate"),
        ("record-only", "sizes-differ"),
    }
    assert set(found) == expected

    def told(image, kind):
        return found[image, kind][2:]

    annotations = {(f.image, f.kind): f.annotation for f in found.values()}
    assert annotations["bad-mask", "bad-mask"] == 904
    assert told("999", "unknown-image") == (903, None, "")
    assert told("sizes-differ", "sizes-differ") == (None, 2, "file 64 x 64, record 64 x 64")
    assert told("record-only", "sizes-differ") == (None, 0, "file 64 x 64, record 60 x 64")
    assert told("pieces", "pieces")[1:] == (36 + 4, "64 + 36 + 4 px")
    assert told("hole", "hole")[1] == 6
    assert told("speck", "speck")[1] == 9
    assert told("duplicate", "duplicate")[1] == pytest.approx(11 / 12)
    first, second = annotations["overlap", "overlap"], int(found["overlap", "overlap"].other)
    assert (first - second, told("overlap", "overlap")[1]) == (1, pytest.approx(4 * 12 / (12 * 12)))
    assert told("covers-image", "covers-image")[1] == pytest.approx(60 * 50 / 64**2)
    assert told("saturated", "saturated")[1] == 1
    assert found["ok", "near-duplicate"].other == "near-duplicate"
    assert "get it again" in found["unreadable-image", "unreadable-image"].other


def test_findings_do_not_depend_on_the_number_of_processes(faulty):
    assert check(faulty, workers=2, progress=False).findings == check(faulty, workers=1, progress=False).findings


def test_the_worst_come_first_within_their_kind(faulty):
    report = check(faulty, min_area=90, progress=False)
    assert report.counts["speck"] > 10
    specks = [finding.measure for finding in report.findings if finding.kind == "speck"]
    assert specks == sorted(specks)
    kinds = [finding.kind for finding in report.findings]
    assert [kind for kind, _ in itertools.groupby(kinds)] == list(report.counts)


def test_near_duplicates_in_one_part_or_without_a_split_are_no_fault(faulty, tmp_path):
    (tmp_path / "images").symlink_to(faulty / "images")
    (tmp_path / "annotations.json").write_bytes((faulty / "annotations.json").read_bytes())
    assert "near-duplicate" not in check(tmp_path, progress=False).counts
    (tmp_path / "split.csv").write_text((faulty / "split.csv").read_text().replace("dev", "train"))
    assert "near-duplicate" not in check(tmp_path, progress=False).counts


def test_kinds_can_be_left_out_by_name(faulty):
    report = check(faulty, progress=False)
    assert report.without(["speck", "hole"]).counts.keys() == report.counts.keys() - {"speck", "hole"}
    with pytest.raises(InputError, match="'specks' is no kind"):
        report.without(["specks"])


def test_the_table_has_a_row_for_each_finding(faulty, tmp_path):
    report = check(faulty, progress=False)
    write_findings(tmp_path / "findings.csv", report.findings)
    with (tmp_path / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["kind"]) for row in rows] == [finding[:2] for finding in report.findings]
    (hole,) = [row for row in rows if row["kind"] == "hole"]
    assert (hole["measure"], hole["unit"], hole["remedy"]) == ("6", "px", "fill them (--fix)")


@pytest.mark.parametrize("field", ["id", "file_name", "height"])
def test_a_record_without_a_field_is_named(field, tmp_path):
    record = {"id": 1, "file_name": "a.png", "height": 8, "width": 8}
    del record[field]
    write_coco(tmp_path / "annotations.json", [record], [])
    with pytest.raises(InputError, match=r"annotations\.json"):
        check(tmp_path, progress=False)


def test_an_image_that_leads_outside_is_not_read(tmp_path, faulty):
    (tmp_path / "secret.png").write_bytes((faulty / "images" / "ok.png").read_bytes())
    write_coco(tmp_path / "annotations.json", [{"id": 1, "file_name": "../secret.png", "height": 64, "width": 64}], [])
    assert check(tmp_path, progress=False).counts == {"unreadable-image": 1, "no-nuclei": 1}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"bbox": [1, 2, 3]}, "bad-box"),
        ({"bbox": None}, "bad-box"),
        ({"image_id": 2}, "unknown-image"),
        *(({"segmentation": {"size": [64, 64], "counts": counts}}, "bad-mask") for counts in (None, [10**400], [0.5])),
        *(({"segmentation": {"size": size, "counts": [4096]}}, "bad-mask") for size in (None, [64], "ab", [None, 64])),
        ({"segmentation": {"size": [64, 65], "counts": [4160]}}, "sizes-differ"),
    ],
)
def test_what_training_refuses_is_a_finding(change, kind, faulty, tmp_path):
    (tmp_path / "images").symlink_to(faulty / "images")
    image = {"id": 1, "file_name": "ok.png", "height": 64, "width": 64}
    item = {"id": 1, "image_id": 1, "bbox": [0, 0, 5, 64], "segmentation": {"size": [64, 64], "counts": [0, 320, 3776]}}
    write_coco(tmp_path / "annotations.json", [image], [item])
    assert not check(tmp_path, progress=False).findings
    write_coco(tmp_path / "annotations.json", [image], [{**item, **change}])
    with pytest.raises(InputError, match="record 0"):
        load_coco(tmp_path)
    assert kind in check(tmp_path, progress=False).counts

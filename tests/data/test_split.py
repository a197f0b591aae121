from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseg.data.split import read_modalities, read_split, stratified_split, write_split
from maskseg.errors import InputError

DSB = Path(__file__).parents[2] / "datasets" / "splits" / "dsb2018_stage1.csv"
SHARES = {"val": 0.1, "dev": 0.1, "train": 0.8}


@pytest.fixture(scope="module")
def dsb():
    return read_split(DSB)


def divide(rows, shares=SHARES, seed=1):
    ids = list(rows)
    return stratified_split(
        ids, [rows[i]["modality"] for i in ids], [rows[i]["mosaic"] for i in ids], shares, seed
    )


def test_the_frozen_division_is_what_is_said_of_it(dsb):
    assert Counter(row["part"] for row in dsb.values()) == {
        "train": 443,
        "dev": 56,
        "val_stratified": 60,
        "val_grouped": 56,
    }
    parts_of_mosaic, parts_of_group = {}, {}
    for row in dsb.values():
        parts_of_group.setdefault(row["group"], set()).add(row["part"])
        if row["mosaic"]:
            parts_of_mosaic.setdefault(row["mosaic"], set()).add(row["part"])
    assert all(len(parts) == 1 for parts in parts_of_mosaic.values())
    assert all(parts == {"val_grouped"} for parts in parts_of_group.values() if "val_grouped" in parts)


def test_every_part_has_its_share_of_every_modality(dsb):
    part = divide(dsb)
    assert set(part) == set(dsb)
    images = Counter(row["modality"] for row in dsb.values())
    in_part = Counter((part[name], row["modality"]) for name, row in dsb.items())
    for name, share in SHARES.items():
        assert sum(part[i] == name for i in part) == pytest.approx(share * len(dsb), abs=1)
        for modality, count in images.items():
            # Mosaics of four tiles stay whole, so a rare modality is met to within one of them.
            assert in_part[name, modality] == pytest.approx(share * count, abs=4)


def test_a_seed_gives_one_division_and_another_seed_another(dsb):
    assert divide(dsb) == divide(dsb)
    assert divide(dsb) != divide(dsb, seed=2)


@settings(max_examples=30)
@given(
    kinds=st.lists(st.sampled_from("abc"), min_size=40, max_size=80),
    groups=st.lists(st.sampled_from(["", "g", "h"]), min_size=80, max_size=80),
    shares=st.sampled_from([SHARES, {"dev": 0.25, "train": 0.75}, {"a": 0.4, "b": 0.6}]),
)
def test_everything_is_in_one_part_and_groups_stay_together(kinds, groups, shares):
    groups = groups[: len(kinds)]
    if groups.count("") < 20:
        return  # too few to divide
    ids = [f"i{number}" for number in range(len(kinds))]
    part = stratified_split(ids, kinds, groups, shares)
    assert list(part) == ids
    assert set(part.values()) == set(shares)
    for group in ("g", "h"):
        assert len({part[i] for i, g in zip(ids, groups, strict=True) if g == group}) <= 1


@pytest.mark.parametrize("share", [0.05, 0.15, 0.2, 0.33, 0.4, 0.7])
def test_any_share_is_met(share):
    ids = [f"i{number}" for number in range(200)]
    part = stratified_split(ids, ["a", "b"] * 100, [""] * 200, {"dev": share, "train": 1 - share})
    assert sum(name == "dev" for name in part.values()) == pytest.approx(200 * share, abs=3)


def test_too_few_images_are_told():
    with pytest.raises(InputError, match="3 separate images or groups do not make 10 folds"):
        stratified_split(["a", "b", "c", "d"], ["x"] * 4, ["g", "g", "", ""], SHARES)


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = [
        {"image_id": "a", "part": "train", "modality": "white on black", "group": "1", "mosaic": ""},
        {"image_id": "b", "part": "dev", "modality": "", "group": "", "mosaic": "7"},
    ]
    write_split(tmp_path / "split.csv", rows)
    assert list(read_split(tmp_path / "split.csv").values()) == rows


def test_both_forms_of_a_modality_table_mean_the_same(tmp_path):
    # As a spreadsheet saves it: with a byte order mark.
    (tmp_path / "a.csv").write_text("image_id,modality\nx,purple on white\n", encoding="utf-8-sig")
    (tmp_path / "b.csv").write_text("filename,foreground,background\nx.png,purple,white\n")
    assert read_modalities(tmp_path / "a.csv") == read_modalities(tmp_path / "b.csv") == {"x": "purple on white"}


@pytest.mark.parametrize("read", [read_split, read_modalities])
@pytest.mark.parametrize("content", [None, b"", b"a,b\n1,2\n", b"\xff\xfe\x00"])
def test_a_table_of_another_kind_is_named(read, content, tmp_path):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"table\.csv") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_an_image_twice_in_a_split_is_named(tmp_path):
    (tmp_path / "split.csv").write_text("image_id,part\nx,train\nx,dev\n")
    with pytest.raises(InputError, match="image x stands there twice"):
        read_split(tmp_path / "split.csv")

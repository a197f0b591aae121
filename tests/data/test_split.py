from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseg.core.errors import InputError
from maskseg.data.split import (
    divide,
    held_out_groups,
    images_of_part,
    read_modalities,
    read_split,
    stratified_split,
    write_split,
)

DSB = Path(__file__).parents[2] / "datasets" / "splits" / "dsb2018_stage1.csv"
SHARES = {"val": 0.1, "dev": 0.1, "train": 0.8}


@pytest.fixture(scope="module")
def dsb():
    return read_split(DSB)


def split_by_mosaic(rows, shares=SHARES, seed=1):
    ids = list(rows)
    return stratified_split(ids, [rows[i]["modality"] for i in ids], [rows[i]["mosaic"] for i in ids], shares, seed)


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


@pytest.mark.slow
def test_every_part_has_its_share_of_every_modality(dsb):
    part = split_by_mosaic(dsb)
    assert set(part) == set(dsb)
    images = Counter(row["modality"] for row in dsb.values())
    in_part = Counter((part[name], row["modality"]) for name, row in dsb.items())
    for name, share in SHARES.items():
        assert sum(part[i] == name for i in part) == pytest.approx(share * len(dsb), abs=1)
        for modality, count in images.items():
            # Mosaics of four tiles stay whole, so a rare modality is met to within one of them.
            assert in_part[name, modality] == pytest.approx(share * count, abs=4)


@pytest.mark.slow
def test_a_seed_gives_one_division_and_another_seed_another(dsb):
    assert split_by_mosaic(dsb) == split_by_mosaic(dsb)
    assert split_by_mosaic(dsb) != split_by_mosaic(dsb, seed=2)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.15, 0.2, 0.33, 0.4, 0.7])
def test_any_share_is_met(share):
    ids = [f"i{number}" for number in range(200)]
    part = stratified_split(ids, ["a", "b"] * 100, [""] * 200, {"dev": share, "train": 1 - share})
    assert sum(name == "dev" for name in part.values()) == pytest.approx(200 * share, abs=3)


@settings(max_examples=60)
@given(
    groups=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), min_size=2, max_size=9),
    shares=st.sampled_from([SHARES, {"dev": 0.3, "train": 0.7}, {"dev": 0.07, "train": 0.93}]),
    seed=st.integers(0, 5),
)
def test_a_few_groups_are_divided_as_nearly_as_can_be(groups, shares, seed):
    kinds, group = spread(groups)
    part = stratified_split(names(len(kinds)), kinds, group, shares, seed)
    assert list(part) == names(len(kinds))
    parts_of_group = {(name, part[i]) for i, name in zip(part, group, strict=True)}
    assert len(parts_of_group) == len(groups), "no group is divided"
    counts = Counter(name for _, name in parts_of_group)
    if len(groups) < len(shares):
        assert counts == {"train": 1, "dev": 1}
        return
    for name, share in shares.items():
        # One at least, and for that others may have one less.
        assert max(1, share * len(groups) - len(shares)) <= counts[name] <= max(1, share * len(groups) + 1)


@pytest.mark.parametrize(
    ("groups", "says"),
    [([], "no image is left"), ([""], "annotate a second one"), (["g", "g"], "the 2 images belong together")],
)
def test_what_cannot_be_divided_says_what_to_do(groups, says):
    with pytest.raises(InputError, match=says):
        stratified_split(names(len(groups)), ["x"] * len(groups), groups, SHARES)


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


def names(count):
    return [f"i{number}" for number in range(count)]


# Groups as (modality, number of images).
GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=12, max_size=40)


def spread(groups):
    """Modality and group of each image."""
    kinds = [kind for kind, count in groups for _ in range(count)]
    return kinds, [str(number) for number, (_, count) in enumerate(groups) for _ in range(count)]


@pytest.mark.slow
@settings(max_examples=25)
@given(groups=GROUPS, folds=st.integers(2, 7), seed=st.integers(0, 5))
def test_folds_differ_by_at_most_one_group_of_each_modality(groups, folds, seed):
    kinds, group = spread(groups)
    ids = names(len(kinds))
    part = stratified_split(ids, kinds, group, {f"fold{k}": 1 / folds for k in range(folds)}, seed)
    counted = Counter(zip(part.values(), kinds, strict=True))
    for kind, _ in groups:
        in_fold = [counted[f"fold{k}", kind] for k in range(folds)]
        if sum(in_fold) >= folds:
            assert max(in_fold) - min(in_fold) <= max(count for name, count in groups if name == kind)


def test_folds_of_the_real_set_differ_by_at_most_one_group(dsb):
    for column in ("mosaic", "group"):
        ids = list(dsb)
        kinds = [row["modality"] for row in dsb.values()]
        groups = [row[column] or name for name, row in dsb.items()]
        part = stratified_split(ids, kinds, groups, {f"fold{k}": 0.2 for k in range(5)})
        largest = Counter()
        for (kind, _), count in Counter(zip(kinds, groups, strict=True)).items():
            largest[kind] = max(largest[kind], count)
        counted = Counter(zip(part.values(), kinds, strict=True))
        for kind, most in largest.items():
            in_fold = [counted[f"fold{k}", kind] for k in range(5)]
            assert max(in_fold) - min(in_fold) <= most, (column, kind)


@settings(max_examples=25)
@given(groups=GROUPS, share=st.floats(0.05, 0.5), seed=st.integers(0, 5))
def test_held_out_groups_take_no_more_than_their_share(groups, share, seed):
    kinds, group = spread(groups)
    chosen = held_out_groups(kinds, group, share, seed)
    assert chosen <= set(group)
    taken = Counter(kind for kind, name in zip(kinds, group, strict=True) if name in chosen)
    for kind, count in Counter(kinds).items():
        assert taken[kind] <= share * count
        # Nothing that would still have fitted was left.
        left = [size for number, (name, size) in enumerate(groups) if name == kind and str(number) not in chosen]
        assert not left or taken[kind] + min(left) > share * count


@pytest.mark.slow
@settings(max_examples=25)
@given(groups=GROUPS, seed=st.integers(0, 5), pinned=st.integers(0, 11), grouped=st.booleans())
def test_four_parts_keep_what_belongs_together(groups, seed, pinned, grouped):
    kinds, group = spread(groups)
    ids = names(len(kinds))
    # Units of two images within a group.
    units = group if grouped else [f"{name} {i // 2}" for i, name in enumerate(group)]
    train_only = [i == group.index(str(pinned)) for i in range(len(ids))]
    shares = {"val_stratified": 0.2, "dev": 0.2, "train": 0.4}
    try:
        part = divide(ids, kinds, units, group, shares, held_out=0.2, train_only=train_only, seed=seed)
    except InputError as error:
        assert any(text in str(error) for text in ("hold out more", "belong together", "is left", "a single image"))
        return
    assert list(part) == ids
    parts_of_unit, parts_of_group = {}, {}
    for name, unit, of in zip(ids, units, group, strict=True):
        parts_of_unit.setdefault(unit, set()).add(part[name])
        parts_of_group.setdefault(of, set()).add(part[name])
    assert all(len(parts) == 1 for parts in parts_of_unit.values())
    assert all(parts == {"val_grouped"} for parts in parts_of_group.values() if "val_grouped" in parts)
    assert "val_grouped" in set(part.values())
    assert part[ids[train_only.index(True)]] == "train"
    assert "val_grouped" not in parts_of_group[str(pinned)]


def test_a_group_that_is_trained_on_is_not_held_out():
    group = [f"{i // 2}" for i in range(40)]
    # Of all groups but the first four.
    train_only = [i % 2 == 0 and i >= 8 for i in range(40)]
    part = divide(
        names(40), ["a"] * 40, names(40), group, {"dev": 0.5, "train": 0.5}, held_out=0.5, train_only=train_only
    )
    held_out = [i for i in range(40) if part[f"i{i}"] == "val_grouped"]
    assert len(held_out) == 4
    assert max(held_out) < 8
    assert all(part[f"i{i}"] == "train" for i in range(40) if train_only[i])


def test_a_set_of_one_group_has_none_to_hold_out():
    with pytest.raises(InputError, match="no group has under 10 %"):
        divide(names(40), ["a"] * 40, names(40), ["g"] * 40, SHARES, held_out=0.1)


def test_a_part_and_all_but_a_part():
    split = {name: {"part": part} for name, part in {"a": "fold1", "b": "fold2", "c": "train", "d": "unlisted"}.items()}
    assert images_of_part(split, "fold1", "t") == {"a"}
    assert images_of_part(split, "-fold1", "t") == {"b", "c"}
    for part in ("fold3", "-fold3"):
        with pytest.raises(InputError, match="t: no part 'fold3'; it has fold1, fold2, train, unlisted"):
            images_of_part(split, part, "t")

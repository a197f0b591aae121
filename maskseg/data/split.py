"""Splits: which image is in which part, kept in a table beside the data set."""

from __future__ import annotations

import csv
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.tables import plain, write_csv

SPLIT_FILE = "split.csv"
# Part of the images that belong to none, such as those that the table of `maskseg split --from` does not name.
UNLISTED = "unlisted"
COLUMNS = ("image_id", "part", "modality", "group", "mosaic")


def read_split(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Read a split table: image id -> its row.

    Raises
    ------
    InputError
        If it is missing, has not the columns image_id and part, or names an image twice.
    """
    rows: dict[str, dict[str, str]] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"image_id", "part"} <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{path}: needs the columns image_id and part; not {', '.join(reader.fieldnames or ())}"
                )
            for row in reader:
                if plain(row["image_id"]) in rows:
                    raise InputError(f"{path}: image {row['image_id']} stands there twice; remove one row")
                rows[plain(row["image_id"])] = {key: plain(value or "") for key, value in row.items() if key}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); make it with maskseg split") from error
    return rows


def images_of_part(split: Mapping[str, Mapping[str, str]], part: str, path: str | os.PathLike[str]) -> set[str]:
    """Ids of the images of a part of a split table, or of all parts but one.

    Parameters
    ----------
    split : mapping of image id to row
        From `read_split`.
    part : str
        ``fold1``, or ``-fold1`` for the images of all other parts.
    path : path-like
        Of the table, for the message.

    Raises
    ------
    InputError
        If there is no such part.
    """
    name = part.removeprefix("-")
    parts = {row["part"] for row in split.values()}
    if name not in parts:
        raise InputError(f"{path}: no part {name!r}; it has {', '.join(sorted(parts))}")
    wanted = {name} if name == part else parts - {name, UNLISTED}
    return {image for image, row in split.items() if row["part"] in wanted}


def write_split(path: str | os.PathLike[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write a split table with the columns image_id, part, modality, group, mosaic."""
    write_csv(path, COLUMNS, rows)


def read_modalities(path: str | os.PathLike[str]) -> dict[str, str]:
    """Modality of each image from a table: ``image_id,modality``, or DSB's ``filename,foreground,background``."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = set(reader.fieldnames or ())
            if {"image_id", "modality"} <= names:
                return {row["image_id"]: row["modality"] for row in reader}
            if {"filename", "foreground", "background"} <= names:
                return {Path(row["filename"]).stem: f"{row['foreground']} on {row['background']}" for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the path") from error
    raise InputError(f"{path}: needs the columns image_id,modality or filename,foreground,background")


def divide(
    ids: Sequence[str],
    modalities: Sequence[str],
    units: Sequence[str],
    groups: Sequence[str],
    shares: Mapping[str, float],
    *,
    held_out: float = 0.0,
    train_only: Sequence[bool] = (),
    seed: int = 1,
) -> dict[str, str]:
    """Divide images into parts, some of them set apart before.

    Parameters
    ----------
    ids, modalities, units, groups : sequences of str, equally long
        A unit, such as a mosaic, is never divided; a group, such as an acquisition, holds whole units.
    shares : mapping of part to share
        Of what is not set apart; they need not sum up to 1.
    held_out : float
        Share of the images for part ``val_grouped``: whole groups, that no other part has; see `held_out_groups`.
    train_only : sequence of bool, optional
        These images, with all of their unit, are in part ``train``, and their group is not held out.
    seed : int

    Returns
    -------
    dict of image id to part

    Raises
    ------
    InputError
        If `stratified_split` does, or no group is small enough to be held out.
    """
    marked = np.array(train_only or [False] * len(ids), bool)
    kinds, unit, group = np.array(modalities), np.array(units), np.array(groups)
    part = np.full(len(ids), "", object)
    part[np.isin(unit, unit[marked])] = "train"
    free = part == ""
    if held_out:
        untouched = free & ~np.isin(group, group[~free])
        chosen = held_out_groups(kinds[untouched].tolist(), group[untouched].tolist(), held_out, seed)
        if not chosen:
            raise InputError(f"no group has under {100 * held_out:g} % of the images of its modality; hold out more")
        part[np.isin(group, list(chosen))] = "val_grouped"
    rest = np.flatnonzero(part == "").tolist()
    fractions = {name: share / sum(shares.values()) for name, share in shares.items()}
    names = [ids[index] for index in rest]
    laid = stratified_split(names, kinds[rest].tolist(), unit[rest].tolist(), fractions, seed)
    return {name: laid.get(name, part[index]) for index, name in enumerate(ids)}


def stratified_split(
    ids: Sequence[str],
    modalities: Sequence[str],
    groups: Sequence[str],
    fractions: Mapping[str, float],
    seed: int = 1,
) -> dict[str, str]:
    """Divide images into parts with equal shares of every modality; a group is never divided.

    The images are laid into folds by scikit-learn's ``StratifiedGroupKFold``, and every part gets whole folds: shares
    of 10, 10 and 80 % are one, one and eight folds of ten. Shares are met to within 1 % of the images, and one group of
    each modality: folds differ by no more where the images of a group are all of one modality.

    With fewer groups than folds the shares are met as nearly as can be: every part gets a group, and each further group
    goes where most is lacking. With fewer groups than parts the smaller parts, of equal ones the earlier, stay empty.

    Parameters
    ----------
    ids, modalities, groups : sequences of str, equally long
        An empty group means an image on its own.
    fractions : mapping of part to share
        In (0, 1), with the sum 1.
    seed : int

    Returns
    -------
    dict of image id to part

    Raises
    ------
    InputError
        If there are not two groups, or a share is under 1 %.

    Examples
    --------
    >>> part = stratified_split(["a", "b", "c"], [""] * 3, [""] * 3, {"val": 0.1, "dev": 0.1, "train": 0.8})
    >>> sorted(part.values())
    ['dev', 'train', 'val']
    """
    from sklearn.model_selection import StratifiedGroupKFold

    group = [value or f"alone {name}" for name, value in zip(ids, groups, strict=True)]
    if len(fractions) == 1:
        return dict.fromkeys(ids, *fractions)
    if len(set(group)) < 2:
        raise InputError(_undivided(len(group)))
    shares = np.array(list(fractions.values()))
    folds = _fold_count(shares)
    if len(set(group)) < folds:
        part_of_group = _few_groups(modalities, group, fractions, seed)
        return {name: part_of_group[of] for name, of in zip(ids, group, strict=True)}
    with warnings.catch_warnings():
        # A rare modality cannot be in every fold.
        warnings.filterwarnings("ignore", message="The least populated class")
        splitter = StratifiedGroupKFold(folds)
        # Of one modality there is nothing to stratify, and scikit-learn wants as many images of one as folds.
        strata = modalities if max(Counter(modalities).values()) >= folds else ["any"] * len(group)
        divided = [test for _, test in splitter.split(group, strata, _shuffled(group, seed))]
    # The first fold has the largest group: no part shall always get it.
    part_of_fold = np.random.default_rng(seed).permutation(np.repeat(list(fractions), _in_folds(shares, folds)))
    part = {int(index): str(name) for name, test in zip(part_of_fold, divided, strict=True) for index in test}
    return {name: part[index] for index, name in enumerate(ids)}


def _shuffled(group: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Groups as numbers in a random order, which decides among those that stratify equally well.

    It is the order of the splitter's own ``shuffle=True`` in scikit-learn 1.8; before, that one shuffled what the
    groups hold and not the groups, and the folds came out uneven.
    """
    names, number = np.unique(group, return_inverse=True)
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    return np.argsort(order)[number]


def _undivided(images: int) -> str:
    """Why so few images, or images of one group, are not divided, and what to do."""
    if images == 0:
        return "no image is left to divide: --train-only or --val-grouped takes them all; give fewer of them"
    if images == 1:
        return (
            "a single image cannot be divided; annotate a second one, or train on it as it is with maskseg train --from"
        )
    return (
        f"the {images} images belong together (tiles of one mosaic, near duplicates, or, with --grouped, one "
        "acquisition), so that none can be set aside for a fair test; annotate an image of another place"
    )


def _few_groups(
    modalities: Sequence[str], groups: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Part of each of a few groups: the number of groups is as near to the shares as can be."""
    rng = np.random.default_rng(seed)
    kinds: dict[str, Counter[str]] = {}
    for group, modality in zip(groups, modalities, strict=True):
        kinds.setdefault(group, Counter())[modality] += 1
    # The larger part first, of equal ones the later.
    order = sorted(reversed(list(fractions)), key=lambda part: -fractions[part])
    counts = {part: int(number < len(kinds)) for number, part in enumerate(order)}
    for _ in range(len(kinds) - sum(counts.values())):
        counts[max(order, key=lambda part: fractions[part] * len(kinds) - counts[part])] += 1
    left = [str(group) for group in rng.permutation(sorted(kinds))]
    part_of_group = {}
    # The smaller parts choose small groups of the most frequent modalities: all else is there to be trained on.
    for part in reversed(order):
        for _ in range(counts[part]):
            frequent = Counter(kind for group in left for kind in kinds[group])
            chosen = min(left, key=lambda group: (-max(frequent[kind] for kind in kinds[group]), kinds[group].total()))
            part_of_group[chosen] = part
            left.remove(chosen)
    return part_of_group


def held_out_groups(modalities: Sequence[str], groups: Sequence[str], share: float, seed: int = 1) -> set[str]:
    """Choose whole groups at random, to test on what no other part has.

    Parameters
    ----------
    modalities, groups : sequences of str, equally long
    share : float
        Of the images of each modality, at most: a group that is larger is not chosen.
    seed : int

    Returns
    -------
    set of str
        Groups; several small ones rather than a large one.
    """
    left = {modality: share * count for modality, count in Counter(modalities).items()}
    content: dict[str, Counter[str]] = {}
    for modality, group in zip(modalities, groups, strict=True):
        content.setdefault(group, Counter())[modality] += 1
    chosen = set()
    for group in np.random.default_rng(seed).permutation(sorted(content)).tolist():
        if all(count <= left[modality] for modality, count in content[group].items()):
            chosen.add(group)
            for modality, count in content[group].items():
                left[modality] -= count
    return chosen


def _fold_count(shares: NDArray[np.float64]) -> int:
    """The fewest folds that meet all shares: few folds lie more evenly, and a small data set has no more."""
    for folds in range(2, 101):
        counts = _in_folds(shares, folds)
        if counts.min() > 0 and np.abs(counts / folds - shares).max() <= 0.01:
            return folds
    raise InputError(f"a part of {100 * shares.min():g} % of the images cannot be made; give 1 % or more")


def _in_folds(shares: NDArray[np.float64], folds: int) -> NDArray[np.int64]:
    """Number of folds of each part: the shares rounded so that they add up to all folds."""
    upto = np.rint(np.cumsum(shares) * folds).astype(np.int64)
    return upto - np.concatenate(([0], upto[:-1]))

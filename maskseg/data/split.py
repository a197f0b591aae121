"""Splits: which image is in which part, kept in a table beside the data set."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maskseg.errors import InputError
from maskseg.files import write_whole

SPLIT_FILE = "split.csv"
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
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"image_id", "part"} <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{path}: needs the columns image_id and part; not {', '.join(reader.fieldnames or ())}"
                )
            for row in reader:
                if row["image_id"] in rows:
                    raise InputError(f"{path}: image {row['image_id']} stands there twice; remove one row")
                rows[row["image_id"]] = {key: value or "" for key, value in row.items() if key}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); make it with maskseg split") from error
    return rows


def write_split(path: str | os.PathLike[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write a split table with the columns image_id, part, modality, group, mosaic."""
    with write_whole(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_modalities(path: str | os.PathLike[str]) -> dict[str, str]:
    """Modality of each image from a table: ``image_id,modality``, or DSB's ``filename,foreground,background``."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = set(reader.fieldnames or ())
            if {"image_id", "modality"} <= names:
                return {row["image_id"]: row["modality"] for row in reader}
            if {"filename", "foreground", "background"} <= names:
                return {Path(row["filename"]).stem: f"{row['foreground']} on {row['background']}" for row in reader}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the path") from error
    raise InputError(f"{path}: needs the columns image_id,modality or filename,foreground,background")


def stratified_split(
    ids: Sequence[str],
    modalities: Sequence[str],
    groups: Sequence[str],
    fractions: Mapping[str, float],
    seed: int = 1,
) -> dict[str, str]:
    """Divide images into parts with equal shares of every modality; a group is never divided.

    Each part is cut from what is left by scikit-learn's ``StratifiedGroupKFold``, so shares come out in whole folds:
    a part of 10 % is one fold of ten.

    Parameters
    ----------
    ids, modalities, groups : sequences of str, equally long
        An empty group means an image on its own.
    fractions : mapping of part to share
        The last part gets what is left.
    seed : int

    Returns
    -------
    dict of image id to part
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.array(ids)
    group = np.array([value or f"alone {name}" for name, value in zip(ids, groups, strict=True)])
    strata = np.array(modalities)
    left = np.arange(len(names))
    result: dict[str, str] = {}
    parts = list(fractions.items())
    whole = 1.0
    for part, share in parts[:-1]:
        folds = round(whole / share)
        if folds < 2 or len(set(group[left])) < folds:
            raise InputError(
                f"{len(left)} images in {len(set(group[left]))} groups are too few for a part of {share:g}; "
                "give a larger share"
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        _, chosen = next(iter(splitter.split(left, strata[left], group[left])))
        result.update(dict.fromkeys(names[left[chosen]].tolist(), part))
        left = np.delete(left, chosen)
        whole -= share
    result.update(dict.fromkeys(names[left].tolist(), parts[-1][0]))
    return result

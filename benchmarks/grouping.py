#!/usr/bin/env python3
"""How far modalities and groups found from the images alone agree with tables that people made.

    python benchmarks/grouping.py [DATASET] [--table TABLE] [--sheet FILE.png]

DATASET is a converted data set; TABLE, its split.csv where not given, names modality, group and mosaic of each image.
The limits of the modality rule are chosen anew without the images of a fold, midway between what they divide, before
that fold is judged; images of one group, and so tiles of one mosaic, are in one fold. The sheet shows the groups.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GroupKFold

from maskseg.convert.mosaic_search import find_mosaics
from maskseg.curate.groups import DISTANCE, acquisition_groups
from maskseg.curate.modality import Colours, Limits, infer_modality
from maskseg.curate.near_duplicates import near_duplicates
from maskseg.curate.survey import ImageFeatures, image_features
from maskseg.data.dataset import image_id, load_coco
from maskseg.data.split import SPLIT_FILE, read_split
from maskseg.imaging.reading import read_image

FOLDS = 5
SHOWN, SIDE = 10, 128


def limits_from(seen: Sequence[Colours], modalities: Sequence[str]) -> Limits:
    """Chroma and white midway between the kinds that they divide; the limit of the dark by default."""
    chroma = {"grey": [], "white": [], "coloured": []}
    background = {"white": [], "coloured": []}
    for item, modality in zip(seen, modalities, strict=True):
        kind = {"purple on white": "white", "purple on purple": "coloured"}.get(modality, "grey")
        chroma[kind].append(item.chroma)
        if kind != "grey":
            background[kind].append(float(np.hypot(item.background_a, item.background_b)))
    return Limits(
        chroma=(max(chroma["grey"]) + min(chroma["white"] + chroma["coloured"])) / 2,
        white=(max(background["white"]) + min(background["coloured"])) / 2,
    )


def judge_modalities(seen: Sequence[Colours], modalities: Sequence[str], groups: Sequence[str]) -> None:
    """Print the agreement of the rule, cross-validated and with its own limits."""
    right, limits = 0, []
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=1).split(seen, groups=groups):
        limits.append(limits_from([seen[i] for i in train], [modalities[i] for i in train]))
        right += sum(infer_modality(seen[i], limits[-1]) == modalities[i] for i in test)
    own = sum(infer_modality(item) == modality for item, modality in zip(seen, modalities, strict=True))
    most = max(modalities.count(modality) for modality in set(modalities))
    low, high = np.min(limits, axis=0), np.max(limits, axis=0)
    print(f"{'modality':44s} {'right':>6s} {'of all':>8s}")
    for name, count in (
        ("the most frequent one", most),
        (f"rule, limits of {FOLDS} folds (chroma {low[0]:.1f}-{high[0]:.1f}, white {low[2]:.1f}-{high[2]:.1f})", right),
        (f"rule as it is (chroma {Limits().chroma:g}, white {Limits().white:g})", own),
    ):
        print(f"{name:44s} {count:6d} {count / len(seen):8.2%}")


def judge_groups(
    looks: Sequence[ImageFeatures], ids: Sequence[str], sizes: Sequence[str], table: dict[str, dict[str, str]]
) -> list[str]:
    """Print adjusted Rand indices, and return the groups that are found without any table."""
    features = np.stack([item.features for item in looks])
    duplicates = [(pair.first, pair.second) for pair in near_duplicates([item.thumbnail for item in looks])]
    given, modalities, tiles = ([table[name][key] for name in ids] for key in ("group", "modality", "mosaic"))
    mosaics = find_mosaics({name: item.edges for name, item in zip(ids, looks, strict=True) if item.edges is not None})
    place = {name: str(number) for number, mosaic in enumerate(mosaics) for name in mosaic}
    inferred = [infer_modality(item.colours) for item in looks]
    found = acquisition_groups(features, inferred, [place.get(name, "") for name in ids], duplicates)
    rows = {
        "size and modality alone": [f"{size} {kind}" for size, kind in zip(sizes, modalities, strict=True)],
        "modality and mosaics inferred and found": found,
        "modality of the table, no mosaics": acquisition_groups(features, modalities, [], duplicates),
    }
    for distance in (0.5, 0.6, 0.7, DISTANCE, 0.8, 0.9, 1.0):
        rows[f"modality and mosaics of the table, {distance:g}"] = acquisition_groups(
            features, modalities, tiles, duplicates, distance
        )
    print(f"\n{'groups, agreement with the table':44s} {'number':>6s} {'adj. Rand':>9s} {'mosaics divided':>16s}")
    for name, groups in rows.items():
        groups_of = defaultdict(set)
        for tile, group in zip(tiles, groups, strict=True):
            groups_of[tile].add(group)
        divided = sum(len(of) > 1 for tile, of in groups_of.items() if tile)
        print(f"{name:44s} {len(set(groups)):6d} {adjusted_rand_score(given, groups):9.3f} {divided:16d}")
    print(f"{'the table itself':44s} {len(set(given)):6d}")
    return found


def draw(files: Sequence[Path], groups: Sequence[str], target: Path) -> None:
    """A contact sheet: a line a group, its images brightened, with its number and size."""
    members = defaultdict(list)
    for file, group in zip(files, groups, strict=True):
        members[group].append(file)
    sheet = np.zeros((len(members) * SIDE, SHOWN * SIDE, 3), np.uint8)
    for line, (group, of_group) in enumerate(sorted(members.items(), key=lambda item: -len(item[1]))):
        chosen = np.linspace(0, len(of_group) - 1, min(len(of_group), SHOWN)).astype(int)
        for column, index in enumerate(chosen):
            small = thumb(read_image(of_group[index]))
            top, left = line * SIDE, column * SIDE
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        text = f"{group}: {len(of_group)}"
        cv2.putText(sheet, text, (4, (line + 1) * SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 200, 0), 1)
    cv2.imwrite(str(target), sheet[:, :, ::-1])


def thumb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image made small and, where it is dark, bright."""
    scale = (SIDE - 4) / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.clip(small * max(1, 200 / max(np.percentile(small, 99), 1)), 0, 255).astype(np.uint8)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=Path("data/dsb2018"), help="default: data/dsb2018")
    parser.add_argument("--table", type=Path, help="image_id,part,modality,group,mosaic (default: its split.csv)")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the groups here")
    options = parser.parse_args()
    if not options.dataset.exists():
        print(f"{options.dataset}: not there; make it as datasets/README.md says")
        return
    data = load_coco(options.dataset)
    table = read_split(options.table or data.path.parent / SPLIT_FILE)
    images = [image for image in data.images if image_id(image) in table]
    ids = [image_id(image) for image in images]
    files = [data.path.parent / "images" / image["file_name"] for image in images]
    print(f"{len(ids)} images, {platform.machine()}, Python {platform.python_version()}, {date.today()}")
    begin = time.process_time()
    looks = [image_features(read_image(file)) for file in files]
    print(f"read and looked at: {1000 * (time.process_time() - begin) / len(ids):.1f} ms of processor time an image\n")
    given = [table[name]["modality"] for name in ids]
    judge_modalities([item.colours for item in looks], given, [table[name]["group"] for name in ids])
    found = judge_groups(looks, ids, [f"{image['height']}x{image['width']}" for image in images], table)
    if options.sheet:
        draw(files, found, options.sheet)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How well tiles of one field are found from the images alone, in three ways.

    python benchmarks/mosaics.py DATASET [--table mosaics.csv] [--looked-at outside.csv] [--split split.csv]

DATASET is a converted data set, or a part of it such as data/dsb2018:train.

Cut: every image that lies in no mosaic is cut in 2 x 2 and 4 x 4 tiles of equal size, all tiles are thrown together,
and the seams found are set against those cut. The tiles are a half or a quarter as long as real ones, so this is
harder. Of the seams found between two images those that may be are not counted: the right rim of one against the left
rim of another at the same height.

Turned: every top and left edge is turned end to end, so that no two edges belong together and whatever is found is
wrong. With --threshold the evidence that a mosaic needs is varied, which shows how it was chosen.

Table: the seams found are set against those of the table. Recall is of the mosaics of which all tiles are there. A
table may be incomplete: a seam that it does not have counts as wrong, unless --looked-at (columns before, after, axis,
verdict, from somebody who looked at it) calls it right; such are also counted apart.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import numpy as np
from tqdm import tqdm

from maskseg.convert import mosaic_search
from maskseg.convert.mosaic_search import Edges, Seam, edges, find_mosaics, seams_of
from maskseg.convert.mosaic_table import read_table
from maskseg.data.dataset import dataset_dicts
from maskseg.data.split import read_split
from maskseg.imaging.reading import read_image


def seams_found(tiles: dict[str, Edges]) -> set[Seam]:
    """Every seam of every mosaic found."""
    return {seam for mosaic in find_mosaics(tiles) for seam in seams_of(mosaic)}


def cut(records: list[dict], pieces: int) -> tuple[dict[str, Edges], set[Seam]]:
    """Edges of all tiles when each image is cut in pieces x pieces, and the seams between them."""
    tiles: dict[str, Edges] = {}
    seams: set[Seam] = set()
    for record in tqdm(records, f"cut in {pieces} x {pieces}", disable=None):
        image = read_image(record["file_name"])
        height, width = image.shape[0] // pieces, image.shape[1] // pieces
        places = {}
        for row, column in np.ndindex(pieces, pieces):
            name = f"{record['image_id']}/{row}/{column}"
            places[name] = (row, column)
            top, left = row * height, column * width
            tiles[name] = edges(image[top : top + height, left : left + width])
        seams.update(seams_of(places))
    return tiles, seams


def may_be(seam: Seam, pieces: int) -> bool:
    """Whether two tiles of different images may be neighbours, since they lie at opposite rims."""
    (first, *a), (second, *b) = (name.split("/") for name in seam[:2])
    axis = seam[2]
    at_rims = int(a[axis]) == pieces - 1 and int(b[axis]) == 0
    return first != second and at_rims and a[1 - axis] == b[1 - axis]


def turned(tile: Edges) -> Edges:
    """The tile with its top and left edges end to end."""
    top, bottom, left, right = tile.lines
    return tile._replace(lines=(top[::-1], bottom, left[::-1], right))


def table_seams(path: Path, images: set[str]) -> tuple[set[Seam], set[Seam]]:
    """Seams of a table between images that are there, and those of them that belong to complete mosaics."""
    mosaics: dict[str, dict] = defaultdict(dict)
    for tile in read_table(path):
        mosaics[tile.mosaic][tile.image] = tile.place
    here = [{name: place for name, place in mosaic.items() if name in images} for mosaic in mosaics.values()]
    complete = [mosaic for mosaic in mosaics.values() if set(mosaic) <= images]
    return {s for mosaic in here for s in seams_of(mosaic)}, {s for mosaic in complete for s in seams_of(mosaic)}


def looked_at(path: Path | None) -> dict[Seam, str]:
    """Verdicts on seams outside the table: right, wrong or unsure."""
    if path is None:
        return {}
    with path.open(newline="") as file:
        return {(row["before"], row["after"], int(row["axis"])): row["verdict"] for row in csv.DictReader(file)}


def line(name: str, right: int, found: int, true: int) -> None:
    """Print one row of the table."""
    precision = f"{right / found:9.3f}" if found else f"{'':9s}"
    print(f"{name:44s} {true:6d} {found:6d} {right:6d} {right / true if true else 0:7.3f} {precision}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="DIR or DIR:part")
    parser.add_argument("--table", type=Path, help="the table to compare with")
    parser.add_argument("--looked-at", type=Path, help="verdicts on seams that the table does not have")
    parser.add_argument("--threshold", type=float, nargs="*", default=[], help="values of EVIDENCE to compare")
    parser.add_argument("--list", type=Path, metavar="FILE", help="write the seams found outside the table")
    parser.add_argument("--split", type=Path, help="a split table: print the seams between tiles of different parts")
    options = parser.parse_args()
    records = dataset_dicts(options.dataset)
    wall, busy = time.perf_counter(), time.process_time()
    tiles = {r["image_id"]: edges(read_image(r["file_name"])) for r in tqdm(records, "edges", disable=None)}
    read_wall, read_busy = time.perf_counter() - wall, time.process_time() - busy
    wall, busy = time.perf_counter(), time.process_time()
    mosaics = find_mosaics(tiles)
    found = {seam for mosaic in mosaics for seam in seams_of(mosaic)}
    print(f"{options.dataset}, {platform.machine()}, Python {platform.python_version()}, {date.today()}")
    print(f"reading {len(records)} images and their edges: {read_wall:.1f} s wall, {read_busy:.1f} s cpu")
    print(f"finding: {time.perf_counter() - wall:.1f} s wall, {time.process_time() - busy:.1f} s cpu")
    print(f"{len(mosaics)} mosaics of {sum(map(len, mosaics))} tiles with {len(found)} seams")
    if options.split:
        part = {name: row["part"] for name, row in read_split(options.split).items()}
        across = [(one, other) for one, other, _ in found if part[one] != part[other]]
        pairs = Counter(" and ".join(sorted((part[one], part[other]))) for one, other in across)
        print(f"{len(across)} seams between parts of {options.split}: {dict(pairs.most_common())}")
        beside = defaultdict(set)
        for one, other in [*across, *((other, one) for one, other in across)]:
            if part[other] == "train":
                beside[part[one]].add(one)
        print("images beside one of train:", {name: len(images) for name, images in sorted(beside.items())})
    print(f"\n{'':44s} {'true':>6s} {'found':>6s} {'right':>6s} {'recall':>7s} {'precision':>9s}")

    alone = [record for record in records if not any(record["image_id"] in mosaic for mosaic in mosaics)]
    for pieces in (2, 4):
        cut_tiles, cut_seams = cut(alone, pieces)
        seams = {s for s in seams_found(cut_tiles) if s in cut_seams or not may_be(s, pieces)}
        line(f"{len(alone)} images cut in {pieces} x {pieces}", len(seams & cut_seams), len(seams), len(cut_seams))
    decoys = {name: turned(tile) for name, tile in tiles.items()}
    line("edges turned end to end", 0, len(seams_found(decoys)), 0)

    if options.table:
        named, complete = table_seams(options.table, set(tiles))
        verdicts = looked_at(options.looked_at)
        outside = found - named
        right = {seam for seam in outside if verdicts.get(seam) == "right"}
        line("table, mosaics with all tiles", len(found & complete), len(found & complete), len(complete))
        line("table, all seams between tiles that are there", len(found & named), len(found & named), len(named))
        line("found, right only if in the table", len(found & named), len(found), len(named))
        line("found, or looked at and called right", len(found & named) + len(right), len(found), len(named | right))
        counts = Counter(verdicts.get(seam) or "not looked at" for seam in outside)
        print(f"outside the table: {len(outside)} seams; " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
        if options.list:
            with options.list.open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("before", "after", "axis", "verdict"))
                writer.writerows((*seam, verdicts.get(seam, "")) for seam in sorted(outside))
        for value in options.threshold:
            mosaic_search.EVIDENCE = value
            seams, chance = seams_found(tiles), seams_found(decoys)
            line(f"evidence {value:g}: seams of the table", len(seams & named), len(seams & named), len(named))
            print(f"{'':14s}{len(seams)} seams found, {len(chance)} of edges turned end to end")


if __name__ == "__main__":
    main()

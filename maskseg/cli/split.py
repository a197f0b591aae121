"""``maskseg split``: divide a data set into parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskseg.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maskseg.curate.survey import Survey

# Near duplicates in different parts, and images that cannot be read, that are listed.
_LISTED = 20


def split(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A converted data set.")],
    table: Annotated[Path | None, typer.Option("--from", help="Take over this split table.")] = None,
    dev: Annotated[float, typer.Option(help="Share of the images for choices during training.")] = 0.1,
    val: Annotated[float, typer.Option(help="Share of the images for the report; 0 for none.")] = 0.1,
    val_grouped: Annotated[
        float, typer.Option(help="Share for a report on groups that no other part has; val is then val_stratified.")
    ] = 0.0,
    folds: Annotated[
        int | None, typer.Option(min=2, max=50, help="Equal parts fold1, fold2, ... instead of train, dev and val.")
    ] = None,
    grouped: Annotated[bool, typer.Option("--grouped", help="Keep every group in one part.")] = False,
    train_only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Images of these names, such as 'extra_*', only train.")
    ] = None,
    modality: Annotated[
        Path | None, typer.Option(help="Table image_id,modality or filename,foreground,background.")
    ] = None,
    mosaics: Annotated[
        Path | None,
        typer.Option(help="Table of tiles, as of maskseg convert mosaics; else they are found by their edges."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core where not given.")] = None,
) -> None:
    """Divide a data set into train, dev and val, with equal shares of every modality, into DATASET/split.csv.

    Tiles of one mosaic stay together, and so do near duplicates. A group holds what looks like one acquisition: the
    same size, colours and texture. A modality that no table gives is inferred from the colours.

    DATASET:fold1 names the images of a part, and DATASET:-fold1 those of all others.

    \b
    Examples:
      maskseg split data/mine --modality modality.csv
      maskseg split data/mine --mosaics mosaics.csv --val-grouped 0.1
      maskseg split data/mine --folds 5 --grouped
      maskseg split data/dsb2018 --from datasets/splits/dsb2018_stage1.csv
    """
    from fnmatch import fnmatchcase

    from maskseg.convert.mosaics import read_table
    from maskseg.core.errors import InputError
    from maskseg.core.threads import available_cores
    from maskseg.curate.survey import survey
    from maskseg.data.dataset import image_id, load_coco
    from maskseg.data.split import SPLIT_FILE, divide, read_modalities, read_split, write_split

    data = load_coco(dataset)
    names = [image_id(image) for image in data.images]
    if not names:
        raise InputError(f"{dataset}: holds no image; convert it again")
    given = read_split(table) if table else {}
    if table and not given.keys() & set(names):
        raise InputError(f"{table}: names none of the images of {dataset}; give the table of this data set")
    if min(dev, val, val_grouped) < 0 or dev + val + val_grouped >= 1:
        raise InputError(
            f"--dev {dev:g} --val {val:g} --val-grouped {val_grouped:g}: the shares must leave something to train on"
        )
    known = {name: row.get("modality", "") for name, row in given.items()}
    known |= read_modalities(modality) if modality else {}
    tile_of = {name: row.get("mosaic", "") for name, row in given.items()} if table else None
    if mosaics:
        tile_of = {tile.image: tile.mosaic for tile in read_table(mosaics)}
    surveyed = survey(data, known, tile_of, workers or available_cores())
    if table:
        part = _taken_over(table, given, names)
        group = {name: given.get(name, {}).get("group", "") for name in names}
    else:
        units = surveyed.groups if grouped else surveyed.units
        if folds and len(set(units)) < folds:
            raise InputError(
                f"--folds {folds}: {dataset} has {len(set(units))} images or groups that may be parted (near "
                "duplicates and tiles of a mosaic stay together); give no more folds than that"
            )
        wanted = _shares(folds, dev, val, val_grouped)
        part = divide(
            names,
            surveyed.modalities,
            units,
            surveyed.groups,
            wanted,
            held_out=val_grouped,
            train_only=[any(fnmatchcase(name, pattern) for pattern in train_only or ()) for name in names],
            seed=seed,
        )
        group = dict(zip(names, surveyed.groups, strict=True))
        for name in wanted.keys() - set(part.values()):
            say(f"too few images for all parts: none is in {name}", err=True)
    write_split(
        data.path.parent / SPLIT_FILE,
        [
            {"image_id": name, "part": part[name], "modality": kind, "group": group[name], "mosaic": mosaic}
            for name, kind, mosaic in zip(names, surveyed.modalities, surveyed.mosaics, strict=True)
        ],
    )
    _report(surveyed, part)
    if surveyed.unreadable:
        raise typer.Exit(2)


def _taken_over(table: Path, given: Mapping[str, Mapping[str, str]], names: list[str]) -> dict[str, str]:
    """The part of each image as a table has it; what the table does not list is said."""
    from maskseg.data.split import UNLISTED

    unlisted = [name for name in names if name not in given]
    if unlisted:
        say(f"{len(unlisted)} images are not in {table}, such as {unlisted[0]}: part {UNLISTED}", err=True)
    return {name: given[name]["part"] if name in given else UNLISTED for name in names}


def _shares(folds: int | None, dev: float, val: float, val_grouped: float) -> dict[str, float]:
    """The parts with their shares; val_grouped comes from elsewhere."""
    if folds:
        return {f"fold{number}": 1 / folds for number in range(1, folds + 1)}
    train = 1 - dev - val - val_grouped
    shares = {"val_stratified" if val_grouped else "val": val, "dev": dev, "train": train}
    return {name: share for name, share in shares.items() if share}


def _report(surveyed: Survey, part: Mapping[str, str]) -> None:
    """Print what was found, how many images of each modality are in each part, and what is wrong."""
    say(f"modality: {len(part) - len(surveyed.inferred)} given, {len(surveyed.inferred)} inferred from the colours")
    say(
        f"{len(set(surveyed.groups))} groups; {sum(map(bool, surveyed.mosaics))} tiles in "
        f"{len(set(surveyed.mosaics) - {''})} mosaics; {len(surveyed.duplicates)} pairs of near duplicates"
    )
    counted = Counter(zip(part.values(), surveyed.modalities, strict=True))
    for (name, kind), count in sorted(counted.items()):
        say(f"{name:16s} {kind or 'unknown modality':20s} {count:5d}")
    _list(_divided_duplicates(surveyed, part), "pairs of near duplicates in different parts")
    _list(surveyed.unreadable, "images that cannot be read")


def _divided_duplicates(surveyed: Survey, part: Mapping[str, str]) -> list[str]:
    """Near duplicates in different parts, one line each."""
    lines = []
    for first, second, similarity in surveyed.duplicates:
        one, other = surveyed.ids[first], surveyed.ids[second]
        if part[one] != part[other]:
            lines.append(f"near duplicates: {one} ({part[one]}) and {other} ({part[other]}), {similarity:.3f}")
    return lines


def _list(lines: list[str], what: str) -> None:
    """Print the first of some lines, and how many more there are."""
    for line in lines[:_LISTED]:
        say(line, err=True)
    if len(lines) > _LISTED:
        say(f"and {len(lines) - _LISTED} more {what}", err=True)

"""``maskseg split``: divide a data set into parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Part of the images that the table of --from does not name.
UNLISTED = "unlisted"


def split(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A converted data set.")],
    table: Annotated[Path | None, typer.Option("--from", help="Take over this split table.")] = None,
    dev: Annotated[float, typer.Option(help="Share of the images for choices during training.")] = 0.1,
    val: Annotated[float, typer.Option(help="Share of the images for the report; 0 for none.")] = 0.1,
    modality: Annotated[
        Path | None, typer.Option(help="Table image_id,modality or filename,foreground,background.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 1,
) -> None:
    """Divide a data set into train, dev and val, with equal shares of every modality, into DATASET/split.csv.

    \b
    Examples:
      maskseg split data/mine --modality modality.csv
      maskseg split data/dsb2018 --from datasets/splits/dsb2018_stage1.csv
    """
    from collections import Counter

    from maskseg.data.coco import image_id, load_coco
    from maskseg.data.split import SPLIT_FILE, read_modalities, read_split, stratified_split, write_split
    from maskseg.errors import InputError

    data = load_coco(dataset)
    images = {image_id(image): image for image in data.images}
    if table is not None:
        rows = read_split(table)
        if not set(images) & set(rows):
            raise InputError(f"{table}: names none of the images of {dataset}; give the table of this data set")
        chosen = [rows.get(name) or {"image_id": name, "part": UNLISTED} for name in images]
        unlisted = [row["image_id"] for row in chosen if row["part"] == UNLISTED]
        if unlisted:
            typer.echo(f"{len(unlisted)} images are not in {table}, such as {unlisted[0]}: part {UNLISTED}", err=True)
    else:
        known = read_modalities(modality) if modality else {}
        modalities = [known.get(name) or image.get("modality") or "" for name, image in images.items()]
        fractions = {name: share for name, share in (("val", val), ("dev", dev)) if share > 0}
        if sum(fractions.values()) >= 1 or min(dev, val) < 0:
            raise InputError(f"--dev {dev:g} --val {val:g}: the shares must leave something to train on")
        parts = stratified_split(
            list(images), modalities, [""] * len(images), {**fractions, "train": 1 - sum(fractions.values())}, seed
        )
        chosen = [
            {"image_id": name, "part": parts[name], "modality": kind}
            for name, kind in zip(images, modalities, strict=True)
        ]
    write_split(dataset / SPLIT_FILE, chosen)
    for (part, kind), count in sorted(Counter((row["part"], row.get("modality", "")) for row in chosen).items()):
        typer.echo(f"{part:16s} {kind or 'unknown modality':20s} {count:5d}")

"""``maskseg predict``: images in, results in every format out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Views(StrEnum):
    """Test-time augmentation."""

    none = "none"
    flip = "flip"


def predict(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, DSB image folders, zip files.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    model: Annotated[str, typer.Option(help="Training folder, weight file or bundled name.")] = "nuclei",
    formats: Annotated[
        str, typer.Option(help="What to write, comma separated: rle, labels, coco, overlay, table.")
    ] = "rle,labels,coco,overlay,table",
    tta: Annotated[Views | None, typer.Option(help="Views to unite; the model's own choice where not given.")] = None,
) -> None:
    """Find and outline every nucleus.

    Writes submission.csv (Kaggle's run lengths), labels/STEM.tif, predictions.json (COCO, with scores),
    overlays/STEM.png and images.csv. An interrupted run goes on where it was when the same command is given again;
    unreadable images are named at the end.

    \b
    Examples:
      maskseg predict images/ -o out/
      maskseg predict stage1_test.zip -o out/ --model runs/nuclei_R_18_FPN --formats rle
    """
    from maskseg.errors import InputError
    from maskseg.images import find_images
    from maskseg.inference.batch import FORMATS, predict_files
    from maskseg.inference.predictor import load_model

    chosen = [item.strip() for item in formats.split(",") if item.strip()]
    unknown = [item for item in chosen if item not in FORMATS]
    if unknown or not chosen:
        raise InputError(f"--formats {formats}: choose from {', '.join(FORMATS)}")
    files = find_images(inputs)
    predictor = load_model(model)
    failed = predict_files(
        predictor,
        files,
        out,
        chosen,
        None if tta is None else tta is Views.flip,
        {"model": model, "config": predictor.cfg.dump()},
    )
    typer.echo(f"{len(files) - len(failed)} of {len(files)} images done: {out}")
    for image_id, reason in failed:
        typer.echo(f"left out {image_id}: {reason}", err=True)
    if failed:
        raise typer.Exit(2)

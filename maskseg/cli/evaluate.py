"""`maskseg evaluate`: predicted nuclei scored against true ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    truth: Annotated[str, typer.Option(metavar="T", help="True nuclei; DIR:PART for one part of a dataset.")],
    pred: Annotated[str, typer.Option(metavar="P", help="Predicted nuclei.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder or zip of the images: sizes for a CSV without Height and Width."),
    ] = None,
    modality: Annotated[
        Path | None,
        typer.Option(help="CSV with image_id,modality (a split table will do); else what the dataset says."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for evaluation.csv (a row an image) and .json.")
    ] = None,
) -> None:
    """Score predicted nuclei against true ones, for each modality and in all.

    T and P: a folder of label images (STEM.tif, .png or .npy), what maskseg predict wrote, a dataset folder,
    a COCO JSON file or a run-length CSV. The DSB score of an image is the mean over the IoU thresholds 0.50,
    0.55 ... 0.95 of TP / (TP + FP + FN); that of a set is the mean over its images. "found" counts nuclei
    above IoU 0.5, "matched IoU" is their mean IoU. An image without prediction counts as one in which nothing
    was found. Where masks of an image overlap, a pixel counts for the smaller one.

    \b
    Examples:
      maskseg evaluate --truth data/dsb2018:dev --pred out/
      maskseg evaluate --truth truth_labels/ --pred submission.csv -o scores/
      maskseg evaluate --truth stage1_solution.csv --pred out/labels --modality classes.csv
    """
    from tqdm import tqdm

    from maskseg.data.split import read_modalities
    from maskseg.evaluation.dsb import score_table, summarise
    from maskseg.evaluation.sets import compare, open_set
    from maskseg.images import find_images

    sizes = {file.id: file.size() for file in find_images([images])} if images else {}
    true = open_set(truth, sizes)
    modalities = read_modalities(modality) if modality else true.modalities
    # disable=None: no bar where the output is no terminal.
    scores, problems = compare(
        true,
        open_set(pred, sizes),
        lambda ids: tqdm(ids, desc="evaluate", unit="image", leave=False, disable=None),
    )
    for problem in problems:
        typer.echo(problem, err=True)
    summary = summarise(
        list(scores.values()), [modalities.get(name, "") for name in scores] if modalities else None
    )
    typer.echo(score_table(summary))
    if out:
        _write(out, scores, modalities, summary, problems)
        typer.echo(f"written: {out / 'evaluation.csv'}, {out / 'evaluation.json'}")
    if problems:
        raise typer.Exit(2)


def _write(out: Path, scores: dict, modalities: dict, summary: dict, problems: list[str]) -> None:
    import csv
    import json

    from maskseg.files import write_whole

    rows = [{"image_id": name, "modality": modalities.get(name, ""), **row} for name, row in scores.items()]
    with write_whole(out / "evaluation.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with write_whole(out / "evaluation.json", "w", encoding="utf-8") as file:
        json.dump({**summary, "problems": problems}, file, indent=1)

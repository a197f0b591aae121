"""`maskseg compare`: two predictions of the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskseg.cli.evaluate import (
    Images,
    Modality,
    Split,
    column_of,
    compare_with,
    exit_with_problems,
    open_truth,
    write_results,
)
from maskseg.cli.say import say

_SHOWN = 10


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Predicted nuclei.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Other predictions of the same images.")],
    truth: Annotated[str, typer.Option(metavar="T", help="True nuclei; DIR:PART for one part of a dataset.")],
    images: Images = None,
    split: Split = None,
    modality: Modality = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for per_image.csv and summary.json.")] = None,
) -> None:
    """Compare two predictions on one truth, image by image.

    Prints the difference of the DSB scores by modality with its interval (paired bootstrap over the images), the
    p values of the sign test and of Wilcoxon's signed-rank test, and the images that changed most. A, B and T are
    what maskseg evaluate reads.

    \b
    Examples:
      maskseg compare before/ after/ --truth data/dsb2018:dev
      maskseg compare before/ after.csv --truth truth_labels/ --split split.csv:dev -o changes/
    """
    from maskseg.evaluation.paired import paired_by_modality, paired_table

    true = open_truth(truth, images, split, modality)
    one, problems_a = compare_with(true, a, images)
    other, problems_b = compare_with(true, b, images)
    names = [name for name in one if name in other]
    rows = [_row(name, true.modalities.get(name, ""), one[name].scores, other[name].scores) for name in names]
    comparison = paired_by_modality(
        [row["dsb_score_a"] for row in rows], [row["dsb_score_b"] for row in rows], column_of(true.modalities, names)
    )
    say(f"A: {a}\nB: {b}\n\n{paired_table(comparison)}\n\n{_most_changed(rows)}")
    problems = [f"{source}: {text}" for source, texts in ((a, problems_a), (b, problems_b)) for text in texts]
    if out:
        write_results(out, rows, {"a": a, "b": b, **comparison, "problems": problems})
    exit_with_problems(problems)


def _row(name: str, modality: str, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    change = b["dsb_score"] - a["dsb_score"]
    row = {"image_id": name, "modality": modality, "difference": change, "n_truth": a["n_truth"]}
    for key in ("dsb_score", "n_pred", "matched", "matched_iou", "f1_70", "aji"):
        row |= {f"{key}_a": a[key], f"{key}_b": b[key]}
    return row


def _most_changed(rows: list[dict[str, Any]]) -> str:
    from maskseg.evaluation.dsb import text_table

    shown = [
        ["changed most", "A", "B", "B - A", "nuclei", "found A", "found B", "predicted A", "predicted B", "modality"]
    ]
    for row in sorted(rows, key=lambda row: -abs(row["difference"]))[:_SHOWN]:
        if row["difference"]:
            scores = [f"{row['dsb_score_a']:.4f}", f"{row['dsb_score_b']:.4f}", f"{row['difference']:+.4f}"]
            counts = [str(row[key]) for key in ("n_truth", "matched_a", "matched_b", "n_pred_a", "n_pred_b")]
            shown.append([row["image_id"], *scores, *counts, row["modality"] or "unknown"])
    return text_table(shown) if len(shown) > 1 else "no image changed"

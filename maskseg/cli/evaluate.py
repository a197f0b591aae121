"""`maskseg evaluate`: predicted nuclei scored against true ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskseg.cli.say import say
from maskseg.formats.registry import readable

if TYPE_CHECKING:
    from maskseg.evaluation.results import ImageResult
    from maskseg.evaluation.sets import LabelSet
    from maskseg.formats.classes import ClassRule

_READ = ", ".join(readable())
Images = Annotated[Path | None, typer.Option(help="Folder or zip of the images: sizes, for formats without them.")]
Split = Annotated[
    str | None,
    typer.Option(metavar="FILE[:PART]", help="Split table: modality and group of each image; the images of PART only."),
]
MergeClasses = Annotated[
    list[str] | None,
    typer.Option(metavar="NEW=OLD,OLD", help="Take classes for one, may be repeated; all: every class."),
]
Modality = Annotated[
    Path | None, typer.Option(help="CSV with image_id,modality, or DSB's classes.csv; else what the dataset says.")
]


def evaluate(
    truth: Annotated[str, typer.Option(metavar="T", help=f"True nuclei ({_READ}); DIR:PART for a part of a dataset.")],
    pred: Annotated[str, typer.Option(metavar="P", help=f"Predicted nuclei ({_READ}).")],
    images: Images = None,
    split: Split = None,
    modality: Modality = None,
    merge_classes: MergeClasses = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for per_image.csv and summary.json.")] = None,
) -> None:
    """Score predicted nuclei against true ones, for each modality and in all.

    T and P: a folder of label images (STEM.tif, .png or .npy), what maskseg predict wrote, a dataset folder,
    or a file or folder of any other format that is read. The DSB score of an image is the mean over the IoU
    thresholds 0.50, 0.55 ... 0.95 of TP / (TP + FP + FN); that of a set is the mean over its images. "found" counts
    nuclei above IoU 0.5, "matched IoU" is their mean IoU, "area" their found over their true area: above 1 the outlines
    are wider than the annotator's. F1, PQ, AJI, AJI+ and Dice are means over the images too. Intervals are by bootstrap
    over the images. COCO's AP needs scores, which a COCO JSON has. Where both sides have classes, PQ of each class (as
    in CoNIC), F_d and F_c (Hover-Net) and a table of confusions follow; the figures above them do not look at classes.
    Where T says what was reviewed, only that counts.

    An image without prediction counts as one in which nothing was found; nothing found where nothing is scores 1.
    Labels may be any whole numbers. Where masks of an image overlap, a pixel counts for the higher score, of
    equal ones for the smaller mask. What does not fit is named, and the exit status is 2.

    \b
    Examples:
      maskseg evaluate --truth data/dsb2018:dev --pred out/
      maskseg evaluate --truth truth_labels/ --pred submission.csv --split split.csv:dev -o scores/
      maskseg evaluate --truth stage1_solution.csv --pred out/labels --modality classes.csv
    """
    from maskseg.evaluation.classes import class_figures, class_table, without_classes
    from maskseg.evaluation.dsb import score_table, summarise
    from maskseg.evaluation.results import coco_ap, errors_by_size
    from maskseg.evaluation.tables import error_table, threshold_table
    from maskseg.formats.classes import ClassRule

    rule = ClassRule.parse(None, merge_classes)
    true = open_truth(truth, images, split, modality, rule)
    results, problems = compare_with(true, pred, images, rule)
    listed = list(results.values())
    summary = summarise(
        [result.scores for result in listed], column_of(true.modalities, results), column_of(true.groups, results)
    )
    summary["coco"] = coco_ap(listed)
    summary["errors"] = errors_by_size(listed)
    by_class = class_figures(result.classes for result in listed)
    say(score_table(summary))
    if summary.get("groups", 0) > 1:
        low, high = summary["interval_by_group"]
        say(f"95 % interval over the {summary['groups']} groups of acquisition: {low:.3f} - {high:.3f}")
    if summary["coco"]:
        ap = summary["coco"]
        say(f"COCO mask AP {ap['ap']:.4f}, AP50 {ap['ap_50']:.4f}, AP75 {ap['ap_75']:.4f}, all detections")
    say(f"\n{threshold_table(summary)}\n\n{error_table(summary['errors'])}")
    if by_class is not None:
        summary["by_class"] = by_class
        say(f"\n{class_table(by_class)}")
    elif said := without_classes([result.classes for result in listed]):
        say(f"note: {said}", err=True)
    if out:
        rows = [
            {"image_id": name, "modality": true.modalities.get(name, ""), **result.scores}
            for name, result in results.items()
        ]
        write_results(out, rows, {**summary, "problems": problems})
    exit_with_problems(problems)


def open_truth(
    truth: str, images: Path | None, split: str | None, modality: Path | None, rule: ClassRule | None = None
) -> LabelSet:
    """Open the true nuclei with all that is known of the images."""
    from dataclasses import replace

    from maskseg.data.split import read_modalities
    from maskseg.evaluation.sets import open_set, read_part

    true = open_set(truth, sizes_of(images), rule)
    if split:
        true = read_part(true, split)
    return replace(true, modalities=read_modalities(modality)) if modality else true


def compare_with(
    true: LabelSet, pred: str, images: Path | None, rule: ClassRule | None = None
) -> tuple[dict[str, ImageResult], list[str]]:
    """The comparison of every image with a prediction, and what did not fit."""
    from tqdm import tqdm

    from maskseg.evaluation.sets import compare, open_set

    # disable=None: no bar where the output is no terminal.
    predicted = open_set(pred, sizes_of(images), rule)
    try:
        results = compare(true, predicted, lambda ids: tqdm(ids, desc=pred, unit="image", leave=False, disable=None))
        if rule:
            rule.check(true.seen | predicted.seen)
        return results
    finally:
        for which in (true, predicted):
            for note, count in which.notes.items():
                say(f"note: {which.source}: {note}" + (f" ({count} images)" if count else ""), err=True)


def sizes_of(images: Path | None) -> Mapping[str, tuple[int, int]]:
    """Height and width of the images of a folder."""
    from maskseg.imaging.finding import find_images
    from maskseg.imaging.sizes import ImageSizes

    return ImageSizes(find_images([images]) if images else ())


def column_of(known: Any, results: Any) -> list[str] | None:
    """What a table says of each image, "" where it does not; None where it says nothing."""
    return [known.get(name, "") for name in results] if any(known.get(name) for name in results) else None


def write_results(out: Path, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Write per_image.csv and summary.json."""
    from maskseg.core.json_files import write_json
    from maskseg.core.tables import write_csv

    write_csv(out / "per_image.csv", list(rows[0]), rows)
    write_json(out / "summary.json", summary, indent=1)
    say(f"written: {out / 'per_image.csv'}, {out / 'summary.json'}")


def exit_with_problems(problems: list[str]) -> None:
    """Name what did not fit; exit status 2 if there is anything."""
    for problem in problems:
        say(problem, err=True)
    if problems:
        raise typer.Exit(2)

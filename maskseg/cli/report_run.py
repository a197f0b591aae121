"""``maskseg report run``: one page about a prediction run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskseg.cli.say import say

if TYPE_CHECKING:
    from maskseg.evaluation.results import ImageResult
    from maskseg.evaluation.sets import LabelSet


def report_run(
    truth: Annotated[str, typer.Option(metavar="T", help="Data set with true nuclei; DIR:PART for one part.")],
    pred: Annotated[str, typer.Option(metavar="P", help="Folder that maskseg predict wrote, or a file of it.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file to write.")],
    compare: Annotated[str | None, typer.Option(metavar="P2", help="Another run on the same images.")] = None,
    images: Annotated[Path | None, typer.Option(help="Images, where T is no data set folder.")] = None,
) -> None:
    """Write one HTML page about a prediction run, which opens without network.

    Scores by modality with intervals, precision by IoU, errors by kind and size, calibration of the detection scores
    (where P is a folder with predictions.json, or such a file), then the worst, the middle and the best images with
    every error outlined in its own colour; a click enlarges a picture, the arrow keys go on.

    \b
    Examples:
      maskseg report run --truth data/dsb2018:dev --pred out/ -o report.html
      maskseg report run --truth data/mine:dev --pred new/ --compare old/ -o report.html
    """
    from functools import partial

    from tqdm import tqdm

    from maskseg.core.errors import InputError
    from maskseg.core.files import check_output
    from maskseg.data.dataset import folder_and_part
    from maskseg.evaluation.sets import compare as compare_sets
    from maskseg.evaluation.sets import open_set
    from maskseg.imaging.finding import find_images
    from maskseg.reports.report import build_page

    check_output(out, (".html",))
    true = open_set(truth)
    if images is None:
        source = Path(folder_and_part(truth)[0])
        images = (source if source.is_dir() else source.parent) / "images"
        if not images.is_dir():
            raise InputError(f"{truth}: has no folder {images} beside it; name the images with --images")
    files = {file.id: file for file in find_images([images])}

    def look(run: LabelSet) -> tuple[dict[str, ImageResult], list[str]]:
        return compare_sets(true, run, partial(tqdm, desc=run.source, unit="image", leave=False, disable=None))

    run = open_set(pred)
    results, problems = look(run)
    other = (compare, look(open_set(compare))[0]) if compare else None
    build_page(true, run, results, files, problems, other).write(out)
    say(f"{out}: {len(results)} images, {out.stat().st_size / 1e6:.1f} MB")
    for problem in problems:
        say(problem, err=True)
    if problems:
        raise typer.Exit(2)

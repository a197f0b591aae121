"""``maskseg report run``: one page about a prediction run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskseg.evaluation.report import ImageResult, Scores
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

    from maskseg.errors import InputError
    from maskseg.evaluation.report import build_page, look_at_all
    from maskseg.evaluation.sets import open_set
    from maskseg.images import find_images

    true = open_set(truth)
    if images is None:
        source = Path(truth) if Path(truth).exists() else Path(truth.rpartition(":")[0])
        images = (source if source.is_dir() else source.parent) / "images"
        if not images.is_dir():
            raise InputError(f"{truth}: has no folder {images} beside it; name the images with --images")
    files = {file.id: file for file in find_images([images])}

    def look(source: str) -> tuple[LabelSet, list[ImageResult], list[str]]:
        run, scores = _prediction(source)
        bar = partial(tqdm, desc=source, unit="image", leave=False, disable=None)
        return run, *look_at_all(true, run, scores, bar)

    run, results, problems = look(pred)
    other = (compare, look(compare)[1]) if compare else None
    build_page(true, run, results, files, problems, other).write(out)
    typer.echo(f"{out}: {len(results)} images, {out.stat().st_size / 1e6:.1f} MB")
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(2)


def _prediction(source: str) -> tuple[LabelSet, Scores]:
    """The labels of a prediction, and the scores of its detections where it has them."""
    from maskseg.data.coco import image_id, load_coco
    from maskseg.evaluation.sets import open_set

    path = Path(source) / "predictions.json" if Path(source).is_dir() else Path(source)
    if path.suffix != ".json" or not path.is_file():
        return open_set(source), lambda name: None
    data = load_coco(path)
    if not any("score" in item for items in data.annotations.values() for item in items):
        return open_set(str(path)), lambda name: None
    known = {image_id(image): image for image in data.images}
    return open_set(str(path)), lambda name: data.masks(known[name]).scores

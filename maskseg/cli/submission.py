"""`maskseg submission`: work on run-length submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.say import say

app = typer.Typer(help="Work on run-length submissions.", no_args_is_help=True)

_SHOWN = 100  # faults on the screen; a file of another competition has thousands


@app.callback()
def _submission() -> None:
    """Work on run-length submissions."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The submission, a CSV file.")],
    images: Annotated[
        list[str], typer.Option(help="The images it is for: a folder, glob, zip or file; may be repeated.")
    ],
) -> None:
    """Name every fault for which a submission would be refused, with its line.

    Faults are a wrong header, runs that are malformed, out of range, unsorted or overlapping, rows of an
    image that overlap, a row twice, an empty row beside others, and unknown or missing images. The exit
    status is 2 if there are any. Of ultrasound nerves (img,pixels) an image has one row; of protein classes
    (Id,Predicted) the first fault is named.

    \b
    Examples:
      maskseg submission check out/submission.csv --images stage1_test/
      maskseg submission check out/submission.csv --images stage1_test.zip
    """
    from maskseg.formats.kaggle_reader import read_encoded
    from maskseg.formats.submission_check import check_submission
    from maskseg.imaging.finding import find_images
    from maskseg.imaging.sizes import ImageSizes
    from maskseg.projects.protein.data import check_predicted, group_channels

    files = find_images(images)
    if file.is_file() and check_predicted(file, ids := group_channels(files)):
        say(f"{file}: OK, classes of {len(ids)} images")
        return
    sizes = ImageSizes(files)
    faults = check_submission(file, sizes)
    for fault in faults[:_SHOWN]:
        say(f"{file}: {fault}", err=True)
    if faults:
        hidden = f", the first {_SHOWN} shown" if len(faults) > _SHOWN else ""
        say(f"{file}: {len(faults)} faults{hidden}", err=True)
        raise typer.Exit(2)
    encoded = read_encoded(file).values()
    masks = sum(bool(text) for image in encoded for _, text in image.rows)
    empty = sum(not any(text for _, text in image.rows) for image in encoded)
    say(f"{file}: OK, {masks} masks in {len(sizes)} images, {empty} of them empty")

"""``maskseg pack``: a data set as a small folder for another machine, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.say import say


def pack(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set; with --unpack a packed one.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the result goes.")],
    unpack: Annotated[bool, typer.Option("--unpack", help="Back to PNG images and plain JSON.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core where not given.")] = None,
) -> None:
    """Pack a data set for the way to another machine: lossless WebP and compressed JSON; no pixel changes.

    Training and every other command read the packed data set as it is. 8-bit images become WebP where that is smaller;
    TIFF files of more bits are compressed; all else is copied.

    \b
    Examples:
      maskseg pack data/dsb2018 -o data/dsb2018_packed
      maskseg train DATASETS.TRAIN "('data/dsb2018_packed:train',)" DATASETS.TEST "('data/dsb2018_packed:dev',)"
      maskseg pack --unpack data/dsb2018_packed -o data/dsb2018_again
    """
    from maskseg.data import pack as packing

    result = (packing.unpack if unpack else packing.pack)(dataset, out, workers)
    for line in result.left_out:
        say(f"left out {line}", err=True)
    say(f"{out}: {result}")
    if result.left_out:
        raise typer.Exit(2)

"""``maskseg export``: nuclei to the forms that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.formats.registry import describe, exported


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|LABELS",
            help="Nuclei in any format that is read: data set folder, DIR:PART, folder of label images ...",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"Format to write: {describe(exported())}.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images; those of the source where not given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core where not given.")] = None,
) -> None:
    """Write nuclei in another format.

    labels: images/, masks/ID.tif. folders: ID/images/, ID/masks/0001.png. coco: images/, annotations.json. Others: a
    file for each image or one for all, without the images. Nuclei that overlap share no pixel in a label image: the
    higher score keeps it, of equal scores the smaller nucleus.

    \b
    Examples:
      maskseg export data/dsb2018 -o stardist/ --to labels
      maskseg export data/dsb2018:dev -o qupath/ --to geojson
      maskseg export out/ -o imagescope/ --to xml
    """
    from maskseg.cli.convert import print_summary
    from maskseg.convert.export import export as write
    from maskseg.core.threads import available_cores

    print_summary(out, write(source, out, to, images, workers or available_cores()))

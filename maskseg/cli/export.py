"""``maskseg export``: nuclei to the forms that other programs read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """Forms that `maskseg convert` reads, too."""

    labels = "labels"
    folders = "folders"
    coco = "coco"
    xml = "xml"
    geojson = "geojson"


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|LABELS", help="Data set folder, DIR:PART, COCO JSON, or folder of label images."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.")],
    to: Annotated[Form, typer.Option(help="Form to write.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images; images/ in the source where not given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core where not given.")] = None,
) -> None:
    """Write nuclei as label images, mask folders, COCO, Aperio XML or GeoJSON.

    labels: images/, masks/ID.tif. folders: ID/images/, ID/masks/0001.png. coco: images/, annotations.json. xml and
    geojson: a file for each image, without the image. Nuclei that overlap share no pixel in a label image: the higher
    score keeps it, of equal scores the smaller nucleus.

    \b
    Examples:
      maskseg export data/dsb2018 -o stardist/ --to labels
      maskseg export data/dsb2018:dev -o qupath/ --to geojson
      maskseg export out/ -o imagescope/ --to xml
    """
    from maskseg.cli.convert import report
    from maskseg.convert.export import export as write
    from maskseg.core.processes import available_cores

    report(out, write(source, out, to.value, images, workers or available_cores()))

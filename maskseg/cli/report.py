"""``maskseg report``: pages about a data set and about a prediction run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.report_run import report_run

app = typer.Typer(help="Write one HTML page about a data set or a prediction run.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Write one HTML page about a data set or a prediction run."""


app.command("run")(report_run)


@app.command("data")
def data(
    dataset: Annotated[str, typer.Argument(metavar="DATASET[:PART]", help="A converted data set, or a part of it.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.html", help="The page.")],
    config_file: Annotated[
        str, typer.Option("--config-file", metavar="NAME", help="Whose input size and anchors are looked at.")
    ] = "nuclei_R_18_FPN",
) -> None:
    """Show what is in a data set: sizes, modalities, nuclei, how the anchors cover them, and sample pictures.

    \b
    Examples:
      maskseg report data data/mine -o data.html
      maskseg report data data/dsb2018:train -o train.html --config-file nuclei_R_101_FPN
    """
    from maskseg.curate.statistics import Anchors
    from maskseg.data.dataset import dataset_dicts
    from maskseg.imaging.scaling import input_scale
    from maskseg.models.config import load_config
    from maskseg.reports.data_page import Setting, data_page

    records = dataset_dicts(dataset)
    cfg = load_config(config_file)
    levels = cfg.MODEL.RPN.IN_FEATURES
    sizes, ratios = cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
    anchors = Anchors(
        # One list may stand for all levels.
        list(sizes) * (len(levels) if len(sizes) == 1 else 1),
        list(ratios) * (len(levels) if len(ratios) == 1 else 1),
        # res4 and p4 have a stride of 2 to the 4.
        [2 ** int(name[-1]) for name in levels],
        cfg.MODEL.ANCHOR_GENERATOR.OFFSET,
    )
    long_side, shrink = cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK
    scales = [input_scale((record["height"], record["width"]), long_side, shrink) for record in records]
    page = data_page(dataset, records, Setting(config_file, anchors, scales))
    page.write(out)
    typer.echo(f"{out}: {len(records)} images, {sum(len(record['annotations']) for record in records)} nuclei")

"""``maskseg report``: pages about a data set and about a prediction run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.report_run import report_run
from maskseg.cli.say import say

app = typer.Typer(help="Write one HTML page about a data set or a prediction run.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Write one HTML page about a data set or a prediction run."""


app.command("run")(report_run)


@app.command("data")
def data(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET[:PART]",
            help="A converted data set or a part of it, images without annotations (folder, zip file, glob), or a "
            "folder with train.csv and train/ of protein localisation.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.html", help="The page.")],
    config_file: Annotated[
        str,
        typer.Option(
            "--config-file", metavar="NAME", help="Whose input size and anchors are looked at, where there are nuclei."
        ),
    ] = "nuclei_R_18_FPN",
    channel: Annotated[
        str | None,
        typer.Option(metavar="NAME|N", help="Of images without annotations: the channel, by name or number from 0."),
    ] = None,
    plane: Annotated[
        str | None, typer.Option(help="Of images without annotations that are stacks: z=max, z=N, t likewise; image=N.")
    ] = None,
) -> None:
    """Show what is in a data set: sizes, modalities, nuclei, how the anchors cover them, and sample pictures.

    Of images without annotations: sizes, kinds of files, brightness and sample pictures. Of protein localisation:
    classes, which come together, and sample pictures of each class.

    Exit status: 0; 1 if some images cannot be read (they are named, and listed on the page); 2 bad input.

    \b
    Examples:
      maskseg report data data/mine -o data.html
      maskseg report data data/dsb2018:train -o train.html --config-file nuclei_R_101_FPN
      maskseg report data plate/ -o plate.html --channel DAPI
      maskseg report data data/hpa -o hpa.html
    """
    from maskseg.core.errors import InputError
    from maskseg.core.files import check_output
    from maskseg.data.dataset import folder_and_part, is_dataset
    from maskseg.projects.protein.page import is_protein_set

    check_output(out, (".html",))
    folder, part = folder_and_part(dataset)
    where = Path(folder)
    chosen = channel is not None or plane is not None
    if is_dataset(where) or where.suffix.lower() in (".json", ".gz") or (part and not is_protein_set(where)):
        if chosen:
            raise InputError(f"{dataset}: has its images read already; leave out --channel and --plane")
        said = _labelled(dataset, out, config_file)
    elif is_protein_set(where):
        if chosen:
            raise InputError(f"{dataset}: every channel is shown; leave out --channel and --plane")
        said = _proteins(dataset, folder, out)
    else:
        said = _unlabelled(dataset, out, channel, plane)
    say(f"{out}: {said}")


def _labelled(dataset: str, out: Path, config_file: str) -> str:
    """Write the page of images with nuclei; what is in them."""
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
    return f"{len(records)} images, {sum(len(record['annotations']) for record in records)} nuclei"


def _proteins(dataset: str, folder: str, out: Path) -> str:
    from maskseg.projects.protein.data import protein_dicts, read_targets
    from maskseg.projects.protein.page import protein_page

    records, targets = protein_dicts([dataset]), read_targets(Path(folder) / "train.csv")
    protein_page(dataset, records, targets).write(out)
    return f"{len(records)} images of {len(targets)} in the table"


def _unlabelled(images: str, out: Path, channel: str | None, plane: str | None) -> str:
    from maskseg.core.errors import InputError
    from maskseg.core.threads import available_cores
    from maskseg.curate.image_statistics import measure_images
    from maskseg.imaging.channels import Choice
    from maskseg.imaging.finding import LeftFiles, find_images
    from maskseg.reports.images_page import images_page

    left = LeftFiles()
    files = find_images([images], Choice.parse(channel, plane), left=left)
    looks = measure_images(files, available_cores())
    images_page(images, files, looks).write(out)
    if str(left):
        say(str(left), err=True)
    failed = [str(look) for look in looks if isinstance(look, InputError)]
    for line in failed:
        say(line, err=True)
    said = f"{len(files) - len(failed)} images, without annotations"
    if failed:
        say(f"{out}: {said}; {len(failed)} not read")
        raise typer.Exit(1)
    return said

"""``maskseg predict``: images in, results in every format out."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from maskseg.formats.registry import default_formats, describe, predicted


class Cluster(StrEnum):
    """What shares the work among processes and machines."""

    ray = "ray"


class Views(StrEnum):
    """Test-time augmentation."""

    none = "none"
    flip = "flip"
    d4 = "d4"


def predict(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, DSB image folders, zip files.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    model: Annotated[str, typer.Option(help="Training folder, weight file or bundled name.")] = "nuclei",
    formats: Annotated[
        str,
        typer.Option(
            help="What to write, comma separated: "
            f"{describe(predicted(), lambda form: f'{form.written}: {form.about}')}.",
        ),
    ] = ",".join(default_formats()),
    tta: Annotated[
        Views | None,
        typer.Option(
            help="Views to merge: the mirror image too (flip), or all eight turns and mirror images (d4: four times as "
            "slow, a little better); the model's own choice where not given."
        ),
    ] = None,
    diameter: Annotated[
        float | None,
        typer.Option(help="Median diameter of the nuclei in pixels, if known: images are magnified to fit the model."),
    ] = None,
    microns_per_pixel: Annotated[
        float | None, typer.Option(help="Side of a pixel in micrometres: the table of nuclei has them too.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of the tiles in which large images are predicted, in network pixels.")
    ] = None,
    tile_overlap: Annotated[
        int | None, typer.Option(help="What is seen around a tile: more than the largest nucleus.")
    ] = None,
    level: Annotated[int, typer.Option(help="Level of slides and pyramids; 0 is the full size.")] = 0,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel in which slides are read, in place of a level.")
    ] = None,
    cluster: Annotated[
        Cluster | None,
        typer.Option(help="Share the images among the processes of a Ray cluster: RAY_ADDRESS, or this machine."),
    ] = None,
) -> None:
    """Find and outline every nucleus.

    Writes the files that --formats names. An interrupted run goes on where it was when the same command is given
    again; unreadable images are named at the end.

    Images larger than 4 megapixels are predicted in tiles, with the result of the whole image and in memory that
    follows the tile: tiled TIFF and BigTIFF, OME-TIFF, OME-Zarr and slides (svs, ndpi, mrxs ...) are read in parts.

    \b
    Examples:
      maskseg predict images/ -o out/
      maskseg predict stage1_test.zip -o out/ --model runs/nuclei_R_18_FPN --formats rle
      maskseg predict images/ -o out/ --tta d4 --diameter 12
      maskseg predict slides/*.tif -o out/ --formats geojson,table --microns-per-pixel 0.25
      maskseg predict slide.svs -o out/ --formats geojson,labels --mpp 0.5
      RAY_ADDRESS=head:6379 maskseg predict /shared/images -o /shared/out --cluster ray
    """
    import hashlib

    from maskseg.core.errors import InputError
    from maskseg.imaging.reading import find_images
    from maskseg.inference.predictor import Predictor
    from maskseg.inference.run import Tiles
    from maskseg.models import tasks
    from maskseg.models.zoo import find_model

    chosen = list(dict.fromkeys(item.strip() for item in formats.split(",") if item.strip()))
    if not chosen or set(chosen) - set(predicted()):
        raise InputError(f"--formats {formats}: choose from {', '.join(predicted())}")
    if microns_per_pixel is not None and not 0 < microns_per_pixel < math.inf:
        raise InputError(f"--microns-per-pixel {microns_per_pixel}: give a size above 0, such as 0.25")
    if level < 0 or (mpp is not None and not 0 < mpp < math.inf) or (level and mpp):
        raise InputError("--level counts from 0, --mpp is a size above 0 such as 0.5; give one of them")
    given = {"side": tile, "overlap": tile_overlap}
    tiles = Tiles(level=level, mpp=mpp, **{name: value for name, value in given.items() if value is not None})
    files = find_images(inputs)
    # Beyond these it is a mistake, such as a size in micrometres.
    if diameter is not None and not 1 <= diameter <= 10_000:
        raise InputError(f"--diameter {diameter}: give the diameter of a nucleus in pixels of the image, such as 25")
    found = find_model(model, [] if diameter is None else ["POSTPROCESS.DIAMETER", str(float(diameter))])
    if diameter is not None and not found.cfg.INPUT.NUCLEUS_DIAMETER:
        raise InputError(
            f"--diameter {diameter}: the model {model} does not say how large the nuclei were that it was trained on; "
            "leave it out"
        )
    predictor = Predictor.from_weights(found.cfg, found.weights)
    with found.weights.open("rb") as file:
        # A training that went on under the same name is another model.
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    failed = tasks.part(found.cfg, "predict")(
        predictor,
        files,
        out,
        chosen,
        None if tta is None else tta.value,
        {"weights": weights, "config": found.cfg.dump()},
        microns_per_pixel,
        tiles,
        cluster is not None,
    )
    typer.echo(f"{len(files) - len(failed)} of {len(files)} images done: {out}")
    for image_id, reason in failed:
        typer.echo(f"left out {image_id}: {reason}", err=True)
    if failed:
        raise typer.Exit(2)

"""``maskseg predict``: images in, results in every format out."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskseg.cli.options import Channel, Plane
from maskseg.cli.say import say
from maskseg.formats.registry import default_formats, describe, predicted
from maskseg.formats.registry import formats as formats_by_name

if TYPE_CHECKING:
    from maskseg.formats.measures import Measures


class Cluster(StrEnum):
    """What shares the work among processes and machines."""

    ray = "ray"


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


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
        str | None,
        typer.Option(
            help="What to write, comma separated: "
            f"{describe(predicted(), lambda form: f'{form.written}: {form.about}')}. "
            f"Where nothing is given: {','.join(default_formats())}, or what the model can give.",
        ),
    ] = None,
    tta: Annotated[
        Views | None,
        typer.Option(
            help="Views to merge: the mirror image too (flip), or all eight turns and mirror images (d4: four times as "
            "slow, a little better); the model's own choice where not given."
        ),
    ] = None,
    diameter: Annotated[
        str | None,
        typer.Option(
            metavar="N|Num",
            help="Median diameter of the nuclei in pixels (12) or micrometres (8um), if known: images are magnified to "
            "fit the model.",
        ),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="auto|off|LOW,HIGH",
            help="Brightness: by what stands out in each image (auto), as it is in the file (off), or so that two "
            "values of the file become black and white; the model's own choice where not given.",
        ),
    ] = None,
    microns_per_pixel: Annotated[
        float | None,
        typer.Option(help="Side of a pixel in micrometres, in place of what the image says, if it says it."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of the tiles in which large images are predicted, in network pixels.")
    ] = None,
    tile_overlap: Annotated[
        int | None, typer.Option(help="What is seen around a tile: more than the largest nucleus.")
    ] = None,
    level: Annotated[int, typer.Option(help="Level of slides and pyramids; 0 is the full size.")] = 0,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel in which images are read, in place of a level.")
    ] = None,
    channel: Channel = None,
    plane: Plane = None,
    device: Annotated[
        Device, typer.Option(help="auto takes a CUDA GPU where there is one; mps is the GPU of a Mac.")
    ] = Device.auto,
    expand: Annotated[
        str | None,
        typer.Option(
            metavar="N|Num",
            help="Grow nuclei to cells by so many pixels (5) or micrometres (2.5um), without overlap: the table of "
            "nuclei then measures the ring around each nucleus and the cell too, and counts its neighbours.",
        ),
    ] = None,
    texture: Annotated[
        bool, typer.Option("--texture", help="Measure the texture of nuclei in each channel, for the table of nuclei.")
    ] = False,
    cluster: Annotated[
        Cluster | None,
        typer.Option(help="Share the images among the processes of a Ray cluster: RAY_ADDRESS, or this machine."),
    ] = None,
) -> None:
    """Find and outline every nucleus.

    Writes the files that --formats names. An interrupted run goes on where it was when the same command is given
    again; unreadable images and inputs are named at the end. The exit status is 0 where all images are done, 1 where
    some are left out, and 2 where none is done.

    Of an image with several channels or planes --channel and --plane say which; without them it must have one channel
    that holds anything, or be in colour. One stain in one colour on black is read as grey.

    Images larger than 4 megapixels are predicted in tiles, with the result of the whole image and in memory that
    follows the tile: tiled TIFF and BigTIFF, OME-TIFF, OME-Zarr and slides (svs, ndpi, mrxs ...) are read in parts.

    \b
    Examples:
      maskseg predict images/ -o out/
      maskseg predict stage1_test.zip -o out/ --model runs/nuclei_R_18_FPN --formats rle
      maskseg predict images/ -o out/ --tta d4 --diameter 12
      maskseg predict plate/ -o out/ --diameter 8um
      maskseg predict plate/ -o out/ --normalize 100,4000
      maskseg predict slides/*.tif -o out/ --formats geojson,table --microns-per-pixel 0.25
      maskseg predict slide.svs -o out/ --formats geojson,labels --mpp 0.5
      maskseg predict stack.ome.tif -o out/ --channel DAPI --plane z=max
      maskseg predict plate/ -o out/ --channel DAPI --expand 2um --formats table,labels,anndata
      RAY_ADDRESS=head:6379 maskseg predict /shared/images -o /shared/out --cluster ray
    """
    import hashlib

    from maskseg.core.errors import InputError
    from maskseg.imaging.channels import Choice
    from maskseg.imaging.finding import LeftFiles, find_images
    from maskseg.inference.api import build_predictor
    from maskseg.inference.memory import keep_freed_memory
    from maskseg.inference.predictor import refuse_formats, refuse_options
    from maskseg.inference.tile_grid import Tiles
    from maskseg.models import tasks
    from maskseg.models.devices import describe_device, on_device
    from maskseg.models.zoo import find_model

    chosen = None if formats is None else _chosen(formats)
    measures = _measures(expand, texture, chosen)
    _check_pixels(microns_per_pixel, level, mpp)
    if cluster and device != Device.auto:
        raise InputError(f"--device {device}: each machine of a cluster takes its GPU, or its CPU; leave it out")
    overrides = _overrides(diameter, normalize)
    left, bad = LeftFiles(), list[str]()
    files = find_images(inputs, Choice.parse(channel, plane), out, left, bad)
    if str(left):
        say(str(left), err=True)
    source = find_model(model, overrides)
    kind = tasks.part(source.cfg, "predictor")
    views = None if tta is None else tta.value
    shared = None if cluster is None else cluster.value
    cut = {"tile": tile, "tile-overlap": tile_overlap, "level": level or None, "mpp": mpp}
    seen = {"tta": views, "diameter": diameter, "normalize": normalize, "microns-per-pixel": microns_per_pixel}
    more = {"expand": expand, "texture": texture or None}
    refuse_options(kind, {**seen, **cut, **more, "cluster": shared}, model)
    refuse_formats(kind, chosen or (), model)
    _check_diameter(diameter, source.cfg.INPUT.NUCLEUS_DIAMETER, model)
    # Not among the settings that an interrupted run must share: it may go on elsewhere.
    cfg = on_device(source.cfg, device.value)
    if cluster is None:
        say(describe_device(cfg.MODEL.DEVICE))
    sizes = {key: size for key, size in (("side", tile), ("overlap", tile_overlap)) if size is not None}
    tiles = Tiles(level=level, mpp=mpp, **sizes) if sizes or level or mpp is not None else None
    with source.weights.open("rb") as file:
        # A training that went on under the same name is another model.
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    keep_freed_memory()
    failed = tasks.part(source.cfg, "predict")(
        build_predictor(cfg, source.weights),
        files,
        out,
        chosen or kind.formats or default_formats(),
        views,
        {"weights": weights, "config": source.cfg.dump()},
        microns_per_pixel,
        tiles,
        cluster is not None,
        measures,
    )
    say(f"{len(files) - len(failed)} of {len(files)} images done: {out}")
    for line in (*(f"{image_id}: {reason}" for image_id, reason in failed), *bad):
        say(f"left out {line}", err=True)
    if failed or bad:
        raise typer.Exit(1 if len(failed) < len(files) else 2)


def _chosen(formats: str) -> list[str]:
    """The names in --formats."""
    from maskseg.core.errors import InputError

    chosen = list(dict.fromkeys(filter(None, map(str.strip, formats.split(",")))))
    if not chosen or set(chosen) - set(predicted()):
        raise InputError(f"--formats {formats}: choose from {', '.join(predicted())}")
    return chosen


def _measures(expand: str | None, texture: bool, chosen: list[str] | None) -> Measures:
    """What --expand and --texture say; they are for tables."""
    from maskseg.core.errors import InputError
    from maskseg.formats.measures import Measures

    measures = Measures.parse(expand, texture)
    able = [name for name in predicted() if formats_by_name()[name].record == "nuclei"]
    if measures and chosen is not None and not set(chosen) & set(able):
        option = "--texture" if expand is None else f"--expand {expand}"
        raise InputError(f"{option}: is measured for a table of nuclei; add one of {', '.join(able)} to --formats")
    return measures


def _check_pixels(microns_per_pixel: float | None, level: int, mpp: float | None) -> None:
    """Refuse sizes of pixels and levels that no image has."""
    from maskseg.core.errors import InputError

    if microns_per_pixel is not None and not 0 < microns_per_pixel < math.inf:
        raise InputError(f"--microns-per-pixel {microns_per_pixel}: give a size above 0, such as 0.25")
    if level < 0 or (mpp is not None and not 0 < mpp < math.inf) or (level and mpp):
        raise InputError("--level counts from 0, --mpp is a size above 0 such as 0.5; give one of them")


def _check_diameter(diameter: str | None, trained_on: float, model: str) -> None:
    """Refuse a diameter for a model that does not know the one of its own nuclei."""
    from maskseg.core.errors import InputError

    if diameter is not None and not trained_on:
        raise InputError(
            f"--diameter {diameter}: the model {model} does not say how large the nuclei were that it was trained on; "
            "leave it out"
        )


def _overrides(diameter: str | None, normalize: str | None) -> list[str]:
    """What --diameter and --normalize change in the config of the model."""
    from maskseg.core.errors import InputError
    from maskseg.core.lengths import length
    from maskseg.imaging.exposure import fixed_limits

    overrides = []
    if diameter is not None:
        number, microns = length(diameter) or (0.0, False)
        # Beyond these it is a mistake, such as a size in micrometres without its unit.
        if not (0.1 if microns else 1) <= number <= (1000 if microns else 10_000):
            raise InputError(
                f"--diameter {diameter}: give the diameter of a nucleus in pixels of the image, such as 25, or in "
                "micrometres, such as 8um"
            )
        overrides = ["POSTPROCESS.DIAMETER_MICRONS" if microns else "POSTPROCESS.DIAMETER", str(number)]
        # The model may have been tuned to the other one.
        overrides += ["POSTPROCESS.DIAMETER" if microns else "POSTPROCESS.DIAMETER_MICRONS", "0.0"]
    if normalize is not None:
        try:
            fixed_limits(normalize)
        except InputError as error:
            raise InputError(f"--{error}") from None
        overrides += ["INPUT.NORMALIZE", normalize]
    return overrides

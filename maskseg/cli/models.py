"""``maskseg models``: the models at hand, those that a user adds, and one file out of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.say import say

app = typer.Typer(help="List, add and describe models; export a training as one file.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the models that come with the package, and those that were added.

    \b
    Examples:
      maskseg models list
    """
    import math

    from safetensors import safe_open

    from maskseg.core.errors import InputError
    from maskseg.models.library import added, checked
    from maskseg.models.zoo import bundled, card

    for name, path in {**added(), **bundled()}.items():
        if name not in bundled():
            try:
                checked(name)
            except InputError as error:
                say(f"{name:16s} {error}")
                continue
        with safe_open(path, "np") as file:
            values = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
        say(f"{name:16s} {values / 1e6:6.1f} M parameters {path.stat().st_size / 1e6:8.1f} MB  {path}")
        about = card().get(name, {})
        scores = ", ".join(f"{part} {score:.3f}" for part, score in about.get("dsb_score", {}).items())
        if name not in bundled():
            say(f"{'':16s} added; its checksum is right")
            continue
        say(f"{'':16s} licence {about.get('licence', 'unknown')}; mean IoU (DSB score): {scores or 'unknown'}")
    if not bundled() and not added():
        say("none; name a training folder or an exported file with --model")


@app.command("add")
def add_model(
    source: Annotated[str, typer.Argument(metavar="FILE-or-URL", help="A .safetensors file of models export.")],
    name: Annotated[str | None, typer.Option(help="What it is to be called, in place of the name of the file.")] = None,
    sha256: Annotated[str | None, typer.Option(help="What its checksum must be, as it was published.")] = None,
) -> None:
    """Keep a model under a name for --model, with its checksum, in the user's own folder.

    Only .safetensors files are taken, which hold numbers and a config and no code. The folder is MASKSEG_MODELS, or
    maskseg/models in the folder of the user's data; no other command uses the network.

    \b
    Examples:
      maskseg models add mine.safetensors
      maskseg models add https://example.org/tissue.safetensors --name tissue --sha256 3f1a...
      maskseg predict images/ -o out/ --model mine
    """
    from maskseg.models.library import added
    from maskseg.models.zoo import add

    kept = add(source, name, sha256)
    say(f"{kept}: {added()[kept]}")


@app.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a model that was added.")],
) -> None:
    """Delete a model that was added.

    \b
    Examples:
      maskseg models remove mine
    """
    from maskseg.models import library

    library.remove(name)


@app.command("card")
def show_card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, training folder or file.")] = "nuclei",
) -> None:
    """Say what a model was made from, what it is good at, and what it is bad at.

    \b
    Examples:
      maskseg models card
      maskseg models card runs/mine
    """
    from maskseg.models.zoo import card_text

    say(card_text(model))


@app.command("export")
def export_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Training folder or checkpoint.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .safetensors file, or .zip for bioimage.io.")],
    opts: Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help="Config keys to change.")] = None,
) -> None:
    """Write a model as one file: half-precision weights with their config, no pickled code.

    A .zip is a package for the programs of bioimage.io: of a U-Net the network as TorchScript; of a Mask R-CNN, which
    their specification cannot express, what bioimageio.core runs where maskseg is installed.

    \b
    Examples:
      maskseg models export runs/nuclei_R_18_FPN -o nuclei.safetensors
      maskseg models export runs/unet -o unet.zip
      maskseg models export runs/mine -o mine.safetensors POSTPROCESS.MASK_THRESHOLD 0.5
    """
    from maskseg.core.files import check_output

    check_output(out, (".safetensors", ".zip"), (model,))
    if out.suffix == ".zip":
        from maskseg.inference.bioimageio import write_package

        write_package(model, out, opts)
    else:
        from maskseg.models.zoo import export

        export(model, out, opts)
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB")

"""``maskseg models``: the models at hand, and one file out of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List the bundled models; export a training as one file.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """List the models that come with the package.

    \b
    Examples:
      maskseg models list
    """
    import math

    from safetensors import safe_open

    from maskseg.models.zoo import bundled, card

    for name, path in bundled().items():
        with safe_open(path, "np") as file:
            values = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
        typer.echo(f"{name:16s} {values / 1e6:6.1f} M parameters {path.stat().st_size / 1e6:8.1f} MB  {path}")
        about = card().get(name, {})
        scores = ", ".join(f"{part} {score:.3f}" for part, score in about.get("dsb_score", {}).items())
        typer.echo(f"{'':16s} licence {about.get('licence', 'unknown')}; mean IoU (DSB score): {scores or 'unknown'}")
    if not bundled():
        typer.echo("none; name a training folder or an exported file with --model")


@app.command("export")
def export_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Training folder or checkpoint.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .safetensors file to write.")],
    opts: Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help="Config keys to change.")] = None,
) -> None:
    """Write a model as one file: half-precision weights with their config, no pickled code.

    \b
    Examples:
      maskseg models export runs/nuclei_R_18_FPN -o nuclei.safetensors
      maskseg models export runs/mine -o mine.safetensors POSTPROCESS.MASK_THRESHOLD 0.5
    """
    from maskseg.models.zoo import export

    export(model, out, opts)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")

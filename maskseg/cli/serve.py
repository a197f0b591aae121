"""``maskseg serve``: the page on which images are seen, corrected and learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.options import Channel, Plane


def serve(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGES]...", help="Files, folders, globs, zip files, slides.")
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for corrections, dropped images and trainings.")
    ] = Path("maskseg-serve"),
    model: Annotated[str, typer.Option(help="Training folder, weight file or bundled name.")] = "nuclei",
    channel: Channel = None,
    plane: Plane = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines get in only with one of this machine's own.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    upload_limit: Annotated[int, typer.Option(min=1, help="Largest file to drop on the page, in MB.")] = 1024,
) -> None:
    """See, correct and learn from images in the browser.

    Opens a page that shows the images, outlines their nuclei, and lets you add, delete, merge, split and paint them;
    from what you have corrected the model learns. Everything stays on this machine, works without the internet, and is
    in the folder of -o as soon as it is done: the same command goes on where you were. The API for scripts is
    documented at /api/docs of the page.

    \b
    Examples:
      maskseg serve images/
      maskseg serve slide.svs --model runs/mine
      maskseg serve stack.ome.tif --channel DAPI --plane z=max
      maskseg serve -o corrections/ --port 8765 --no-browser
      maskseg serve images/ --host 0.0.0.0 --port 8765
    """
    from maskseg.core.optional import need

    need("fastapi", "serve", "maskseg serve")
    need("uvicorn", "serve", "maskseg serve")
    from maskseg.imaging.channels import Choice
    from maskseg.serve.run import run

    choice = Choice.parse(channel, plane)
    run(images or [], out, model, host, port, browser, upload_limit << 20, choice)

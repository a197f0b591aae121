"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Channel = Annotated[
    str | None,
    typer.Option(metavar="NAME|N", help="The channel with the nuclei, by its name or its number from 0."),
]
Plane = Annotated[
    str | None,
    typer.Option(
        help="Of stacks and series: z=max, z=mean, z=N or z=all (each an image), t likewise: z=max,t=0. Of files of "
        "several images: image=N or image=all."
    ),
]

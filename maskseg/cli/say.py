"""What commands print."""

from __future__ import annotations

import typer

from maskseg.core.text import printable


def say(text: str, err: bool = False) -> None:
    """Print lines. What names hold beside text, such as escape sequences of terminals, is shown and not carried out."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err)

"""The entry point `maskseg`.

A command's module is imported only when the command is called or listed, so that `maskseg doctor` still runs,
and says what to do, in an environment in which another command cannot even be imported.
"""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import maskseg
from maskseg.cli.say import say
from maskseg.core.errors import InputError
from maskseg.core.text import printable
from maskseg.core.user import name_user

# Command -> "module:attribute", in the order of use; the attribute is a function, or a Typer app.
COMMANDS = {
    "convert": "maskseg.cli.convert:app",
    "export": "maskseg.cli.export:export",
    "check": "maskseg.cli.check:check",
    "split": "maskseg.cli.split:split",
    "pack": "maskseg.cli.pack:pack",
    "train": "maskseg.cli.train:train",
    "predict": "maskseg.cli.predict:predict",
    "serve": "maskseg.cli.serve:serve",
    "evaluate": "maskseg.cli.evaluate:evaluate",
    "compare": "maskseg.cli.compare:compare",
    "tune": "maskseg.cli.tune:tune",
    "submission": "maskseg.cli.submission:app",
    "models": "maskseg.cli.models:app",
    "report": "maskseg.cli.report:app",
    "doctor": "maskseg.cli.doctor:doctor",
}


def load_command(name: str, where: str) -> Any:
    """Import a command and make it known to Typer.

    Parameters
    ----------
    name : str
        The word on the command line.
    where : str
        ``"module:attribute"``, a function or a Typer app.

    Returns
    -------
    click.Command
        The command, or a group of them; Typer brings its own click, whence no type here.
    """
    module, attribute = where.split(":")
    target = getattr(importlib.import_module(module), attribute)
    # Without rich, brackets in a help text are brackets and not markup.
    if isinstance(target, typer.Typer):
        target.rich_markup_mode = None
        # Not get_command, which makes a group with one command into that command.
        command: Any = typer.main.get_group(target)
    else:
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(name)(target)
        command = typer.main.get_command(alone)
    command.name = name
    # The whole first sentence in the list of commands; click cuts it at 45 characters otherwise.
    command.short_help = (command.help or "").split("\n\n")[0]
    return command


class LazyCommands(TyperGroup):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands in their order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, or None."""
        return load_command(cmd_name, COMMANDS[cmd_name]) if cmd_name in COMMANDS else None


app = typer.Typer(
    cls=LazyCommands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    # Examples stay on one line where the terminal is wide enough.
    context_settings={"max_content_width": 110},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"maskseg {maskseg.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find every nucleus in a microscope image and draw its exact outline.

    Every command has examples: maskseg COMMAND --help
    """


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    # What Detectron2 0.6 calls; nobody who runs a command can do anything about it.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
    name_user()
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe that has not all letters gets escapes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="maskseg")
    except InputError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a bug, and its traceback is wanted.
        name = (error.name or "maskseg").partition(".")[0]
        if name == "maskseg":
            raise
        _fail(f"the Python package {name} is missing; run: maskseg doctor")


def _fail(message: str) -> None:
    # Escape sequences in names of files stay text.
    print("maskseg: error:", printable(" ".join(message.splitlines())), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()

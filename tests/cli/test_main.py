"""The command line as a whole: what is loaded, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

from maskseg.cli import main as cli
from maskseg.core.errors import InputError


def run(monkeypatch, *arguments: str) -> int:
    """Run `maskseg ARGUMENTS` in this process; returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["maskseg", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0


@pytest.fixture
def made_up(monkeypatch):
    """A command `made-up` that raises what the test puts into `raises`."""
    module = types.ModuleType("maskseg_made_up")

    def command(name: str) -> None:
        """Do what the test says.

        With [brackets] in the help.
        """
        raise module.raises

    module.command = command
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "made-up", "maskseg_made_up:command")
    return module


def test_bad_input_is_one_line_and_status_2(made_up, monkeypatch, capsys):
    made_up.raises = InputError("a.png: truncated;\nget it again")
    assert run(monkeypatch, "made-up", "x") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "maskseg: error: a.png: truncated; get it again\n"


def test_a_missing_package_leads_to_doctor(made_up, monkeypatch, capsys):
    made_up.raises = ModuleNotFoundError("No module named 'tifffile'", name="tifffile")
    assert run(monkeypatch, "made-up", "x") == 2
    assert capsys.readouterr().err == ("maskseg: error: the Python package tifffile is missing; run: maskseg doctor\n")


@pytest.mark.parametrize(
    "bug", [ModuleNotFoundError("No module named 'maskseg.x'", name="maskseg.x"), KeyError("x")], ids=repr
)
def test_a_bug_keeps_its_traceback(made_up, monkeypatch, bug):
    made_up.raises = bug
    monkeypatch.setattr(sys, "argv", ["maskseg", "made-up", "x"])
    with pytest.raises(type(bug)):
        cli.main()


@pytest.mark.parametrize("arguments", [["nosuch"], ["made-up"], ["made-up", "x", "--nosuch"]])
def test_wrong_usage_is_status_2(made_up, monkeypatch, capsys, arguments):
    assert run(monkeypatch, *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_prints_brackets_as_they_are(made_up, monkeypatch, capsys):
    assert run(monkeypatch, "made-up", "--help") == 0
    assert "With [brackets] in the help." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself_with_examples(name, monkeypatch, capsys):
    assert run(monkeypatch, name, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: maskseg {name}")
    if "Commands:" in out:
        subcommands = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()]
        for subcommand in subcommands:
            assert run(monkeypatch, name, subcommand, "--help") == 0
            assert f"maskseg {name} {subcommand}" in capsys.readouterr().out.partition("Example")[2]
    else:
        assert f"maskseg {name}" in out.partition("Example")[2]


def test_the_list_of_commands_has_whole_sentences(made_up, monkeypatch, capsys):
    made_up.command.__doc__ = "Do " + "something rather long to say " * 4 + "and stop."
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert made_up.command.__doc__ in shown


@pytest.mark.slow
def test_listing_the_commands_loads_no_network():
    """The whole help in a new process, without the seconds that torch takes to import."""
    code = (
        "import sys; from maskseg.cli.main import app; sys.argv = ['maskseg', '--help']\n"
        "try: app()\n"
        "finally: print([name for name in ('torch', 'detectron2', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    for name in cli.COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("maskseg pre", ["predict"]),
        ("maskseg predict --devi", ["--device"]),
        ("maskseg predict --device c", ["cpu", "cuda"]),
        ("maskseg convert mos", ["mosaics"]),
    ],
)
def test_the_shell_is_offered_commands_options_and_choices(tmp_path, typed, offered):
    words = str(len(typed.split()) - 1)
    environment = {**os.environ, "_MASKSEG_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": words}
    command = [sys.executable, "-m", "maskseg.cli.main"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == offered

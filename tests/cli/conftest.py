"""What the tests of the commands share."""

import pytest

from maskseg.cli import main as cli


@pytest.fixture
def maskseg(monkeypatch, capsys):
    """The command line: arguments to (status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["maskseg", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run

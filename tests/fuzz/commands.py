"""Commands in processes of their own, each within limits of time and memory: for files that may be attacks.

A process that has imported everything forks one for each command, so that what is measured is the work alone:
`python -m tests.fuzz.commands` answers each line of JSON, the words of a command, with a line of what became of it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Seconds of the processor after which a command is ended, and memory that it cannot have beyond this.
SECONDS, MEMORY = 10, 3 << 30


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, seconds of the processor, megabytes more than before, and what it said."""

    status: int
    seconds: float
    megabytes: float
    said: str


def run(words: list[str]) -> Ended:
    """`maskseg WORDS`, in a process that is forked from this one."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            _child(words, said.fileno())
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Ended(
        os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, (used.ru_maxrss - before) / 1024, text
    )


def _child(words: list[str], said: int) -> None:
    status = 99
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        from maskseg.cli import main

        sys.argv = ["maskseg", *words]
        try:
            main.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Commands:
    """The process that forks."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-m", "tests.fuzz.commands"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=environment
        )

    def run(self, *words: Any) -> Ended:
        """`maskseg WORDS`."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Answer each line."""
    import importlib

    for name in (
        "cli.convert", "cli.evaluate", "cli.check", "cli.split", "cli.pack", "cli.report", "cli.export",
        "cli.submission", "convert.annotated", "curate.check", "curate.repair", "curate.groups", "data.pack",
        "formats.built_in", "evaluation.sets", "imaging.slides", "reports.data_page", "models.config",
    ):  # fmt: skip
        importlib.import_module(f"maskseg.{name}")
    from PIL import Image

    from maskseg.cli import main as cli
    from maskseg.formats import registry

    registry.formats()
    Image.preinit()
    # What is only imported when a command is called.
    for words in (["convert", "auto", "nowhere", "-o", "out"], ["evaluate", "--truth", "nowhere", "--pred", "nowhere"]):
        sys.argv = ["maskseg", *words]
        with suppress(SystemExit), redirect_stderr(io.StringIO()):
            cli.main()
    for line in sys.stdin:
        print(json.dumps(vars(run(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()

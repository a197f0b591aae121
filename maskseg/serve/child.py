"""The server's side of `maskseg.serve.worker`: tasks to a child process, answers from it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from maskseg.core.errors import InputError


class Cancelled(Exception):
    """The child was ended while it worked."""


class Child:
    """A worker process, started with the first task and again after it was ended.

    One task at a time: a second one waits. `stop` may be called from any thread.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._busy = threading.Lock()
        self._stopped = False

    def run(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Do a task.

        Yields
        ------
        dict
            The answers but for the last one, as they come.

        Raises
        ------
        InputError
            The task could not be done; the reason in one line.
        Cancelled
            `stop` was called.
        """
        with self._busy:
            self._stopped = False
            process = self._start()
            assert process.stdin and process.stdout
            try:
                process.stdin.write(json.dumps(task) + "\n")
                process.stdin.flush()
            except OSError:
                pass  # it has ended, as the missing answer will say
            for line in process.stdout:
                answer = json.loads(line)
                if answer["event"] == "done":
                    return
                if answer["event"] == "error":
                    raise InputError(answer["reason"])
                yield answer
            process.wait()
            self._process = None
            if self._stopped:
                raise Cancelled
            raise InputError(
                f"the process of the network ended by itself (status {process.returncode}), perhaps for want of memory"
            )

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "maskseg.serve.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        return self._process

    def stop(self) -> None:
        """End the process, and with it the task at hand."""
        process = self._process
        if process is not None and process.poll() is None:
            self._stopped = True
            process.kill()

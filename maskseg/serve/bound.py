"""A maskseg command that ends with the server that started it: ``python -m maskseg.serve.bound train ...``.

Its standard input is a pipe from the server, which ends however the server does, also by ``kill -9``.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_server(pipe: int) -> None:
    while os.read(pipe, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(5)  # the page stays quick meanwhile
    # Not sys.stdin itself: its lock, held by a thread that waits, would be held for ever in a process forked from here.
    server = os.dup(sys.stdin.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    threading.Thread(target=_end_with_server, args=(server,), daemon=True).start()
    runpy.run_module("maskseg.cli.main", run_name="__main__", alter_sys=True)

"""A maskseg command that ends with the server that started it: ``python -m maskseg.serve.bound train ...``.

Its standard input is a pipe from the server, which ends however the server does, also by ``kill -9``.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_server() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(5)  # the page stays quick meanwhile
    threading.Thread(target=_end_with_server, daemon=True).start()
    runpy.run_module("maskseg.cli.main", run_name="__main__", alter_sys=True)

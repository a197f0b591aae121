"""A program that ends the processes of a Ray when its input ends, as it does with the process that it belongs to.

It is started by `maskseg.inference.ray_executor`, by its path, and imports nothing but what is quick to import. It
knows the processes by a variable that each has from the one that started it. Those that give themselves another title
("ray::...") may lose it; they have files open in the folder that is on the command line of the first ones, which is
looked for as soon as these are there: they end early.
"""

import contextlib
import os
import re
import select
import signal
import sys
import time
from pathlib import Path

# Seconds.
_MOST = 10


def marked(mark: bytes, folders: set[bytes]) -> list[int]:
    """Ids of the processes with a variable, ``NAME=VALUE``, or of its folders, to which more are added."""
    found, titled = [], []
    for process in Path("/proc").glob("[0-9]*"):
        # It has ended, or is somebody else's.
        with contextlib.suppress(OSError):
            words = process.joinpath("cmdline").read_bytes()
            if mark in process.joinpath("environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
                folders.update(re.findall(rb"(/[^\0=:]*/session_[^\0/]+)", words))
            elif words.startswith(b"ray::"):
                titled.append(process)
    for process in titled:
        with contextlib.suppress(OSError):
            files = [os.fsencode(file.readlink()) for file in process.joinpath("fd").iterdir()]
            if any(file.startswith(folder + b"/") for folder in folders for file in files):
                found.append(int(process.name))
    return found


def main() -> None:
    """Wait for the end of the input, and end them, until none is left: one that is to end can still start another.

    One that waits for a disk that has gone cannot be ended, and is given up after some seconds.
    """
    mark, quiet = os.fsencode(sys.argv[1]), 0
    folders = set[bytes]()
    while not folders and not select.select([sys.stdin], [], [], 0.1)[0]:
        marked(mark, folders)
    sys.stdin.read()
    until = time.monotonic() + _MOST
    while quiet < 2 and time.monotonic() < until:
        found = marked(mark, folders)
        for process in found:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(0.05)


if __name__ == "__main__":
    main()

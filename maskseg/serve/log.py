"""An append-only file of operations that survives a crash at any moment.

One operation a line: the CRC-32 of its JSON in eight hexadecimal digits, a space, the JSON. A line is on the disk
before `OperationLog.append` returns, so a process that is killed loses at most the operation that it was told of last.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

from maskseg.core.files import named_if_full

Operation = dict[str, Any]


class OperationLog:
    """Operations in a file, read once and then appended to.

    A last line that a crash or a full disk cut short was never confirmed to anybody and is removed. Where an earlier
    line is damaged, what stands before it is kept, the whole file is set aside as ``NAME.damaged``, and `notice` says
    so.

    Parameters
    ----------
    path : Path
        Made with its folder where it is missing.

    Attributes
    ----------
    operations : list of dict
        What the file held when it was opened.
    notice : str
        What was wrong with it, in words for the user; empty where nothing was.

    Raises
    ------
    InputError
        If the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice = ""
        with named_if_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.exists() else b""
            self.operations, sound = parse(data)
            if sound < len(data):
                self._cut(data, sound)
            new = not path.exists()
            # Unbuffered: what `append` writes is with the system when it returns.
            self._file = path.open("ab", buffering=0)
            if new:
                sync_folder(path.parent)
        self._size = sound

    def _cut(self, data: bytes, sound: int) -> None:
        if b"\n" in data[sound:-1]:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            shutil.copyfile(self.path, aside)
            self.notice = (
                f"{self.path}: damaged after {len(self.operations)} operations, which were kept; the file as it was "
                f"is {aside.name}"
            )
        else:
            self.notice = f"{self.path}: its last operation was cut short and is left out"
        os.truncate(self.path, sound)

    def append(self, operation: Operation) -> None:
        """Write an operation and wait until the disk has it.

        Raises
        ------
        InputError
            If the disk is full or gone; the file is then as it was before.
        """
        line = encode(operation)
        with named_if_full(self.path):
            try:
                written = 0
                while written < len(line):
                    written += self._file.write(line[written:])
                os.fsync(self._file.fileno())
            except OSError:
                os.truncate(self.path, self._size)
                raise
        self._size += len(line)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def encode(operation: Operation) -> bytes:
    """An operation as its line."""
    text = json.dumps(operation, separators=(",", ":"), allow_nan=False).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def parse(data: bytes) -> tuple[list[Operation], int]:
    """Operations of the sound lines at the beginning of a file, and how many bytes these are."""
    operations: list[Operation] = []
    place = 0
    while (end := data.find(b"\n", place)) >= 0:
        line = data[place:end]
        try:
            sound = len(line) > 9 and int(line[:8], 16) == zlib.crc32(line[9:])
            operation = json.loads(line[9:]) if sound else None
        except ValueError:
            operation = None
        if not isinstance(operation, dict):
            break
        operations.append(operation)
        place = end + 1
    return operations, place


def sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder, where the system offers it."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

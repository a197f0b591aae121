"""Decoded images of the training set in one file that all workers share, and later trainings where it is kept."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class ImageCache:
    """Images kept as they were first read, in a file that is mapped into the memory of every worker.

    What one has read the others have too, and the system keeps it in memory once, for as long as there is room. The
    file has no name, so that nothing is left of it however the training ends, or that of `path`. Images are taken in
    their order until the budget is spent and are never put out again: of images drawn at random, any share is as good
    as any other.

    Parameters
    ----------
    records : sequence of dict
        With ``height`` and ``width``, and ``channels`` where they are not 3.
    budget : int
        In bytes; an image takes H x W x C.
    read : function (record) -> uint8 array (H, W, C)
    path : Path, optional
        See `kept_file`: what an earlier training has read there is at hand at once.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        budget: int,
        read: Callable[[Mapping[str, Any]], NDArray[np.uint8]],
        path: Path | None = None,
    ) -> None:
        self.records = records
        self.read = read
        self.folder = path.parent if path else Path(tempfile.gettempdir())
        sizes = np.array([np.prod(_shape(record)) for record in records], np.int64)
        # One byte an image at the beginning of the file says that it is there.
        ends = len(records) + np.cumsum(sizes)
        self.starts = ends - sizes
        self.held = ends <= budget
        self.file: IO[bytes] | None = None
        self.map: NDArray[np.uint8] | None = None
        if self.held.any() and hasattr(os, "pwrite"):  # which Windows has not
            self.file = _opened(path) if path else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  kept open
            # A training with a greater budget may have made it longer.
            self.file.truncate(max(int(ends[self.held][-1]), os.fstat(self.file.fileno()).st_size))
            self._map()

    def _map(self) -> None:
        assert self.file is not None
        self.map = np.asarray(np.memmap(self.file, np.uint8, "r"))

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is started afresh: the open file goes with it."""
        if self.file is None:
            return self.__dict__
        from multiprocessing.reduction import DupFd  # which Windows has not

        return {**self.__dict__, "map": None, "file": DupFd(self.file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state["file"] is not None:
            self.file = os.fdopen(state["file"].detach(), "r+b", buffering=0)
            self._map()

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The image of a record, uint8 (H, W, C), not to be written to.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        record = self.records[index]
        if self.map is None or not self.held[index]:
            return self.read(record)
        shape = _shape(record)
        start = self.starts[index]
        if self.map[index]:
            return self.map[start : start + np.prod(shape)].reshape(shape)
        image = self.read(record)
        if image.shape == shape:
            self._keep(index, image)
        return image

    def _keep(self, index: int, image: NDArray[np.uint8]) -> None:
        try:
            # First the image, then the word that it is there. Two workers may do it at once: they write the same.
            for place, data in ((self.starts[index], image.tobytes()), (index, b"\1")):
                # Not seek and write: processes that were forked share one place in the file.
                while data:
                    done = os.pwrite(self.file.fileno(), data, place)  # type: ignore[union-attr]
                    place, data = place + done, data[done:]
        except OSError as error:
            logger.warning(
                "%s: no more images are kept there (%s); free space, or set TMPDIR or DATALOADER.CACHE_DIR",
                self.folder,
                error.strerror,
            )
            self.held[:] = False


def kept_file(folder: str, records: Sequence[Mapping[str, Any]], files: Sequence[Path], settings: str) -> Path | None:
    """Where images are kept for later trainings: in a folder, by a name that follows from all that they depend on.

    Parameters
    ----------
    folder : str
        "" is nowhere.
    records : sequence of dict
        As `ImageCache` takes them.
    files : sequence of Path
        That the images are read from; one that is written anew has another time.
    settings : str
        What else the reading depends on.
    """
    if not folder:
        return None
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    known = repr((stats, [_shape(record) for record in records], settings))
    return Path(folder) / f"{hashlib.sha256(known.encode()).hexdigest()[:16]}.images"


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.open("r+b", buffering=0)


def _shape(record: Mapping[str, Any]) -> tuple[int, int, int]:
    return record["height"], record["width"], record.get("channels", 3)

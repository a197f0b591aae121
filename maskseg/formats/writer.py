"""What a writer of nuclei is: opened for an image, given its nuclei in one call or many, closed.

See `maskseg.formats.registry` for how a format announces its writer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maskseg.core.masks import CropMasks
from maskseg.formats.classes import NUCLEUS
from maskseg.imaging.windows import Source


@dataclass(frozen=True)
class ImageInfo:
    """What a writer may know of the image whose nuclei it is given.

    Attributes
    ----------
    image_id : str
        Its file name without folder and ending.
    shape : (int, int)
        Height and width in pixels, of the masks too.
    file_name : str
        Of the image, without folders.
    source : Source or None
        Its pixels (``read``) and values (``values``) by box. None where only nuclei are written; a format that needs
        pixels says so in the registry.
    at_most : int or None
        The nuclei come in several calls, tile by tile, and this is how many there can be; they share no pixel. None
        where all nuclei come in one call; these may overlap.
    microns_per_pixel : float or None
        Side of a pixel.
    scale : float
        Pixels of the full size of a slide in one pixel of the masks.
    scored : bool
        The scores of the masks say something: they are predictions.
    seconds : function () -> float
        Time that reading and segmenting took up to now.
    fields : dict
        What else is known of the image, as in a COCO record.
    expand : float or None
        Pixels by which nuclei are grown to cells that are measured too; None: they are not.
    texture : bool
        The texture of nuclei is measured.
    class_names : tuple of str
        What the classes of the masks are called; a format that has classes writes them where there are several.
    """

    image_id: str
    shape: tuple[int, int]
    file_name: str = ""
    source: Source | None = None
    at_most: int | None = None
    microns_per_pixel: float | None = None
    scale: float = 1.0
    scored: bool = True
    seconds: Callable[[], float] = float
    fields: dict[str, Any] = field(default_factory=dict)
    expand: float | None = None
    texture: bool = False
    class_names: tuple[str, ...] = (NUCLEUS,)

    @property
    def classified(self) -> bool:
        """Whether there are several classes."""
        return len(self.class_names) > 1


class Writer:
    """Writes the nuclei of one image; subclass it, and overwrite what is needed.

    `write_all` calls `open`, then `add` once with all nuclei or tile by tile, then `close`; or, where anything goes
    wrong in between, `abandon`.

    Parameters
    ----------
    image : ImageInfo
    *paths : Path
        The files of the format that belong to this image alone; none for a format of one file for all images.

    Attributes
    ----------
    shared : int
        Pixels that overlapping nuclei could not all keep, known after `close`.
    left_out : list of str
        Why nuclei are not in the file, a line each, known after `close`.
    notes : list of str
        What else of them is lost in the format, known after `close`.
    """

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        self.image, self.paths = image, paths
        self.shared = 0
        self.left_out: list[str] = []
        self.notes: list[str] = []

    @property
    def path(self) -> Path:
        """The one file of the format."""
        (path,) = self.paths
        return path

    def open(self) -> None:
        """Begin the files, where that is done before the nuclei are known."""

    def add(self, masks: CropMasks, settled: int) -> None:
        """Take some nuclei.

        Parameters
        ----------
        masks : CropMasks
            In pixels of the whole image. They have the labels that follow those of the nuclei before: 1, 2, ...
        settled : int
            No nucleus that comes later has a pixel above this row.
        """
        raise NotImplementedError

    def close(self) -> Any:
        """Finish the files, which appear whole; what is returned goes into the file of all images.

        Returns
        -------
        object
            What JSON can hold; None where there is no such file.

        Raises
        ------
        InputError
            A file cannot be written.
        """

    def abandon(self) -> None:
        """Leave nothing behind: the image was interrupted or failed, perhaps before `open`."""


class WholeWriter(Writer):
    """A writer that needs all nuclei at once: overwrite `write` alone.

    Nuclei that come tile by tile are kept as run lengths until the end.
    """

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._masks: CropMasks | None = None
        self._rles: list[dict[str, Any]] = []
        self._scores: list[float] = []
        self._classes: list[int] = []

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        if self.image.at_most is None:
            self._masks = masks
        else:
            self._rles += masks.to_rle()
            self._scores += masks.scores.tolist()
            self._classes += masks.classes.tolist()

    def close(self) -> Any:
        """See `Writer`."""
        masks = self._masks
        if masks is None:
            scores = np.array(self._scores, np.float32)
            masks = CropMasks.from_rle(self._rles, self.image.shape, scores, self._classes)
        return self.write(masks)

    def write(self, masks: CropMasks) -> Any:
        """Write all nuclei of the image, or return what goes into the file of all images; see `Writer.close`."""
        raise NotImplementedError


class StreamWriter(Writer):
    """A writer whose file is begun before the nuclei are known: overwrite `stream` alone."""

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._stack = ExitStack()

    def stream(self) -> AbstractContextManager[Callable[[CropMasks, int], None]]:
        """A context manager that writes the file, and yields what `add` calls."""
        raise NotImplementedError

    def open(self) -> None:
        """See `Writer`."""
        self._take = self._stack.enter_context(self.stream())

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        try:
            self._take(masks, settled)
        except BaseException:
            # As if the error had come up inside the context, which may have better words for it.
            self._stack.__exit__(*sys.exc_info())
            raise

    def close(self) -> None:
        """See `Writer`."""
        self._stack.close()

    def abandon(self) -> None:
        """See `Writer`."""
        self._stack.__exit__(_Abandoned, _Abandoned(), None)


class _Abandoned(Exception):
    """What `StreamWriter.stream` meets in place of its end."""


class Joined(NamedTuple):
    """An image for the file of all images: what `Writer.close` returned, or why the image was left out."""

    image_id: str
    file_name: str
    record: Any = None
    reason: str = ""


def write_all(writers: Sequence[Writer], nuclei: Iterable[tuple[CropMasks, int]]) -> list[Any]:
    """Give the writers of one image its nuclei and close them; if one fails, no other leaves half a file.

    Parameters
    ----------
    writers : sequence of Writer
    nuclei : iterable of (CropMasks, int)
        What `Writer.add` takes, call by call.

    Returns
    -------
    list
        What each `Writer.close` returned.
    """
    todo = list(writers)
    try:
        for writer in todo:
            writer.open()
        for masks, settled in nuclei:
            for writer in todo:
                writer.add(masks, settled)
        records = []
        while todo:
            records.append(todo[0].close())
            todo.pop(0)
        return records
    except BaseException:
        for writer in todo:
            writer.abandon()
        raise

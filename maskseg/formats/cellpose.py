"""Cellpose's ``STEM_seg.npy``, which its window opens with the image beside it: for corrections there.

`maskseg.formats.labels_reader` reads it back, without calling anything that a file names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.formats.labels import label_dtype
from maskseg.formats.sources import files_of
from maskseg.formats.writer import WholeWriter


def recognises(source: Path) -> bool:
    """Whether a folder or zip file holds files that Cellpose's window wrote."""
    try:
        return source.suffix.lower() != ".npy" and bool(files_of(source, "_seg.npy"))
    except InputError:
        return False


class CellposeWriter(WholeWriter):
    """A ``_seg.npy`` of each image, with what Cellpose's window asks for."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`."""
        given = masks.to_labels()
        numbers = np.unique(given)
        shown = np.bincount(given.ravel(), minlength=len(masks) + 1)[1:]
        self.shared = int(masks.areas.sum() - shown.sum())
        self.left_out += ["wholly covered by others"] * int(np.count_nonzero(shown == 0))
        # Cellpose numbers without gaps.
        order = np.searchsorted(numbers, given) + int(numbers[0] != 0)
        count = int(order.max(initial=0))
        labels = order.astype(label_dtype(count))
        saved = {
            "masks": labels,
            "outlines": _edges(labels),
            "colors": np.random.default_rng(0).integers(60, 255, (count, 3), np.uint8),
            "filename": self.image.file_name,
            "flows": [[], [], [], [], []],
            "chan_choose": [0, 0],
            "ismanual": np.zeros(count, bool),
            "est_diam": float(np.median(2 * np.sqrt(masks.areas / np.pi))) if len(masks) else 0.0,
        }
        with write_whole(self.path) as file:
            np.save(file, np.array(saved, dtype=object), allow_pickle=True)


def _edges(labels: np.ndarray) -> np.ndarray:
    """The labels at the edges of nuclei, 0 elsewhere."""
    padded = np.pad(labels, 1)
    same = [padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x] for y, x in _BESIDE]
    inside = np.logical_and.reduce([other == labels for other in same])
    return np.where(inside, 0, labels)


_BESIDE = ((0, 1), (1, 0), (0, -1), (-1, 0))

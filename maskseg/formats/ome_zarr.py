"""Label images as OME-Zarr: read chunk by chunk, in sizes from the full one to one that fits a screen.

Format: OME-NGFF 0.4, https://ngff.openmicroscopy.org/0.4/, labels and multiscales.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.files import being_written, named_if_full, sync_folder, sync_tree
from maskseg.core.masks import CropMasks
from maskseg.core.optional import need
from maskseg.formats.labels import LabelBands, label_dtype
from maskseg.formats.writer import StreamWriter

# Height and width of a chunk; a power of two, so that rows of all sizes begin with rows of the full one.
_CHUNK = (256, 1024)
# Longer side that needs no smaller size.
_SMALL = 2048


@contextmanager
def zarr_labels(
    path: str | os.PathLike[str], shape: tuple[int, int], dtype: np.dtype, microns_per_pixel: float | None = None
) -> Iterator[Callable[[NDArray[np.integer]], None]]:
    """Write a label image as OME-Zarr, whole or not at all, some rows at a time.

    A smaller size has every second pixel of the one before, since labels cannot be averaged.

    Parameters
    ----------
    path : path-like
        The folder; one that is there is replaced.
    shape : (int, int)
        Height and width.
    dtype : integer dtype
    microns_per_pixel : float, optional
        Side of a pixel in micrometres.

    Yields
    ------
    function
        Takes the next rows, integer array (256, W), of the last ones those that are left.

    Raises
    ------
    InputError
        zarr is not installed, or the folder cannot be written.
    """
    zarr = need("zarr", "slides", "--formats zarr")
    path = Path(path)
    steps = [1]
    while max(shape) > _SMALL * steps[-1] and steps[-1] < _CHUNK[0]:
        steps.append(2 * steps[-1])
    temporary: str | None = None
    try:
        with named_if_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = tempfile.mkdtemp(prefix=being_written(path), dir=path.parent)
            group = zarr.open_group(temporary, mode="w", zarr_format=2)
            group.attrs.update(_attributes(path.stem, steps, microns_per_pixel))
            arrays = [
                group.create_array(
                    str(level),
                    shape=[-(-length // step) for length in shape],
                    chunks=_CHUNK,
                    dtype=dtype,
                    fill_value=0,
                    chunk_key_encoding={"name": "v2", "separator": "/"},
                )
                for level, step in enumerate(steps)
            ]
            top = 0

            def write(rows: NDArray[np.integer]) -> None:
                nonlocal top
                for array, step in zip(arrays, steps, strict=True):
                    array[top // step : -(-(top + len(rows)) // step)] = rows[::step, ::step]
                top += len(rows)

            yield write
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o777 & ~umask)
            sync_tree(Path(temporary))
            shutil.rmtree(path, ignore_errors=True)
            Path(temporary).replace(path)
            temporary = None
            sync_folder(path.parent)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_zarr_labels(path: str | os.PathLike[str], labels: NDArray[np.integer]) -> None:
    """Write a label image, integer (H, W), as OME-Zarr, whole or not at all."""
    with zarr_labels(path, labels.shape, labels.dtype) as write:
        for top in range(0, len(labels), _CHUNK[0]):
            write(labels[top : top + _CHUNK[0]])


class ZarrWriter(StreamWriter):
    """A label image in OME-Zarr of each image."""

    @contextmanager
    def stream(self) -> Iterator[Callable[[CropMasks, int], None]]:
        """See `StreamWriter`."""
        image = self.image
        if image.at_most is None:
            labels: list[NDArray[np.integer]] = []
            yield lambda masks, settled: labels.append(masks.to_labels())
            write_zarr_labels(self.path, *labels)
            return
        dtype = label_dtype(image.at_most)
        bands = LabelBands(image.shape, dtype)
        with zarr_labels(self.path, image.shape, dtype, image.microns_per_pixel) as write:

            def take(masks: CropMasks, settled: int) -> None:
                for band in bands.add(masks, settled):
                    write(band)

            yield take


def _attributes(name: str, steps: list[int], microns_per_pixel: float | None) -> dict[str, Any]:
    unit = {} if microns_per_pixel is None else {"unit": "micrometer"}
    axes = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    size = 1.0 if microns_per_pixel is None else microns_per_pixel
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [size * step] * 2}]}
        for level, step in enumerate(steps)
    ]
    return {
        "multiscales": [{"version": "0.4", "name": name, "axes": axes, "datasets": datasets, "type": "nearest"}],
        "image-label": {"version": "0.4"},
    }

"""Microscopes' own formats, such as CZI, ND2 and LIF: read in parts by bioio, the extra ``formats``."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.optional import need
from maskseg.imaging.stored import COLOURS, choose_image, plausible
from maskseg.imaging.windows import Box

# What a reader says of a file that it cannot read is said here, in one line.
logging.getLogger("bioio").addHandler(logging.NullHandler())

# The package that reads each ending.
PACKAGES = {".czi": "bioio_czi", ".nd2": "bioio_nd2", ".lif": "bioio_lif", ".dv": "bioio_dv", ".r3d": "bioio_dv"}
# In the extra; the licences of the others (GPL) are for everybody to choose.
_OF_EXTRA = ("bioio_nd2",)


def how_to_read(suffix: str) -> str:
    """What to type so that files of this ending can be read."""
    package = PACKAGES[suffix]
    more = "" if package in _OF_EXTRA else " " + package.replace("_", "-")
    return f"pip install 'maskseg[formats]'{more}"


def can_read(suffix: str) -> bool:
    """Whether what reads files of this ending is installed."""
    package = PACKAGES.get(suffix)
    return package is not None and all(importlib.util.find_spec(name) for name in ("bioio", package))


def _check_scenes(path: Path, named: int) -> None:
    """Refuse a CZI of more scenes than its description names: of those bioio reads the first one only.

    Raises
    ------
    InputError
        Without the name of the file.
    """
    shapes = importlib.import_module("aicspylibczi").CziFile(path).get_dims_shape()
    count = sum(last - first for first, last in (shape.get("S", (0, 1)) for shape in shapes))
    if count > named:
        raise InputError(f"it holds {count} images that its description does not name; export one image a file")


class BioioStored:
    """A scene of a file that bioio reads; a `Stored`. Of several one is to be chosen."""

    pages_unknown = False

    def __init__(self, path: Path, name: str | None = None, image: int | None = None) -> None:
        self.name = name or str(path)
        suffix = path.suffix.lower()
        package = PACKAGES[suffix]
        bioio = need("bioio", "formats", f"{self.name}: {suffix}")
        reader = need(package, "formats" if package in _OF_EXTRA else "", f"{self.name}: {suffix}").Reader
        try:
            self._image = scene = bioio.BioImage(path, reader=reader)
            self.images: Sequence[str] = [" ".join(str(name).split()) for name in scene.scenes] or [""]
            if suffix == ".czi" and importlib.util.find_spec("aicspylibczi"):
                _check_scenes(path, len(self.images))
            chosen = choose_image(image, self.images)
            if chosen:
                scene.set_scene(chosen)
            dims = scene.dims
            samples = getattr(dims, "S", 1)
            self.dtype = np.dtype(scene.dtype)
            self.shapes = self._levels()
            scene.set_resolution_level(0)
            names = [" ".join(str(name).split()) for name in scene.channel_names or []]
            size = scene.physical_pixel_sizes
        except InputError:
            raise
        except Exception as error:  # each reader has errors of its own; all mean the same here
            raise InputError(f"{self.name}: damaged or no {suffix} file that bioio can read; get it again") from error
        self._samples = samples
        self.rgb = samples == len(COLOURS) and dims.C == 1
        self.channels: Sequence[str] = COLOURS if self.rgb else names if len(names) == dims.C else [""] * dims.C
        if samples > 1 and not self.rgb:
            raise InputError(f"{self.name}: it holds {dims.C} channels of {samples} colours; save one channel of it")
        self.planes: Mapping[str, int] = {axis.lower(): dims[axis][0] for axis in "ZT" if dims[axis][0] > 1}
        self.mpp = plausible(size.X, size.Y)

    def _levels(self) -> list[tuple[int, int]]:
        shapes = []
        for level in self._image.resolution_levels:
            self._image.set_resolution_level(level)
            shapes.append((int(self._image.dims.Y), int(self._image.dims.X)))
        return shapes

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `maskseg.imaging.stored.Stored`."""
        x0, y0, x1, y1 = box
        where = {"T": plane.get("t", 0), "Z": plane.get("z", 0)}
        if self._image.current_resolution_level != level:
            self._image.set_resolution_level(level)
        if self.rgb:
            part = self._image.get_image_dask_data("YXS", C=0, **where)[y0:y1, x0:x1].compute()
            return np.asarray(part)[..., list(channels)]
        parts = [self._image.get_image_dask_data("YX", C=channel, **where)[y0:y1, x0:x1] for channel in channels]
        return np.stack([np.asarray(part.compute()) for part in parts], axis=-1)

    def close(self) -> None:
        """See `maskseg.imaging.stored.Stored`."""

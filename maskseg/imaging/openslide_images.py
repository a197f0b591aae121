"""Whole-slide files, read by OpenSlide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.core.optional import need
from maskseg.imaging.stored import COLOURS, plausible
from maskseg.imaging.windows import Box

# A list of the files of a slide of thousands of files has fewer bytes; and bytes at its beginning that are text.
_MOST_BYTES, _FIRST = 16 << 20, 1024


class SlideStored:
    """A whole-slide file; what was not scanned is white. A `Stored`."""

    dtype = np.dtype(np.uint8)
    rgb = True
    channels: Sequence[str] = COLOURS
    planes: Mapping[str, int] = {}
    pages_unknown = False
    images: Sequence[str] = ("",)

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or str(path)
        openslide = need("openslide", "slides", f"{self.name}: a slide")
        _check_other_files(path)
        try:
            self._slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise InputError(f"{self.name}: no slide that OpenSlide can read ({error}); get it again") from error
        self.shapes = [size[::-1] for size in self._slide.level_dimensions]
        across, down = openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y
        size = [self._slide.properties.get(key) for key in (across, down)]
        self.mpp = plausible(*(float(number) for number in size)) if all(size) else None

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `maskseg.imaging.stored.Stored`."""
        x0, y0, x1, y1 = box
        factor = self._slide.level_downsamples[level]
        part = self._slide.read_region((round(x0 * factor), round(y0 * factor)), level, (x1 - x0, y1 - y0))
        white = Image.new("RGB", part.size, (255, 255, 255))
        white.paste(part, mask=part.getchannel("A"))
        pixels = np.asarray(white)
        return pixels if len(channels) == len(COLOURS) else pixels[..., list(channels)]

    def close(self) -> None:
        """See `maskseg.imaging.stored.Stored`."""
        self._slide.close()


def _check_other_files(path: Path) -> None:
    """Refuse a slide that goes on in files outside of its folder: OpenSlide would follow it anywhere.

    Hamamatsu's slides are a text that lists their files, whatever its ending; MIRAX has such a list in a folder.

    Raises
    ------
    InputError
        Without the name of the slide.
    """
    for listed in (path, path.with_suffix("") / "Slidedat.ini"):
        if not listed.is_file():
            continue
        with listed.open("rb") as file:
            data = file.read(_FIRST)
            if b"\0" in data:  # pixels, or a database
                continue
            data += file.read(_MOST_BYTES)
        if len(data) > _MOST_BYTES:
            raise InputError(f"its list of files {listed.name} is too large; get it again")
        for line in re.split(rb"[\r\n]+", data):
            if ".." in PureWindowsPath(line.partition(b"=")[2].strip().decode("utf-8", "replace")).parts:
                raise InputError(f"its list of files {listed.name} leads outside of its folder; get it again")

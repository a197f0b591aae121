"""A large image to files: its tiles are predicted here or in other processes, its seams settled and written once."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maskseg.core.files import write_whole
from maskseg.formats.writer import ImageInfo, write_all
from maskseg.imaging.exposure import Exposure
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source
from maskseg.inference.faults import file_name, source_of
from maskseg.inference.tiling import Share, TiledImage, TiledPredictor

if TYPE_CHECKING:
    from maskseg.inference.run import Run


class Look(NamedTuple):
    """How tiles of an image are looked at, found once for all of it.

    Attributes
    ----------
    side : int
    magnify : float
    file_limits : (float, float) or None
        See `maskseg.imaging.slides.FileSource`.
    exposure : Exposure
        See `TiledImage`.
    """

    side: int
    magnify: float
    file_limits: tuple[float, float] | None
    exposure: Exposure

    @classmethod
    def of(cls, image: TiledImage) -> Look:
        """That of an image at present."""
        return cls(image.side, image.magnify, getattr(image.source, "limits", None), image.exposure)


class Opened(NamedTuple):
    """A large image of a run; with the pixels of the full size in one of it, and the micrometres of a pixel."""

    image: TiledImage
    scale: float
    mpp: float | None


def open_large(
    run: Run, predictor: TiledPredictor, file: ImageFile, look: Look | None = None, share: Share | None = None
) -> Opened:
    """An image that is predicted tile by tile; each tile that is done has a file in its folder of parts.

    Parameters
    ----------
    run : Run
    predictor : TiledPredictor
    file : ImageFile
    look : Look, optional
        How tiles are looked at; found from the image where not given.
    share : Share, optional
        See `TiledImage`.
    """
    tiles = run.tiles
    file_limits = look.file_limits if look else None
    source, scale, mpp = open_source(file, tiles.level, tiles.mpp, run.microns_per_pixel, file_limits)
    image = TiledImage(
        predictor.at_pixel_size(mpp, file.name),
        source,
        _parts(run, file),
        run.tta,
        look.side if look else tiles.side,
        tiles.overlap,
        exposure=look.exposure if look else None,
        share=share,
    )
    if look:
        image.magnify = look.magnify
    return Opened(image, scale, mpp)


def predict_large(run: Run, predictor: TiledPredictor, file: ImageFile, share: Share | None = None) -> None:
    """The files of a large image, and then its part; while it is not done, each tile has a part of its own."""
    begin, of = time.perf_counter(), source_of(file)
    image, scale, mpp = open_large(run, predictor, file, share=share)
    expand = run.measures.pixels(file.name, mpp)
    parts = _parts(run, file)
    stamp = parts / "source"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != json.dumps(of):
        shutil.rmtree(parts, ignore_errors=True)
        with write_whole(stamp, "w", encoding="utf-8") as handle:
            handle.write(json.dumps(of))
    info = ImageInfo(
        file.id,
        image.source.shape,
        file_name(file),
        image.source,
        image.predict(),
        mpp,
        scale,
        seconds=lambda: time.perf_counter() - begin,
        expand=expand,
        texture=run.measures.texture,
        class_names=run.class_names,
    )
    opened = run.writers(info)
    run.finish(file, of, opened, write_all([*opened.values()], image.settled()))
    shutil.rmtree(parts)


def _parts(run: Run, file: ImageFile) -> Path:
    return run.parts / "tiles" / file.id

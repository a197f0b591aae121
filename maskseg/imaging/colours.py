"""What the samples of a TIFF mean: grey whichever way round, RGB, palettes, YCbCr, L*a*b* and inks, and alpha.

Everything here is done to a window of decoded samples, so that a whole image and its tiles come out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC

from maskseg.core.errors import InputError
from maskseg.imaging.stored import COLOURS

# Of JPEG the decoder makes RGB; all other codecs leave YCbCr as it is.
JPEG = (6, 7, 33007, 34892)
# ExtraSamples: associated and unassociated alpha. Any other further sample is a channel.
_ALPHA = (1, 2)
# JPEG 2000 of Aperio's scanners, which hold YCbCr and say RGB.
_APERIO_YCBCR = 33003
_GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MASK, PHOTOMETRIC.LINEAR_RAW)
_RGB8 = np.dtype(np.uint8)

Convert = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Meaning:
    """How the samples of a pixel become channels.

    Attributes
    ----------
    count : int
        Channels.
    rgb : bool
        Whether the first three are red, green and blue.
    dtype : NumPy dtype
        Of the channels.
    convert : function
        Samples (h, w, S) to channels (h, w, count).
    """

    count: int
    rgb: bool
    dtype: np.dtype
    convert: Convert


def is_plain(page: tifffile.TiffPage) -> bool:
    """Whether each sample of a page has values of its own, and none is a part of a colour that is to be mixed."""
    return page.photometric in (*_GREY, PHOTOMETRIC.RGB)


def meaning(page: tifffile.TiffPage, apart: int | None = None) -> Meaning:
    """What the samples of a page mean.

    Parameters
    ----------
    page : tifffile.TiffPage
    apart : int, optional
        Of a page that is plain: how many samples are channels of their own, none of them a colour or alpha.

    Raises
    ------
    InputError
        Its pixels are no numbers or colours that are known.
    """
    kind, dtype, samples = page.photometric, np.dtype(page.dtype), page.samplesperpixel
    if dtype.kind not in "buif":
        raise InputError(f"pixels of type {dtype} are not supported; save as 8-bit, 16-bit or float")
    if page.compression == _APERIO_YCBCR and samples == len(COLOURS):
        return Meaning(3, True, dtype, _ycbcr(page))
    if apart is not None:
        return Meaning(apart, False, dtype, _grey(page, apart, kind == PHOTOMETRIC.MINISWHITE))
    if kind in _GREY:
        count = samples - _alphas(page, samples - 1)
        return Meaning(count, False, dtype, _grey(page, count, kind == PHOTOMETRIC.MINISWHITE))
    if kind == PHOTOMETRIC.RGB and samples >= len(COLOURS):
        count = samples - _alphas(page, samples - len(COLOURS))
        return Meaning(count, True, dtype, _grey(page, count, False))
    if kind == PHOTOMETRIC.PALETTE and page.is_imagej:
        # ImageJ's table says how grey values are shown, and they are what it measures.
        return Meaning(1, False, dtype, lambda values: values[..., :1])
    if kind == PHOTOMETRIC.PALETTE and page.colormap is not None:
        return Meaning(3, True, _RGB8, _palette(page.colormap))
    if kind == PHOTOMETRIC.YCBCR and samples >= 3:
        if page.compression in JPEG:
            return Meaning(3, True, dtype, lambda values: values[..., :3])
        return Meaning(3, True, dtype, _ycbcr(page))
    if kind in (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB) and samples in (1, 3, 4):
        if samples == 1:
            return Meaning(1, False, dtype, lambda values: values)
        return Meaning(3, True, _RGB8, _lab(kind == PHOTOMETRIC.ICCLAB))
    if kind == PHOTOMETRIC.SEPARATED:
        if samples >= 4 and page.tags.valueof(332, 1) == 1:  # InkSet: CMYK
            return Meaning(3, True, dtype, _cmyk)
        # Inks are dark where there is much of them.
        count = samples - _alphas(page, samples - 1)
        return Meaning(count, False, dtype, _grey(page, count, True))
    raise InputError(f"colours of the kind {getattr(kind, 'name', kind)} are not supported; save it as RGB or grey")


def _alphas(page: tifffile.TiffPage, further: int) -> int:
    """How many of the last `further` samples are alpha: those that ExtraSamples calls so."""
    kinds = tuple(page.extrasamples)[-further:] if further > 0 else ()
    count = 0
    while count < len(kinds) and int(kinds[-1 - count]) in _ALPHA:
        count += 1
    return count


def _bits(page: tifffile.TiffPage) -> int:
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else bits[0])


def _grey(page: tifffile.TiffPage, count: int, inverted: bool) -> Convert:
    dtype, bits = np.dtype(page.dtype), _bits(page)
    most = (1 << bits) - 1
    # Fewer than 8 bits would be nearly black among 8; 1 bit is bool.
    factor = 255 / most if dtype == np.uint8 and 1 < bits < 8 else None

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        values = values[..., :count]
        if inverted:
            if dtype.kind in "bi":
                values = ~values
            else:
                # A float image is taken to go from 0 to 1, as is usual; where it does not, only the zero differs.
                values = (np.asarray(most if dtype.kind == "u" else 1, dtype) - values).astype(dtype)
        return values if factor is None else np.rint(values * factor).astype(np.uint8)

    return convert


def _palette(table: NDArray[Any]) -> Convert:
    # (3, 2 ** bits) of 16 bits; some programs have written 8.
    colours = (table.T >> 8 if table.max(initial=0) > 255 else table.T).astype(np.uint8)
    return lambda values: colours[np.minimum(values[..., 0], len(colours) - 1)]


def _ycbcr(page: tifffile.TiffPage) -> Convert:
    """TIFF 6.0, section 21: by YCbCrCoefficients and ReferenceBlackWhite."""
    dtype, most = np.dtype(page.dtype), float((1 << _bits(page)) - 1)
    red, green, blue = _rationals(page, 529, (0.299, 0.587, 0.114))
    half = (most + 1) / 2
    black_y, white_y, black_b, white_b, black_r, white_r = _rationals(page, 532, (0, most, half, most, half, most))

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        samples = values[..., :3].astype(np.float32)
        luma = (samples[..., 0] - black_y) * (most / max(white_y - black_y, 1e-6))
        cb = (samples[..., 1] - black_b) * ((most - half) / max(white_b - black_b, 1e-6))
        cr = (samples[..., 2] - black_r) * ((most - half) / max(white_r - black_r, 1e-6))
        r = luma + cr * (2 - 2 * red)
        b = luma + cb * (2 - 2 * blue)
        g = (luma - blue * b - red * r) / green
        return np.rint(np.clip(np.stack([r, g, b], axis=-1), 0, most)).astype(dtype)

    return convert


def _rationals(page: tifffile.TiffPage, tag: int, default: tuple[float, ...]) -> list[float]:
    """The numbers of a tag of fractions, or `default` where it is missing or of no use."""
    value = page.tags.valueof(tag)
    numbers = list(value) if isinstance(value, tuple) else []
    if len(numbers) == 2 * len(default) and all(numbers[1::2]):
        return [top / bottom for top, bottom in zip(numbers[::2], numbers[1::2], strict=True)]
    return [float(number) for number in numbers] if len(numbers) == len(default) else list(default)


def _lab(of_icc: bool) -> Convert:
    """L*a*b* to sRGB of 8 bits; TIFF 6.0, section 23, and for ICC's form Technical Note 4 of Adobe's TIFF."""
    from skimage.color import lab2rgb

    def convert(values: NDArray[Any]) -> NDArray[Any]:
        lab = values[..., :3].astype(np.float32)
        if values.dtype.kind != "f":
            wide = values.dtype.itemsize > 1
            lab[..., 0] *= 100 / ((65280 if of_icc else 65535) if wide else 255)
            if of_icc:
                lab[..., 1:] -= 32768 if wide else 128
            else:
                lab[..., 1:] = values[..., 1:3].astype(np.int16 if wide else np.int8)
            if wide:
                lab[..., 1:] /= 256
        # Neutral stays neutral: L*a*b* is relative to its own white.
        return np.rint(np.clip(lab2rgb(lab), 0, 1) * 255).astype(np.uint8)

    return convert


def _cmyk(values: NDArray[Any]) -> NDArray[Any]:
    dtype = values.dtype
    most = float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
    inks = values[..., :4].astype(np.float64)
    light = (most - inks[..., :3]) * (most - inks[..., 3:]) / most
    return (np.rint(light) if dtype.kind in "ui" else light).astype(dtype)


def upsampled(data: NDArray[np.uint8], shape: tuple[int, int], factors: tuple[int, int]) -> NDArray[np.uint8]:
    """A strip or tile of YCbCr with fewer pixels of Cb and Cr, unpacked: TIFF 6.0, section 21.

    Parameters
    ----------
    data : uint8 array
        Units of `across` x `down` values of Y, then one of Cb and one of Cr.
    shape : (int, int)
        Height and width of the piece.
    factors : (int, int)
        YCbCrSubSampling: across, down.

    Returns
    -------
    uint8 array (height, width, 3)
    """
    (height, width), (across, down) = shape, factors
    rows, columns = -(-height // down), -(-width // across)
    unit = across * down + 2
    units = data[: rows * columns * unit].reshape(rows, columns, unit)
    luma = units[..., :-2].reshape(rows, columns, down, across).transpose(0, 2, 1, 3)
    pixels = np.empty((rows * down, columns * across, 3), np.uint8)
    pixels[..., 0] = luma.reshape(rows * down, columns * across)
    for place in (1, 2):
        pixels[..., place] = units[..., unit - 3 + place].repeat(down, axis=0).repeat(across, axis=1)
    return pixels[:height, :width]

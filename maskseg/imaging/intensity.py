"""Grey values: what is done to them before the network sees them.

Brightness limits
-----------------
An image is mapped linearly so that two values, its *limits*, become 0 and 255. Percentiles of all pixels would depend
on how much of the picture the nuclei fill: where seven lie in a field of 1024 x 1024 pixels, the 99.5th is background,
and its noise becomes white. So the limits come from what stands out, by rank filters only:

1. The image is sampled in every fourth row and column twice: as it is, and after two 3 x 3 medians, which leave only
   what is compact. Both are sums of parts: a slide is sampled window by window.
2. Fill values are left out: zeros, or the greatest value of the type, that many samples share and hardly any come near
   (unscanned area, border of a registration, scale bar, dead rows), as long as what is left has a background.
3. The local background is the median of squares of 64 pixels, smoothed. What is compact and brighter than it by several
   times its spread is the bright share, what is darker by as much the dark share, whatever the part of the picture.
   A few specks that rise far above all else are cut first (`debris.py`).
4. The upper limit is where 92 % of the light of the bright share are below, or the 99.5th percentile of all that is
   not in it, whichever is higher; the lower limit is the same upside down. Light is the difference to the background:
   haze and noise that are counted as outstanding in a large field hardly move the limit, since they have little of it.
   In the images of the 2018 Data Science Bowl that is about where the 0.5 and 99.5 percentiles of all pixels are.
5. The limits are apart by at least a multiple of the noise, so that noise alone stays dim; by a greater one where what
   stands out most is no more than noise of any grain has by chance. What varies in every part of the picture is noise
   only if its values are distributed as those of noise: a dense layer of nuclei has a background between them.
   Stained tissue (`stains.py`) varies everywhere without being noise, and has no such least distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.imaging.debris import without_debris
from maskseg.imaging.stains import is_stained

# Rows and columns from one sample to the next, more in images that would have more than _MOST samples.
_STEP, _MOST = 4, 2048 * 2048
# Side in samples of the squares whose medians are the background, and the least share of one that is not fill.
_SQUARE, _LEAST_SHARE = 16, 0.25
# Shares of the background, and of the light that stands out from it, that saturate at either end.
_BACKGROUND_SHARE, _OUTSTANDING_SHARE = 0.005, 0.08
# What stands out differs from the local background by this many times its spread, and by this part of the difference
# that _COMPACT samples exceed.
_SPREADS, _PART, _COMPACT = 5.0, 0.05, 16
# The limits are apart by at least this many times the noise, by the first number where _FEWEST samples differ from the
# local background by at most so many times the noise as the first of _SIGNALS (Gaussian noise of any grain in up to
# 2048 x 2048 pixels: 3 to 7), by the last where by its last or more (DSB 2018: from 19 on).
_NOISES, _SIGNALS = (80.0, 18.0), (7.0, 14.0)
# To the noise belongs what even the quietest twentieth of the squares have; whole numbers have so much at least, and
# such a spread.
_QUIET, _LEAST_NOISE, _LEAST_SPREAD = 0.05, 0.5, 0.25
# Nuclei are in every square where the half of the samples in the middle lies so many times as far apart as it would be
# by the shortest interval that holds this share of them (noise of any grain: up to 1.75 times; a layer of nuclei with
# some background between them: 2 to 30), whose width is so many standard deviations of normally distributed values.
_DENSE, _SHORTEST_SHARE, _SHORTEST_WIDTH = 2.0, 0.2, 0.5067
# Where no _FEWEST samples differ from the local background by this part of the distance of the limits, it is widened,
# by a power of what is missing, up to so many times: a vignette stands out from its local background by a quarter.
_FEWEST, _LEAST_CONTRAST, _STEEP, _MOST_WIDER = 4, 0.5, 3.5, 32.0
# Values that can be fill: zero or the least of a signed type, and the greatest of a type or camera, of floats 1 too.
_LOW_FILLS = {0.0, *(-(2.0**bits) for bits in (7, 15, 31))}
_HIGH_FILLS = {float(np.float32(2.0**bits - 1)) for bits in (7, 8, *range(10, 17), 31, 32)}
# A value is fill if this share of the samples has it and if, within this part of its distance from the median, others
# are fewer than this part of them; and if half of the rest lies in squares of which most is left.
_FILL_SHARE, _FILL_GAP, _FILL_NEAR, _FILL_LEFT = 2e-4, 1 / 16, 0.05, 0.9

_STRIP = 1 << 22  # values that are scaled at a time
# Parts of their distance that are left beyond the limits where other kinds of values become 8 bits.
_ROOM_BELOW, _ROOM_ABOVE = 1 / 8, 1 / 2


@dataclass(frozen=True)
class Samples:
    """What the limits of an image are found from.

    Attributes
    ----------
    plain : array (h, w, C)
        Every so many rows and columns of the image as it is; C is 1 where all channels are the same.
    compact : array (h, w, C)
        The same of the image after two 3 x 3 medians, in which nothing thin is left.
    """

    plain: NDArray[Any]
    compact: NDArray[Any]


def sample_step(shape: tuple[int, ...]) -> int:
    """Rows and columns from one sample to the next in an image of some height and width."""
    height, width = shape[:2]
    if height * width > _MOST * _STEP**2:
        return _STEP * 2 ** math.ceil(math.log2(height * width / (_MOST * _STEP**2)) / 2)
    return min(max(math.isqrt(height * width) // 32, 1), _STEP)


def sampled(values: NDArray[Any], step: int) -> Samples:
    """Samples of an image (H, W, C), or of a part of it that begins at a multiple of the step."""
    places = np.s_[step // 2 :: step, step // 2 :: step] if min(values.shape[:2]) > step // 2 else np.s_[:1, :1]
    plain = values[places]
    if (plain == plain[..., :1]).all():
        values, plain = values[..., :1], plain[..., :1]
    # The filter knows these kinds; the others fit into float32 well enough to be ranked.
    known, channels = values.dtype in (np.uint8, np.uint16, np.float32), []
    for one in np.moveaxis(values, 2, 0):
        one = np.ascontiguousarray(one if known else one.astype(np.float32))
        channels.append(cv2.medianBlur(cv2.medianBlur(one, 3), 3)[places])
    return Samples(np.ascontiguousarray(plain), np.stack(channels, axis=2))


def samples_of(image: NDArray[Any]) -> Samples:
    """Samples of an image in memory, (H, W, C)."""
    return sampled(image, sample_step(image.shape))


def joined(parts: list[list[Samples]]) -> Samples:
    """The samples of an image from those of its windows, row by row."""
    most = max(part.plain.shape[2] for row in parts for part in row)

    def whole(name: str) -> NDArray[Any]:
        rows = [[getattr(part, name) for part in row] for row in parts]
        return np.vstack([np.hstack([np.broadcast_to(a, (*a.shape[:2], most)) for a in row]) for row in rows])

    return Samples(whole("plain"), whole("compact"))


def limits(values: NDArray[Any]) -> tuple[float, float]:
    """The values of an image that become 0 and 255, by the rule above; the upper one is the greater.

    Parameters
    ----------
    values : array (H, W) or (H, W, C), of numbers
        The limits are those of all channels together, so that colours keep their hue.

    Returns
    -------
    low, high : float
    """
    return limits_of(samples_of(values.reshape(*values.shape[:2], -1)))


def shows_tissue(samples: Samples) -> bool:
    """Whether the image that was sampled shows stained tissue; values of other kinds than 8 bits by their greatest."""
    plain = samples.plain
    if plain.shape[2] != 3:
        return False
    if plain.dtype != np.uint8:
        known = plain[np.isfinite(plain)]
        plain = scaled(plain, 0.0, max(float(known.max(initial=0)), 1e-12))
    return is_stained(plain)


def limits_of(samples: Samples, tissue: bool | None = None) -> tuple[float, float]:
    """`limits` of the image that was sampled.

    Parameters
    ----------
    samples : Samples
    tissue : bool, optional
        Whether it shows stained tissue, for which the fifth rule does not hold; by `shows_tissue` where not given.
    """
    tissue = shows_tissue(samples) if tissue is None else tissue
    whole = samples.plain.dtype.kind in "uib"
    plain = samples.plain.astype(np.float32, copy=False)
    compact = samples.compact.astype(np.float32, copy=False)
    known = np.isfinite(plain)
    used = known & ~_fill(plain, known, np.min, whole) & ~_fill(plain, known, np.max, whole)
    if not used.any():
        return 0.0, 1.0
    fill = plain[known & ~used]
    kept = used & np.isfinite(compact)
    if fill.size:
        kept &= (compact != fill.min()) & (compact != fill.max())
    if not kept.any():
        compact, kept = plain, used
    background, quiet = _background(compact, kept)
    difference = np.where(kept, compact - background, 0)
    spread = max(_deviation(difference[kept]), _LEAST_SPREAD * whole)
    noise = max(math.hypot(_deviation((plain - compact)[kept]), quiet), _LEAST_NOISE * whole)
    for sign in (1, -1):
        outstanding = kept & (sign * difference > _SPREADS * spread)
        difference = sign * without_debris(sign * difference, outstanding, _SIGNALS[1] * noise)
    compact = background + difference
    differences = difference[kept]
    high = _outer_limit(plain[used], compact[kept], difference[used], differences, spread)
    low = -_outer_limit(-plain[used], -compact[kept], -difference[used], -differences, spread)
    # Where next to nothing stands out, there is uneven light alone.
    contrast = _quantile(np.abs(differences), 1 - _FEWEST / max(len(differences), _FEWEST))
    uneven = min((_LEAST_CONTRAST * (high - low) / max(contrast, 1e-12)) ** _STEEP, _MOST_WIDER) * (high - low)
    noises = float(np.interp(contrast / max(noise, 1e-12), _SIGNALS, _NOISES))
    least = max(0.0 if tissue else max(noises * noise, uneven), 1e-6 * abs(high), 1e-12)
    if high - low < least:
        # Away from the background: in fluorescence it is dark, in transmitted light bright.
        if _quantile(plain[used], 0.5) > low + 0.6 * (high - low):
            low = high - least
        else:
            high = low + least
    return low, high


def _quantile(values: NDArray[np.float32], share: float) -> float:
    """NumPy's quantile of values (N,); of many equal ones in a tenth of its time."""
    ranked = np.sort(values)
    below, part = divmod(share * (len(ranked) - 1), 1)
    low, high = ranked[int(below)], ranked[min(int(below) + 1, len(ranked) - 1)]
    return float(low + (high - low) * part)


def _weighted_quantile(values: NDArray[np.float32], weights: NDArray[np.float32], share: float) -> float:
    """Where a share of the weights (N,) belongs to smaller values (N,), half of a value's own among them."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order], dtype=np.float64)
    below -= weights[order] / 2
    return float(np.interp(share * (below[-1] + weights[order[-1]] / 2), below, values[order]))


def _deviation(values: NDArray[np.float32]) -> float:
    """Standard deviation of normally distributed values (N,) about 0, by the median of their amounts."""
    return 1.4826 * _quantile(np.abs(values), 0.5) if values.size else 0.0


def _outer_limit(
    plain: NDArray[np.float32],
    compact: NDArray[np.float32],
    plain_difference: NDArray[np.float32],
    difference: NDArray[np.float32],
    spread: float,
) -> float:
    """The upper limit, from samples (N,) and what is compact in them, (M,), with its differences to the background."""
    most = _quantile(difference, 1 - _COMPACT / len(difference)) if len(difference) > _COMPACT else 0.0
    least = max(_SPREADS * spread, _PART * most)
    rest = plain[plain_difference <= least]
    limit = _quantile(rest, 1 - _BACKGROUND_SHARE) if rest.size else -np.inf
    far = difference > least
    if far.sum() >= _FEWEST or not rest.size:
        # One sample that is far off does not decide, whatever its share of the light: a dead pixel, a speck.
        most = float(np.sort(compact[far])[-min(_FEWEST, int(far.sum())) :][0])
        limit = max(limit, min(_weighted_quantile(compact[far], difference[far], 1 - _OUTSTANDING_SHARE), most))
    return limit


def _squares(samples: NDArray[Any], outside: Any) -> NDArray[Any]:
    """Samples (h, w) in squares, (rows, columns, samples of one); `outside` is put where the last ones reach over."""
    height, width = samples.shape
    rows, columns = -(-height // _SQUARE), -(-width // _SQUARE)
    padded = np.full((rows * _SQUARE, columns * _SQUARE), outside, samples.dtype)
    padded[:height, :width] = samples
    return padded.reshape(rows, _SQUARE, columns, _SQUARE).swapaxes(1, 2).reshape(rows, columns, _SQUARE**2)


def _background(compact: NDArray[np.float32], kept: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
    """The local background (h, w, C) of samples of which some are kept, and its noise where it is quietest."""
    background, noises = np.empty_like(compact), list[NDArray[np.float32]]()
    for channel in range(compact.shape[2]):
        values = np.where(kept[..., channel], compact[..., channel], np.float32(np.inf))
        ranked = np.sort(_squares(values, np.inf), axis=2)
        counts = np.isfinite(ranked).sum(axis=2)
        places = counts[..., None] * np.array([1, 2, 3]) // 4
        first, medians, third = np.moveaxis(np.take_along_axis(ranked, places, axis=2), 2, 0)
        medians = medians.copy()
        many = counts >= _LEAST_SHARE * _SQUARE**2
        if many.any():
            medians[~many] = _quantile(medians[many], 0.5)
            noises.append(np.stack([(third[many] - first[many]) / 1.349, _shortest(ranked[many], counts[many])]))
        else:
            medians[:] = _quantile(compact[kept], 0.5) if kept.any() else 0
        medians = cv2.medianBlur(medians, 3)
        large = cv2.resize(medians, None, fx=_SQUARE, fy=_SQUARE, interpolation=cv2.INTER_LINEAR)
        background[..., channel] = large[: compact.shape[0], : compact.shape[1]]
    if not noises:
        return background, 0.0
    whole, middle = (_quantile(values, _QUIET) for values in np.concatenate(noises, axis=1))
    # Of noise the two agree. Where they do not there are nuclei in every square, even in the quietest.
    return background, middle if whole > _DENSE * middle else whole


def _shortest(ranked: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Standard deviation of normally distributed values, by the shortest interval that holds a share of them.

    Parameters
    ----------
    ranked : array (N, M)
        In rows by size, infinite behind the last.
    counts : int array (N,)
        How many there are in each row.
    """
    shortest = np.zeros(len(ranked), np.float32)
    for count in np.unique(counts):
        some = ranked[counts == count, :count]
        inside = max(int(_SHORTEST_SHARE * count), 1)
        shortest[counts == count] = (some[:, inside:] - some[:, : count - inside]).min(axis=1)
    return shortest / _SHORTEST_WIDTH


def _fill(plain: NDArray[np.float32], used: NDArray[np.bool_], extreme: Any, whole: bool) -> NDArray[np.bool_]:
    """Which samples (h, w, C) have the least or greatest value, where that is fill."""
    none = np.zeros_like(used)
    if not used.any():
        return none
    value = extreme(plain[used])
    if float(value) not in (_LOW_FILLS if extreme is np.min else _HIGH_FILLS if whole else {1.0, *_HIGH_FILLS}):
        return none
    same = used & (plain == value)
    rest = used & ~same
    count, left = int(same.sum()), int(rest.sum())
    if count < max(_FILL_SHARE * used.sum(), 4) or not left:
        return none
    distances = np.abs(plain[rest] - value)
    if (distances <= max(_FILL_GAP * _quantile(distances, 0.5), 3 * whole)).sum() > _FILL_NEAR * count:
        return none
    full = 0
    for channel in range(plain.shape[2]):
        counts = _squares(rest[..., channel], False).sum(axis=2)
        inside = _squares(np.ones_like(rest[..., channel]), False).sum(axis=2)
        full += int(counts[counts >= _FILL_LEFT * inside].sum())
    return same if full >= left / 2 else none


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values of any kind and shape, mapped so that `low` and `high` become 0 and 255; beyond them they are clipped.

    What is no number becomes 0.
    """
    if values.dtype == np.uint8 and values.size > 256:
        table = scaled(np.arange(256, dtype=np.uint8), low, high)
        mapped: NDArray[Any] = cv2.LUT(np.ascontiguousarray(values), table)
        return mapped.reshape(values.shape)
    if values.size > _STRIP and len(values) > 1:
        # Strip by strip: floats take four times the memory of what becomes of them, several times over.
        rows = max(1, _STRIP * len(values) // values.size)
        return np.concatenate([scaled(values[top : top + rows], low, high) for top in range(0, len(values), rows)])
    with np.errstate(invalid="ignore"):
        wide = (values.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
        return np.rint(np.nan_to_num(np.clip(wide, 0, 255))).astype(np.uint8)


def in_8_bits(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values of another kind than 8 bits, brought to that by their limits, with room at either end.

    So the limits that are found in the result are the same again: nothing near them has been clipped, and zeros that
    are below them stay zero.
    """
    span = high - low
    least = low - _ROOM_BELOW * span
    return scaled(values, max(least, 0.0) if low >= 0 else least, high + _ROOM_ABOVE * span)


def stretch(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image, uint8 (H, W, 3), with its `limits` at 0 and 255."""
    return scaled(image, *limits(image))


def jitter(
    image: NDArray[np.uint8], rng: np.random.Generator, contrast: float, brightness: float, gamma: float
) -> NDArray[np.uint8]:
    """Random gamma, gain about the mean, and offset; the same for all channels.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
    rng : numpy Generator
    contrast, gamma : float
        Log-range of the factor: exp(uniform(-c, c)).
    brightness : float
        Largest offset as a share of 255.
    """
    if not (contrast or brightness or gamma):
        return image
    values = 255.0 * (np.arange(256) / 255.0) ** np.exp(rng.uniform(-gamma, gamma))
    mean = values[image].mean()
    values = (
        mean + (values - mean) * np.exp(rng.uniform(-contrast, contrast)) + 255.0 * rng.uniform(-brightness, brightness)
    )
    changed: NDArray[Any] = cv2.LUT(image, np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    return changed

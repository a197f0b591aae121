"""Which channel and which plane of an image is looked at.

The rule
--------
1. `Choice` says it: a channel by name or number, for each further axis a plane, or the largest or mean value along it.
2. Without a channel chosen: an image of one channel is grey; of several of which one alone holds anything, that one.
3. Red, green and blue are colours, where the file calls them so. Three channels of which it does not say what they are
   are colours too if more than half of each of them is bright, as only transmitted light is.
4. A colour image that shows one colour on black, as programs paint a stain, is grey: its largest channel. A pale
   colour without black is tissue that fills the picture.
5. All else is refused with the channels that there are, for one to be chosen: stains are never mixed as if they were
   colours. So are several planes without a plane chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.imaging.stored import COLOURS, Stored, listed
from maskseg.imaging.windows import Box, blocks

# What an axis of planes is called in messages.
_AXES = {"z": "planes", "t": "times"}
PROJECTIONS = ("max", "mean")
ALL = "all"
# Of a file that holds several images; they have no planes in common.
IMAGE = "image"
# Looked at of an image to say what it shows: of one with levels, the smallest that has as many pixels along its side.
_PREVIEW = 2048
# A channel's median above which most of it is bright, of 255.
_BRIGHT = 128
# One colour on black: pixels are counted from this share of the largest value, to which they may differ from the
# colour in so much of their energy; a channel has at most so much of the largest one.
_SIGNAL, _OFF_COLOUR, _PALE = 0.06, 0.01, 0.5
# A channel of a deep colour has at most so much of the largest one. In a paler one, pink, tissue that fills the picture
# looks alike, but has no black: of a pale colour this share of the pixels has at most this part of the largest value
# (NuInsSeg's tissue: the darkest twentieth is below 0.37 and more, fluorescence of DSB 2018 below 0.1).
_DEEP, _BLACK_SHARE, _BLACK = 0.2, 0.05, 0.25
# Burnt-in bars and letters are white, or nearly.
_WHITE = 0.95
_SUMS = 9
# Side of the nine places that are looked at first, and may settle it.
_PLACE = 256


@dataclass(frozen=True)
class Choice:
    """What is looked at of an image.

    Attributes
    ----------
    channel : str or None
        A name, or a number from 0.
    planes : dict of str to str
        For ``z`` and ``t``: ``max``, ``mean``, ``all`` or a number from 0; for ``image``: ``all`` or a number.
    """

    channel: str | None = None
    planes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, channel: str | None = None, plane: str | None = None) -> Choice:
        """What ``--channel`` and ``--plane`` say, such as ``DAPI`` and ``z=max,t=0``.

        Raises
        ------
        InputError
            The plane is not of that form.
        """
        if channel is not None and not channel.strip():
            raise InputError("--channel is empty; give a name or a number from 0")
        planes: dict[str, str] = {}
        for part in (plane or "").split(",") if plane is not None else []:
            axis, _, value = (text.strip().lower() for text in part.partition("="))
            ways = (*PROJECTIONS, ALL) if axis != IMAGE else (ALL,)
            if axis not in (*_AXES, IMAGE) or axis in planes or not (value in ways or value.isdecimal()):
                raise InputError(
                    f"--plane {plane}: give z=max, z=mean, z=N or z=all, and t likewise, such as z=max,t=0; of a file "
                    "of several images image=N or image=all"
                )
            planes[axis] = value
        return cls(None if channel is None else channel.strip(), planes)

    @property
    def image(self) -> int | None:
        """The number of the image in a file of several, where one is chosen."""
        wanted = self.planes.get(IMAGE, ALL)
        return None if wanted == ALL else int(wanted)

    def __bool__(self) -> bool:
        """Whether anything is chosen."""
        return self.channel is not None or bool(self.planes)


class Chosen:
    """The part of a file that is looked at: one channel, or three that are colours.

    Parameters
    ----------
    stored : Stored
    choice : Choice, optional

    Attributes
    ----------
    shapes, dtype, mpp
        See `Stored`.

    Raises
    ------
    InputError
        The file has no such channel or plane, or several of which none is chosen.
    """

    def __init__(self, stored: Stored, choice: Choice | None = None) -> None:
        choice = choice or Choice()
        self._stored, self.name = stored, stored.name
        self.shapes, self.dtype, self.mpp = stored.shapes, stored.dtype, stored.mpp
        # Pages of which the file does not say what they are may be channels.
        self._paged = (
            choice.channel is not None
            and len(stored.channels) == 1
            and stored.pages_unknown
            and len(stored.planes) == 1
        )
        axes = dict(stored.planes)
        self._plane: dict[str, int] = {}
        if self._paged and choice.channel is not None:
            ((axis, count),) = axes.items()
            self._plane[axis] = _number(self.name, choice.channel, [""] * count)
            axes = {}
        self._project: dict[str, tuple[int, str]] = {}
        wanted = {axis: 1 for axis in choice.planes if axis != IMAGE}
        for axis in {**axes, **wanted} if not self._paged else {}:
            self._choose_plane(axis, axes.get(axis, 1), choice.planes.get(axis))
        self._greyed = False
        self._channels = self._choose_channels(None if self._paged else choice.channel)
        self._greyed = len(self._channels) == len(COLOURS) and stored.rgb and self._one_colour()

    @property
    def count(self) -> int:
        """How many channels are looked at: 1, or 3 that are colours."""
        return len(self._channels)

    def values(self, level: int, box: Box) -> NDArray[Any]:
        """The pixels x0, y0, x1, y1 of a level, (h, w, 1 or 3)."""
        values = self._read(level, box, self._channels)
        return values.max(axis=2, keepdims=True) if self._greyed else values

    @property
    def all_channels(self) -> list[str]:
        """The names of the channels of `all_values`; empty where the file gives none."""
        if self._paged:
            return [""] * next(iter(self._stored.planes.values()))
        return [""] if self._greyed else list(self._stored.channels)

    def all_values(self, level: int, box: Box) -> NDArray[Any]:
        """The pixels of a level in every channel of the file, (h, w, C): what to measure on.

        Of a stain that is painted in one colour there is one, as in `values`.
        """
        if self._paged:
            axis = next(iter(self._plane))
            pages = range(len(self.all_channels))
            return np.concatenate(
                [self._stored.values(level, box, self._channels, {axis: page}) for page in pages], axis=2
            )
        if self._greyed:
            return self.values(level, box)
        return self._read(level, box, range(len(self._stored.channels)))

    def close(self) -> None:
        """Close the file."""
        self._stored.close()

    def _choose_plane(self, axis: str, count: int, wanted: str | None) -> None:
        last = count - 1
        if wanted is None and count > 1:
            ways = ", ".join(f"{axis}={name}" for name in PROJECTIONS)
            unknown = self._stored.pages_unknown
            hint = ", or with --channel N if they are channels" if unknown else ""
            raise InputError(
                f"{self.name}: it holds {count} {'pages' if unknown else _AXES[axis]}; choose with --plane {axis}=0 to "
                f"{axis}={last}, {ways} or {axis}={ALL}{hint}"
            )
        if wanted == ALL and count > 1:
            raise InputError(f"{self.name}: it holds {count} {_AXES[axis]}; choose one of them, 0 to {last}")
        if wanted in PROJECTIONS and count > 1:
            self._project[axis] = (count, wanted)
        elif wanted is None or wanted == ALL or wanted in PROJECTIONS:
            self._plane[axis] = 0
        elif int(wanted) > last:
            raise InputError(f"{self.name}: --plane {axis}={wanted}: it holds {_AXES[axis]} 0 to {last}; choose one")
        else:
            self._plane[axis] = int(wanted)

    def _choose_channels(self, wanted: str | None) -> tuple[int, ...]:
        stored, count = self._stored, len(self._stored.channels)
        if wanted is not None:
            return (_number(self.name, wanted, stored.channels),)
        if count == 1:
            return (0,)
        colours = tuple(range(len(COLOURS)))
        if stored.rgb and count == len(COLOURS):
            return colours
        holding = self._holding()
        if stored.rgb and all(channel in colours for channel in holding):
            return colours
        if len(holding) <= 1:
            return (holding[0] if holding else 0,)
        if count == len(COLOURS) and self._transmitted():
            return colours
        raise InputError(
            f"{self.name}: it holds {count} channels ({listed(stored.channels)}); choose the one with the nuclei: "
            "--channel NAME or N"
        )

    def _read(self, level: int, box: Box, channels: Sequence[int]) -> NDArray[Any]:
        if not self._project:
            return self._stored.values(level, box, channels, self._plane)
        return self._projected(level, box, channels, list(self._project.items()), dict(self._plane))

    def _projected(
        self,
        level: int,
        box: Box,
        channels: Sequence[int],
        axes: list[tuple[str, tuple[int, str]]],
        plane: dict[str, int],
    ) -> NDArray[Any]:
        """The largest or mean value along the first of `axes`, of what that is along the others."""
        if not axes:
            return self._stored.values(level, box, channels, plane)
        (axis, (count, way)), others = axes[0], axes[1:]
        total: NDArray[Any] | None = None
        for index in range(count):
            values = self._projected(level, box, channels, others, {**plane, axis: index})
            if way == "mean":
                values = values.astype(np.float64)
            total = values if total is None else np.maximum(total, values) if way == "max" else total + values
        assert total is not None, "an axis has one plane or more"
        if way == "max":
            return total
        mean = total / count
        return (np.rint(mean) if self.dtype.kind in "ui" else mean).astype(self.dtype)

    def _level(self) -> int:
        """The level that is looked at to say what the image shows."""
        return max((k for k, shape in enumerate(self.shapes) if max(shape) >= _PREVIEW), default=0)

    def _all(self, channels: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Nine places of the image, and then all of it; of a small image only that."""
        level = self._level()
        height, width = self.shapes[level]
        if height * width <= 9 * _PLACE**2:
            yield self._read(level, (0, 0, width, height), channels)
            return
        for y in (0, (height - _PLACE) // 2, height - _PLACE):
            for x in (0, (width - _PLACE) // 2, width - _PLACE):
                x0, y0 = max(0, x), max(0, y)
                yield self._read(level, (x0, y0, min(x0 + _PLACE, width), min(y0 + _PLACE, height)), channels)
        for box in blocks((height, width)):
            yield self._read(level, box, channels)

    def _holding(self) -> list[int]:
        """The channels that are not of one value only; enough of them to say what the image is."""
        channels = range(len(self._stored.channels))
        low: NDArray[Any] | None = None
        high: NDArray[Any] | None = None
        held = np.zeros(len(channels), bool)
        for values in self._all(channels):
            with np.errstate(invalid="ignore"):
                values = np.nan_to_num(values) if values.dtype.kind == "f" else values
            smallest, largest = values.min(axis=(0, 1)), values.max(axis=(0, 1))
            low = smallest if low is None else np.minimum(low, smallest)
            high = largest if high is None else np.maximum(high, largest)
            held = low != high
            if held[len(COLOURS) :].any() or (not self._stored.rgb and held.sum() > 1):
                break
        return np.flatnonzero(held).tolist()

    def _transmitted(self) -> bool:
        """Whether more than half of each channel is bright."""
        if self.dtype != np.uint8:
            return False
        channels = tuple(range(len(COLOURS)))
        parts = [values.reshape(-1, len(channels)) for values, _ in zip(self._all(channels), range(9), strict=False)]
        return bool((np.median(np.concatenate(parts), axis=0) >= _BRIGHT).all())

    def _one_colour(self) -> bool:
        """Whether a colour image shows one colour on black, other than grey."""
        total, largest = np.zeros(_SUMS), 0.0
        for number, values in enumerate(self._all(self._channels)):
            if values.dtype.kind == "f":  # what is not a number is black
                values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
            largest = max(largest, float(values.max(initial=0)))
            # Nearly all images show by every fourth pixel of the first places that they are of several colours.
            if number == 0 and not _alike(_sums(values[::4, ::4], largest), part=True):
                return False
            if number == 9:
                if not _alike(total, part=True):
                    return False
                total = np.zeros(_SUMS)  # from here on it is all of the image
            total += _sums(values, largest)
        return _alike(total)


def _sums(values: NDArray[Any], largest: float) -> NDArray[np.float64]:
    """Over the pixels that show something and are not white, m being the largest channel: 3 x c m, 3 x c c, m m.

    Then the number of all pixels, and that of the black ones.
    """
    pixels = values.reshape(-1, len(COLOURS))
    most, least = pixels.max(axis=1), pixels.min(axis=1)
    counts = np.array([len(most), np.count_nonzero(most <= _BLACK * largest)])
    kept = pixels[(most > _SIGNAL * largest) & (least < _WHITE * largest)].astype(np.float32)
    most = kept.max(axis=1, initial=0)
    energies = (kept**2).sum(axis=0, dtype=np.float64)
    return np.concatenate([most @ kept, energies, [most @ most], counts], dtype=np.float64)


def _alike(sums: NDArray[np.float64], part: bool = False) -> bool:
    """Whether channels are shares of the largest one, of which at least one is small, on black; a part may show none.

    What is left of a channel when its share is taken off has the energy E_c - (sum of c m)^2 / (sum of m^2).
    """
    products, energy, (squares, pixels, black) = sums[:3], sums[3:6], sums[6:]
    if not squares:
        return part
    share = products / squares
    rest = energy - products**2 / squares
    most = _PALE if part or black >= _BLACK_SHARE * pixels else _DEEP
    return bool(share.min() <= most and rest.sum() <= _OFF_COLOUR * energy.sum())


def _number(name: str, wanted: str, channels: Sequence[str]) -> int:
    """The number of the channel that is wanted."""
    known = [channel.casefold() for channel in channels]
    if known.count(wanted.casefold()) == 1:
        return known.index(wanted.casefold())
    if wanted.isdecimal() and int(wanted) < len(channels):
        return int(wanted)
    raise InputError(f"{name}: --channel {wanted}: its channels are {listed(channels)}; choose one of them")

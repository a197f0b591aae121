"""Tiles of one field found by their edges alone: no table and no annotation is needed.

Two tiles that lie side by side show the same picture on both sides of the seam. Two figures are taken of each pair of
edges:

misfit
    Mean squared difference across the seam, over that between neighbouring lines inside the two tiles: about 1 for true
    neighbours, whatever the contrast; far above for most others.
evidence
    How unlikely so good a fit is between strangers, in nats (natural logarithm of the odds). Two edges of nothing but
    background fit each other and any other such edge: misfit 1, evidence 0.

Tiles are laid together while the evidence of all seams that a placement makes adds up, and no seam of it, whether it
was looked for or not, misfits: a dark seam is accepted where the rest of a 2 x 2 speaks for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

# Above this the two sides of a seam do not fit each other.
MISFIT = 2.0
# Below this, in nats, a fit may be chance. Chosen on edges that cannot belong together (see benchmarks/README.md).
EVIDENCE = 10.0
# Of one seam that is to be looked at together with others.
_HINT = 1.5
# Mean square of the difference of two rounded values.
_ROUNDING = 1 / 6
_ROWS = 512

Place = tuple[int, int]
# (before, after, axis): along axis 0 (down) or 1 (across) the one tile follows the other.
Seam = tuple[str, str, int]
_STEP: tuple[Place, Place] = ((1, 0), (0, 1))


class Edges(NamedTuple):
    """The outermost pixels of a tile.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the tile.
    lines : tuple of 4 uint8 arrays (length, 3)
        Top row, bottom row, left column, right column.
    steps : tuple of 4 floats
        Mean squared difference between each of them and the next line inside.
    """

    shape: tuple[int, int]
    lines: tuple[NDArray[np.uint8], ...]
    steps: tuple[float, ...]


def edges(image: NDArray[np.uint8]) -> Edges:
    """Edges of an image, uint8 (H, W, 3)."""
    pairs = [
        (turned[0], turned[:2][-1])  # a tile may be one pixel high
        for turned in (image, image[::-1], image.swapaxes(0, 1), image[:, ::-1].swapaxes(0, 1))
    ]
    steps = tuple(float(np.square(line.astype(np.float32) - inner).mean()) for line, inner in pairs)
    return Edges(image.shape[:2], tuple(line.copy() for line, _ in pairs), steps)


@dataclass(frozen=True)
class _Side:
    """One side of N tiles of one size: cosine coefficients (N, length, 3), steps (N,), deviations (N, length)."""

    coefficients: NDArray[np.float32]
    steps: NDArray[np.float32]
    deviations: NDArray[np.float32]

    @classmethod
    def of(cls, tiles: Iterable[Edges], side: int) -> _Side:
        tiles = list(tiles)
        lines = np.stack([tile.lines[side] for tile in tiles]).astype(np.float32)
        deviations = np.abs(lines - np.median(lines, axis=1, keepdims=True)).mean(2)
        steps = np.array([tile.steps[side] for tile in tiles], np.float32)
        return cls(dct(lines, axis=1, norm="ortho"), steps, deviations)

    def __getitem__(self, rows: slice) -> _Side:
        return _Side(self.coefficients[rows], self.steps[rows], self.deviations[rows])

    def mirrored(self) -> _Side:
        """The same edges turned end to end; to reverse a line changes the sign of every second coefficient."""
        signs = np.where(np.arange(self.coefficients.shape[1]) % 2, -1, 1).astype(np.float32)
        return _Side(self.coefficients * signs[:, None], self.steps, self.deviations[:, ::-1])


def seam_scores(before: _Side, after: _Side) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Misfit and evidence of every edge of one side against every edge of the other.

    The energy of the difference of two unrelated profiles is about the sum of their energies; the chance that m
    independent values give x times as much or less, for x < 1, is at most exp(-m (x - 1 - log x) / 2) (Chernoff's
    bound of the chi-squared distribution). This is summed over octaves of spatial frequency, in each of which the
    energy is about even, without the mean, which all tiles of a slide share. A profile with one nucleus and nothing
    else has fewer independent values than pixels, so the sum is multiplied by the share of the edge that the signal
    fills: the participation ratio of its deviations from the median.

    Returns
    -------
    misfit, evidence : float32 arrays (N, M)
        Evidence below 0 speaks against the seam.
    """
    length, channels = before.coefficients.shape[1:]
    difference = np.zeros((len(before.steps), len(after.steps)), np.float32)
    evidence = np.zeros_like(difference)
    # The mean stands alone, then octaves.
    bounds = [0, *(1 << k for k in range(length.bit_length()) if 1 << k < length), length]
    for low, high in pairwise(bounds):
        p = before.coefficients[:, low:high].reshape(len(difference), -1)
        q = after.coefficients[:, low:high].reshape(difference.shape[1], -1)
        apart = np.square(p).sum(1)[:, None] + np.square(q).sum(1)
        differs = np.maximum(apart - 2 * p @ q.T, 0)
        difference += differs
        if low:
            noise = (high - low) * channels * _ROUNDING
            x = (differs + noise) / (apart + noise)
            # Channels repeat each other, so they count once.
            evidence += np.sign(1 - x) * (x - 1 - np.log(x)) * ((high - low) / 2)
    misfit = (difference / (length * channels) + _ROUNDING) / ((before.steps[:, None] + after.steps) / 2 + _ROUNDING)
    total = before.deviations.sum(1)[:, None] + after.deviations.sum(1)
    squares = np.square(before.deviations).sum(1)[:, None] + np.square(after.deviations).sum(1)
    squares += 2 * before.deviations @ after.deviations.T
    return misfit, evidence * np.square(total) / np.maximum(length * squares, 1e-6)


class _Group:
    """Tiles of one size, and the scores of their seams."""

    def __init__(self, tiles: Mapping[str, Edges]) -> None:
        self.names = sorted(tiles)
        self.index = {name: number for number, name in enumerate(self.names)}
        ordered = [tiles[name] for name in self.names]
        # The bottom of one tile against the top of another, the right against the left.
        self.sides = tuple((_Side.of(ordered, side), _Side.of(ordered, side - 1)) for side in (1, 3))

    def score(self, seam: Seam) -> tuple[float, float]:
        """Misfit and evidence of one seam."""
        i, j = self.index[seam[0]], self.index[seam[1]]
        before, after = self.sides[seam[2]]
        misfit, evidence = seam_scores(before[i : i + 1], after[j : j + 1])
        return float(misfit[0, 0]), float(evidence[0, 0])

    def hints(self, mirrored: bool = False) -> Iterator[tuple[float, Seam]]:
        """Evidence of every seam that fits and has some; of edges turned end to end, which only fit by chance."""
        for axis, (before, after) in enumerate(self.sides):
            other = after.mirrored() if mirrored else after
            for start in range(0, len(self.names), _ROWS):
                misfit, evidence = seam_scores(before[start : start + _ROWS], other)
                for i, j in np.argwhere((misfit <= MISFIT) & (evidence >= _HINT)):
                    if start + i != j:
                        yield float(evidence[i, j]), (self.names[start + i], self.names[j], axis)

    def proposals(self) -> list[tuple[Seam, ...]]:
        """Seams that may hold, and 2 x 2 loops of seams that speak for each other, the best first.

        Sets `least`, the evidence that a placement needs: EVIDENCE, or more where edges turned end to end fit so well,
        since what all tiles share, such as uneven light, makes strangers alike.
        """
        hints = dict((seam, evidence) for evidence, seam in self.hints())
        chance = max((evidence for evidence, _ in self.hints(mirrored=True)), default=0.0)
        self.least = max(EVIDENCE, chance)
        right: dict[str, list[str]] = defaultdict(list)
        down: dict[str, list[str]] = defaultdict(list)
        for a, b, axis in hints:
            (right if axis else down)[a].append(b)
        ranked: list[tuple[float, tuple[Seam, ...]]] = [(evidence, (seam,)) for seam, evidence in hints.items()]
        for a in right.keys() & down.keys():
            for b in right[a]:
                for c in down[a]:
                    for d in down.get(b, ()):
                        loop = ((a, b, 1), (a, c, 0), (b, d, 0), (c, d, 1))
                        if loop[3] in hints and len({a, b, c, d}) == 4:
                            ranked.append((sum(hints[seam] for seam in loop), loop))
        return [seams for _, seams in sorted(ranked, key=lambda item: (-item[0], item[1]))]


def find_mosaics(tiles: Mapping[str, Edges]) -> list[dict[str, Place]]:
    """Lay tiles of equal size together by their edges.

    The best seams come first, so each of two tiles is the best partner of the other that is still free. A seam that is
    too weak alone is tried again when more tiles lie beside it. Of tiles with equal edges only the first by name is
    laid.

    Parameters
    ----------
    tiles : mapping of name to Edges

    Returns
    -------
    list of dict of name to (row, column)
        Each a mosaic of two or more tiles in one piece; the topmost row and the leftmost column are 0. The order, and
        everything else, does not depend on the order of the tiles.
    """
    distinct: dict[tuple[Any, ...], str] = {}
    for name in sorted(tiles):
        distinct.setdefault((tiles[name].shape, *(line.tobytes() for line in tiles[name].lines)), name)
    by_shape: dict[tuple[int, int], dict[str, Edges]] = defaultdict(dict)
    for name in distinct.values():
        by_shape[tiles[name].shape][name] = tiles[name]
    mosaics = [mosaic for shape in sorted(by_shape) for mosaic in _lay(_Group(by_shape[shape]))]
    return sorted(mosaics, key=lambda mosaic: min(mosaic, key=lambda name: (mosaic[name], name)))


def _lay(group: _Group) -> list[dict[str, Place]]:
    """Mosaics of the tiles of one size."""
    pieces = {name: {name: (0, 0)} for name in group.names}
    waiting, found_one = group.proposals(), True
    while found_one:
        found_one, tried, waiting = False, waiting, []
        for seams in tried:
            joined = _joined(pieces, seams)
            if joined is None:
                continue
            scores = [group.score(seam) for seam in _new_seams(pieces, joined)]
            if any(misfit > MISFIT for misfit, _ in scores):
                continue
            # Each piece that is laid to another has to be spoken for, or a loop of four weak seams would do for three.
            placements = len({id(pieces[name]) for name in joined}) - 1
            if sum(evidence for _, evidence in scores) < placements * group.least:
                waiting.append(seams)
                continue
            found_one = True
            for name in joined:
                pieces[name] = joined
    # One entry a piece, in the order of the names.
    mosaics = {id(piece): piece for piece in pieces.values() if len(piece) > 1}.values()
    return [_moved(piece, [-min(places) for places in zip(*piece.values(), strict=True)]) for piece in mosaics]


def _joined(pieces: Mapping[str, dict[str, Place]], seams: tuple[Seam, ...]) -> dict[str, Place] | None:
    """The pieces that some seams connect as one piece; None if they are one already, or two tiles share a place."""
    first = pieces[seams[0][0]]
    joined = dict(first)
    for a, b, axis in seams:
        goal = (joined[a][0] + _STEP[axis][0], joined[a][1] + _STEP[axis][1])
        if b not in joined:
            at = pieces[b][b]
            moved = _moved(pieces[b], (goal[0] - at[0], goal[1] - at[1]))
            if not set(moved.values()).isdisjoint(joined.values()):
                return None
            joined.update(moved)
        elif joined[b] != goal:
            return None
    return joined if len(joined) > len(first) else None


def _moved(piece: Mapping[str, Place], by: Iterable[int]) -> dict[str, Place]:
    down, across = by
    return {name: (row + down, column + across) for name, (row, column) in piece.items()}


def seams_of(piece: Mapping[str, Place]) -> list[Seam]:
    """Every seam between two tiles of a mosaic."""
    at = {place: name for name, place in piece.items()}
    return [
        (name, at[row + down, column + across], axis)
        for name, (row, column) in piece.items()
        for axis, (down, across) in enumerate(_STEP)
        if (row + down, column + across) in at
    ]


def _new_seams(pieces: Mapping[str, dict[str, Place]], joined: Mapping[str, Place]) -> list[Seam]:
    return [seam for seam in seams_of(joined) if pieces[seam[0]] is not pieces[seam[1]]]

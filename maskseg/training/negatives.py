"""Made-up pictures in which nothing is a nucleus: what a network that has only seen nuclei takes for some.

Every picture of the usual data sets is full of nuclei, so that a network learns that something in every picture is one.
These show print, masonry, scratches, textures, noise and uneven light, drawn anew for every sample, under no licence.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:()&%?!"))


def negative(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """A picture without nuclei, uint8 (side, side, 3): of a random kind, in random tones, sharpness and noise."""
    draw = _KINDS[rng.integers(len(_KINDS))]
    shape = draw(rng, side)
    low, high = shape.min(), shape.max()
    shape = (shape - low) / max(high - low, 1e-6)
    if rng.random() < 0.5:
        shape = 1 - shape
    if rng.random() < 0.5:
        shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(0.4, 2.0))
    dark, light = _tones(rng)
    picture = dark + (light - dark) * shape[..., None]
    if rng.random() < 0.3:
        picture *= 1 - rng.uniform(0.1, 0.6) * _light(rng, side)[..., None]
    grain = rng.normal(0, rng.uniform(0, 2), (*picture.shape[:2], 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def _tones(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two tones (3,), in half of the cases both grey, most often far from each other."""
    dark, light = np.sort(rng.uniform(0, 255, 2))
    if rng.random() < 0.7:
        dark, light = dark / 2, 255 - (255 - light) / 2
    if rng.random() < 0.5:
        return np.full(3, dark), np.full(3, light)
    return np.clip(dark + rng.normal(0, 40, 3), 0, 255), np.clip(light + rng.normal(0, 25, 3), 0, 255)


def _grain(rng: np.random.Generator, side: int) -> Picture:
    """Noise of one grain, from single pixels to wide haze."""
    # Wide grain is the same at a smaller size, enlarged.
    width = float(np.exp(rng.uniform(np.log(0.5), np.log(30))))
    smaller = max(int(width / 2), 1)
    noise = rng.normal(size=(side // smaller + 1,) * 2).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), width / smaller)
    return cv2.resize(soft, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def _texture(rng: np.random.Generator, side: int) -> Picture:
    """Noise of all grains, as clouds and rough surfaces have: a spectrum that falls by a power."""
    y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    stretch = np.exp(rng.uniform(-1, 1))
    frequency = np.hypot(y * stretch, x / stretch)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / frequency ** rng.uniform(0.5, 2.0)
    spectrum[0, 0] = 0
    return np.fft.irfft2(spectrum, s=(side, side)).astype(np.float32)


def _light(rng: np.random.Generator, side: int) -> Picture:
    """Uneven light: a spot or a slope, in [0, 1]."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    if rng.random() < 0.5:
        (cy, cx), wide = rng.uniform(0, 1, 2), rng.uniform(0.2, 0.8)
        return np.exp(-((np.hypot(x - cx, y - cy) / wide) ** 2)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * x + np.sin(angle) * y
    return ((slope - slope.min()) / (slope.max() - slope.min())).astype(np.float32)


def _print(rng: np.random.Generator, side: int) -> Picture:
    """Lines of letters."""
    page = np.zeros((side, side), np.uint8)
    scale, font = rng.uniform(0.3, 1.6), _FONTS[rng.integers(len(_FONTS))]
    step = int(scale * rng.uniform(26, 40)) + 2
    for y in range(int(rng.integers(step)), side + step, step):
        letters = rng.choice(_LETTERS, side // 6)
        spaces = rng.random(len(letters)) < 0.18
        line = "".join(np.where(spaces, " ", letters))
        cv2.putText(page, line, (-int(rng.integers(20)), y), font, scale, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    return page.astype(np.float32)


def _lattice(rng: np.random.Generator, side: int) -> Picture:
    """Bricks, tiles, chequers or stripes, turned by any angle."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    across, along = np.exp(rng.uniform(np.log(8), np.log(150), 2))
    row, column = np.floor(v / across), np.floor(u / along)
    kind = rng.integers(4)
    if kind == 0:
        return ((row + column) % 2).astype(np.float32)
    if kind == 1:
        return np.sin(2 * np.pi * v / across).astype(np.float32)
    moved = u + (row % 2) * along / 2 if kind == 2 else u
    column = np.floor(moved / along)
    joint = rng.uniform(0.05, 0.25) * min(across, along)
    inside = (v % across > joint) & (moved % along > joint)
    tones = rng.uniform(1 - rng.uniform(0, 0.7), 1, (64, 64)).astype(np.float32)
    return np.where(inside, tones[row.astype(int) % 64, column.astype(int) % 64], 0).astype(np.float32)


def _scratches(rng: np.random.Generator, side: int) -> Picture:
    """Fibres and scratches: thin, straight or bent."""
    drawn = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(5, 80))):
        start, turn = rng.uniform(0, side, 2), rng.normal(0, rng.uniform(0, 0.3), 24).cumsum() + rng.uniform(0, 7)
        steps = rng.uniform(4, side / 12) * np.stack([np.cos(turn), np.sin(turn)], 1)
        points = np.rint(start + steps.cumsum(0)).astype(np.int32)
        tone, thickness = int(rng.integers(80, 256)), int(rng.integers(1, 4))
        cv2.polylines(drawn, [points], False, tone, thickness, cv2.LINE_AA)
    return drawn.astype(np.float32)


def _shapes(rng: np.random.Generator, side: int) -> Picture:
    """Things before each other, as in a photograph: of all sizes, each with its tone, its shade and some texture."""
    rough = _texture(rng, side)
    rough *= rng.uniform(0, 0.4) / max(float(np.abs(rough).max()), 1e-6)
    drawn = rough + rng.uniform(0, 1)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    for _ in range(int(np.exp(rng.uniform(np.log(10), np.log(300))))):
        # As many of each size as fit: the number falls with the square.
        size = 0.03 * side / np.sqrt(rng.uniform(0.003, 1))
        turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        far = size * rng.uniform(0.3, 1.5, len(turn))
        points = rng.uniform(0, side, 2) + np.stack([np.cos(turn) * far, np.sin(turn) * far * rng.uniform(0.1, 1)], 1)
        x0, y0 = np.clip(np.floor(points.min(0)), 0, side).astype(int)
        x1, y1 = np.clip(np.ceil(points.max(0)) + 1, 0, side).astype(int)
        if x0 >= x1 or y0 >= y1:
            continue
        place = slice(y0, y1), slice(x0, x1)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [np.rint(points - (x0, y0)).astype(np.int32)], 1)
        along, across = rng.uniform(-2, 2, 2)
        shade = rng.uniform(0, 1) + along * (y[place] - y[y0, 0]) + across * (x[place] - x[0, x0]) + rough[place]
        np.copyto(drawn[place], shade, where=mask > 0)
    return np.clip(drawn, -0.2, 1.2)


_KINDS: tuple[Callable[[np.random.Generator, int], Picture], ...] = (
    _grain,
    _texture,
    _light,
    _print,
    _lattice,
    _scratches,
    # Photographs are more various than all the others.
    _shapes,
    _shapes,
)

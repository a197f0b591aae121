"""Pictures to look at: outlines over an image, and several pictures on one sheet.

True outlines are red and predicted ones blue, as in the figures of the original solution. Where the two
coincide the line is dashed in both: a third colour would be lost on stained tissue, which is purple itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.formats.classes import colours
from maskseg.formats.writer import ImageInfo, Writer
from maskseg.imaging.windows import Resized, Source

TRUTH_COLOUR = (255, 0, 0)
PREDICTION_COLOUR = (0, 140, 255)  # light enough for black background and purple tissue

LARGEST = 4096  # pixels of the longer side
_SMALLEST_SIDE = 1200  # pixels of the longer side, below which an image is enlarged for its outlines
_DASH = 8  # pixels


def overlay(
    image: np.ndarray,
    truth: np.ndarray | CropMasks | None = None,
    prediction: np.ndarray | CropMasks | None = None,
    marked: Sequence[tuple[np.ndarray, tuple[int, int, int]]] = (),
) -> np.ndarray:
    """Draw the outlines of true and predicted nuclei over an image.

    A small image is first enlarged by a whole factor, so that the line, two pixels wide, is thinner than an
    image pixel and hides little of a nucleus; in a large image it is one pixel wide. A line lies inside its
    nucleus, so touching nuclei keep a line each.

    Parameters
    ----------
    image : uint8 array (H, W, 3) or (H, W)
        RGB or grey.
    truth, prediction : integer array (H, W) or CropMasks, optional
        Label images or masks.
    marked : sequence of (integer array (H, W), RGB colour)
        Label images to outline over these, each in its colour.

    Returns
    -------
    uint8 array (f * H, f * W, 3)
        RGB; f is the smallest whole number that makes the longer side 1200 pixels or more.

    Raises
    ------
    InputError
        Masks and image differ in size.
    """
    height, width = image.shape[:2]
    factor = max(1, math.ceil(_SMALLEST_SIDE / max(height, width)))
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    drawn = _enlarge(image, factor)
    true = _outlines(truth, (height, width), factor)
    predicted = _outlines(prediction, (height, width), factor)
    drawn[true] = TRUTH_COLOUR
    drawn[predicted] = PREDICTION_COLOUR
    y, x = np.nonzero(true & predicted)
    dash = (x + y) // _DASH % 2 == 0
    drawn[y[dash], x[dash]] = TRUTH_COLOUR
    for labels, colour in marked:
        drawn[_outlines(labels, (height, width), factor)] = colour
    return drawn


def overlay_of_classes(
    image: np.ndarray, labels: np.ndarray, classes: NDArray[np.int32], names: Sequence[str]
) -> np.ndarray:
    """As `overlay`, with the nuclei in the colours of their classes and a legend, where there are several.

    Parameters
    ----------
    image : uint8 array (H, W, 3) or (H, W)
    labels : integer array (H, W)
    classes : int32 array (L + 1,)
        Class of each label, that of the background being of no account.
    names : sequence of str
    """
    if len(names) < 2:
        return overlay(image, prediction=labels)
    colour_of = colours(names)
    of_class = [
        (np.where((labels > 0) & (classes[labels] == kind), labels, 0), colour_of[name])
        for kind, name in enumerate(names)
    ]
    counts = np.bincount(classes[np.unique(labels[labels > 0])], minlength=len(names)).tolist()
    entries = [(f"{name} ({count})", colour_of[name]) for name, count in zip(names, counts, strict=True)]
    return with_legend(overlay(image, marked=of_class), entries)


def panel(pictures: Sequence[tuple[str, np.ndarray]], columns: int | None = None, cell: int = 480) -> np.ndarray:
    """Lay pictures with a title each on one sheet.

    Parameters
    ----------
    pictures : sequence of (title, uint8 array (H, W, 3))
        RGB; each is scaled to its cell with its aspect kept.
    columns : int, optional
        Pictures in a row; about square where not given.
    cell : int
        Side of a cell in pixels, without the title.

    Returns
    -------
    uint8 array (H', W', 3)
        RGB on white.
    """
    if not pictures:
        raise ValueError("a sheet needs at least one picture")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    gap, title_height = max(4, cell // 40), max(14, cell // 15)
    font = ImageFont.load_default(size=title_height * 0.62)
    fitted = [_fitted(picture, cell) for _, picture in pictures]
    rows = [fitted[i : i + columns] for i in range(0, len(fitted), columns)]
    heights = [title_height + max(picture.shape[0] for picture in row) + gap for row in rows]
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, sum(heights) + gap), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, ((title, _), picture) in enumerate(zip(pictures, fitted, strict=True)):
        left, top = gap + i % columns * (cell + gap), gap + sum(heights[: i // columns])
        draw.text((left, top), _shortened(title, font, cell), fill=(20, 20, 20), font=font)
        sheet.paste(Image.fromarray(picture), (left + (cell - picture.shape[1]) // 2, top + title_height))
    return np.asarray(sheet)


def write_picture(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write a picture, uint8 (H, W, 3) RGB, as a PNG file, whole or not at all."""
    # Outlines on enlarged pixels compress well at any level; a low one takes a fraction of the time.
    _, encoded = cv2.imencode(".png", picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 2])
    with write_whole(path) as file:
        file.write(encoded.data)


def with_legend(picture: np.ndarray, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """A picture, uint8 (H, W, 3), with a strip below that says what its colours mean."""
    height, width = picture.shape[:2]
    size = max(14, min(width // 40, 40))
    font = ImageFont.load_default(size=size)
    gap = size // 2
    places, left, top = [], gap, gap
    for text, colour in entries:
        text = _shortened(text, font, max(width - 4 * size, size))
        long = int(font.getlength(text)) + 3 * size
        if left > gap and left + long > width:
            left, top = gap, top + size + gap
        places.append((left, top, text, colour))
        left += long
    sheet = Image.new("RGB", (width, height + top + size + gap), (255, 255, 255))
    sheet.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for x, y, text, colour in places:
        draw.rectangle([x, height + y, x + size, height + y + size], fill=colour)
        draw.text((x + size + gap, height + y), text, fill=(20, 20, 20), font=font)
    return np.asarray(sheet)


class OverlayWriter(Writer):
    """A picture of each image with the outlines of its nuclei.

    That of nuclei which come tile by tile is made on a smaller copy where the image has a longer side than `LARGEST`.
    """

    def __init__(self, image: ImageInfo, *paths: Path) -> None:
        super().__init__(image, *paths)
        self._step = 1 if image.at_most is None else -(-max(image.shape) // LARGEST)
        self._labels = np.zeros([-(-length // self._step) for length in image.shape], np.int32)
        self._count = 0
        # Classes of the labels, where there are several.
        self._classes = [np.zeros(1, np.int32)]

    def add(self, masks: CropMasks, settled: int) -> None:
        """See `Writer`."""
        self._classes.append(masks.classes)
        if self.image.at_most is None:
            self._labels = masks.to_labels()
        else:
            _paint(self._labels, masks, self._step, self._count)
            self._count += len(masks)

    def close(self) -> None:
        """See `Writer`."""
        source = self.image.source
        assert source is not None, "the registry says that pixels are needed"
        height, width = self._labels.shape
        shown: Source = source if self._step == 1 else Resized(source, (height, width))
        pixels, classes = shown.read((0, 0, width, height)), np.concatenate(self._classes)
        write_picture(self.path, overlay_of_classes(pixels, self._labels, classes, self.image.class_names))


def _paint(small: np.ndarray, masks: CropMasks, step: int, count: int) -> None:
    """Draw masks on a label image of which a pixel is every `step`-th one of the image; labels follow `count`."""
    for label, ((x0, y0, x1, y1), bitmap) in enumerate(
        zip(masks.boxes.tolist(), masks.bitmaps, strict=True), start=count + 1
    ):
        part = bitmap[-y0 % step :: step, -x0 % step :: step]
        place = small[-(-y0 // step) : -(-y1 // step), -(-x0 // step) : -(-x1 // step)]
        place[part] = label


def _fitted(picture: np.ndarray, cell: int) -> np.ndarray:
    scale = cell / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def _outlines(masks: np.ndarray | CropMasks | None, shape: tuple[int, int], factor: int) -> np.ndarray:
    """Pixels of the inner borders of all nuclei in the enlarged image, bool (f * H, f * W)."""
    if masks is None:
        return np.zeros((shape[0] * factor, shape[1] * factor), bool)
    labels = masks.to_labels() if isinstance(masks, CropMasks) else masks
    if labels.shape != shape:
        raise InputError(
            f"masks of {labels.shape[0]} x {labels.shape[1]} pixels on an image of {shape[0]} x {shape[1]}"
        )
    labels = _enlarge(labels, factor)
    border: NDArray[np.bool_] = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    if factor > 1:
        border = cv2.dilate(border.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
    inner: NDArray[np.bool_] = border & (labels != 0)
    return inner


def _enlarge(array: np.ndarray, factor: int) -> np.ndarray:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _shortened(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(title + "…") > width:
        title = title[:-1]
    return title + "…"

"""Several images in the network at once, whatever each of them asks of it, and when."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from maskseg.imaging.reading import ImageFile
    from maskseg.inference.predictor import Predictor, SoftMasks

T = TypeVar("T")


def groups(images: Iterable[tuple[ImageFile, Future[Any]]], size: int) -> Iterator[list[tuple[ImageFile, Future[Any]]]]:
    """Images of equal size, up to `size` of them; as many again may wait for others of their size.

    Parameters
    ----------
    images : iterable of (ImageFile, Future)
        What is read of a file begins with its pixels. A file that cannot be read is a group of its own.
    size : int
    """
    waiting: dict[tuple[int, ...], list[tuple[ImageFile, Future[Any]]]] = {}
    for file, reading in images:
        shape = () if reading.exception() else reading.result()[0].shape
        waiting.setdefault(shape, []).append((file, reading))
        if not shape or len(waiting[shape]) == size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= 2 * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


@dataclass
class _Canvas:
    """What the image at a position waits for."""

    position: int
    pixels: NDArray[np.uint8]
    answer: Future[SoftMasks] = field(default_factory=Future)


def together(predictor: Predictor, steps: Sequence[Callable[[Predictor], T]]) -> list[Callable[[], T]]:
    """Do several things with a predictor at the same time, with one network for all.

    Each step has a thread. The network runs whenever all steps that are not done wait for it, on all canvases of one
    size that they wait for: what makes a batch follows from the images alone, not from the speed of the threads.

    Parameters
    ----------
    predictor : Predictor
    steps : sequence of function
        Each takes a predictor, whose `Predictor.on_canvas` waits for the others.

    Returns
    -------
    list of function
        For each step one that returns what the step returned, or raises what it raised.
    """
    if len(steps) == 1:
        return [partial(steps[0], predictor)]
    asked: SimpleQueue[_Canvas | None] = SimpleQueue()

    def wait(position: int, pixels: NDArray[np.uint8]) -> SoftMasks:
        canvas = _Canvas(position, pixels)
        asked.put(canvas)
        return canvas.answer.result()

    def do(position: int, step: Callable[[Predictor], T]) -> T:
        mine = copy.copy(predictor)
        mine.on_canvas = partial(wait, position)  # type: ignore[method-assign]
        try:
            return step(mine)
        finally:
            asked.put(None)

    busy, waiting = len(steps), []
    with ThreadPoolExecutor(busy) as threads:
        done = [threads.submit(do, position, step) for position, step in enumerate(steps)]
        try:
            while busy:
                while len(waiting) < busy:
                    if canvas := asked.get():
                        waiting.append(canvas)
                    else:
                        busy -= 1
                waiting.sort(key=lambda canvas: (canvas.pixels.shape, canvas.position))
                for _, batch in groupby(waiting, key=lambda canvas: canvas.pixels.shape):
                    _answer(predictor, list(batch))
                waiting.clear()
        finally:
            # Where the run is interrupted nobody waits for ever.
            for canvas in waiting:
                canvas.answer.cancel()
            while busy:
                if canvas := asked.get():
                    canvas.answer.cancel()
                else:
                    busy -= 1
    return [one.result for one in done]


def _answer(predictor: Predictor, batch: list[_Canvas]) -> None:
    """Give each canvas of a batch what the network finds in it, or what is raised."""
    try:
        found = predictor.on_canvases([canvas.pixels for canvas in batch])
    except (MemoryError, torch.OutOfMemoryError) as error:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        for canvas in batch:
            _answer(predictor, [canvas])
    except Exception as error:
        for canvas in batch:
            canvas.answer.set_exception(error)
    else:
        for canvas, masks in zip(batch, found, strict=True):
            canvas.answer.set_result(masks)

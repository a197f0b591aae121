"""Several images in the network at once, whatever each of them asks of it, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.inference.predictor import Predictor

if TYPE_CHECKING:
    from maskseg.imaging.reading import ImageFile

logger = logging.getLogger(__name__)

# What is raised where the memory, of the machine or of a GPU, is too small.
OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)

Answer = TypeVar("Answer")
Result = TypeVar("Result")


def groups(
    images: Iterable[tuple[ImageFile, Future[Any]]], size: int, kind: Callable[[Any], Hashable]
) -> Iterator[list[tuple[ImageFile, Future[Any]]]]:
    """Images of one kind, up to `size` of them; as many again may wait for others of their kind.

    Parameters
    ----------
    images : iterable of (ImageFile, Future)
        A file that cannot be read is a group of its own.
    size : int
    kind : function
        Of what was read of a file, such as the shape of its image; never None.
    """
    waiting: dict[Hashable, list[tuple[ImageFile, Future[Any]]]] = {}
    for file, reading in images:
        key = None if reading.exception() else kind(reading.result())
        waiting.setdefault(key, []).append((file, reading))
        if key is None or len(waiting[key]) == size:
            yield waiting.pop(key)
        elif sum(map(len, waiting.values())) >= 2 * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def run_batched(
    works: Sequence[Generator[NDArray[Any], Answer, Result]],
    network: Callable[[Sequence[NDArray[Any]]], Sequence[Answer]],
) -> list[Result]:
    """Do the work on several images at the same time, with one network for all.

    The network runs whenever every work that is not done waits for it, on all canvases of one size that they wait for:
    what makes a batch follows from the images alone. A batch that is too large for the memory goes one by one.

    Parameters
    ----------
    works : sequence of generator
        Each yields an array, what the network shall see, and is sent what the network says to it.
    network : function
        Several arrays of one shape to an answer for each.

    Returns
    -------
    list
        What each work returned.

    Examples
    --------
    >>> def area(side):
    ...     return (yield np.ones((side, side)))
    >>> run_batched([area(2), area(3), area(2)], lambda batch: [print(len(batch), "at once") or x.size for x in batch])
    2 at once
    2 at once
    1 at once
    [4, 9, 4]
    """
    results: dict[int, Result] = {}
    waiting: dict[int, NDArray[Any]] = {}

    def go_on(position: int, work: Generator[NDArray[Any], Answer, Result], *answer: Answer) -> None:
        try:
            waiting[position] = work.send(*answer) if answer else next(work)
        except StopIteration as end:
            results[position] = end.value

    for position, work in enumerate(works):
        go_on(position, work)
    while waiting:
        asked = sorted(waiting.items(), key=lambda item: (item[1].shape, item[0]))
        answers: dict[int, Answer] = {}
        waiting.clear()
        for _, same in groupby(asked, key=lambda item: item[1].shape):
            positions, canvases = zip(*same, strict=True)
            answers.update(zip(positions, _answers(network, canvases), strict=True))
        # Let go, so that each canvas lives no longer than the work that made it wants it.
        del asked, canvases
        for position in sorted(answers):
            go_on(position, works[position], answers.pop(position))
    return [results[position] for position in range(len(works))]


@lru_cache
def say_once(text: str) -> None:
    """Warn of something that is of interest once, and would come again with every image."""
    logger.warning("%s", text)


def _answers(
    network: Callable[[Sequence[NDArray[Any]]], Sequence[Answer]], canvases: Sequence[NDArray[Any]]
) -> Sequence[Answer]:
    try:
        return network(canvases)
    except OUT_OF_MEMORY:
        if len(canvases) == 1:
            raise
    say_once("the memory is too small for several images at once: they go through the network one at a time")
    return [network([canvas])[0] for canvas in canvases]


class BatchedPredictor(Predictor, Generic[Answer]):
    """What predictors share that run a network on canvases: `steps` says what is done, `on_canvases` is the network."""

    def on_canvases(self, canvases: Sequence[NDArray[np.uint8]]) -> list[Answer]:
        """What the network says to canvases of one size, which go through it as one batch."""
        raise NotImplementedError

    def steps(
        self, image: NDArray[np.uint8], tta: str | None = None
    ) -> Generator[NDArray[np.uint8], Answer, CropMasks]:
        """`segment`, by questions: a canvas, to which it is sent the answer of the network."""
        raise NotImplementedError

    def on_canvas(self, canvas: NDArray[np.uint8]) -> Answer:
        """`on_canvases` for one."""
        return self.on_canvases([canvas])[0]

    def segment(self, image: NDArray[np.uint8], tta: str | None = None) -> CropMasks:
        """See `maskseg.inference.predictor.Predictor`."""
        return self.segment_batch([image], tta)[0]

    def segment_batch(self, images: Sequence[NDArray[np.uint8]], tta: str | None = None) -> list[CropMasks]:
        """See `maskseg.inference.predictor.Predictor`."""
        return run_batched([self.steps(image, tta) for image in images], self.on_canvases)

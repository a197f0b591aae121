"""Processes of a Ray cluster that are given work portion by portion; what one of them dies of is done again.

Each process is given one portion at a time, so that none waits for work that another one holds. Where a process dies,
another takes its place, and the items of its portion are given again one by one: an item that ends a second process is
told as lost. A process that no machine has room for is given nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from maskseg.core.errors import OutputError

Item = TypeVar("Item")

# Processes in a row that may end before they are ready.
_STARTS = 3


@dataclass(frozen=True)
class Ended:
    """What a process answers where nothing can be done, there or elsewhere: the end of the run."""

    reason: str


class Lost:
    """The outcome of an item that ended two processes."""


@dataclass(frozen=True)
class _Portion(Generic[Item]):
    items: Sequence[Item]
    # Whether a process has died of it, or of the portion that it is from.
    again: bool = False


class Pool:
    """Processes, started when there is work for them.

    Parameters
    ----------
    ray : module
        Connected.
    worker : type
        Made in each process with `arguments`. Has ``ready()``, which gives None or `Ended`, and methods that take
        items, a list, and give an outcome for each, a list too, or `Ended`.
    arguments : tuple
    count : int
        How many processes at most.
    options : dict
        What Ray is to give to each.
    """

    def __init__(self, ray: Any, worker: type, arguments: tuple[Any, ...], count: int, options: dict[str, Any]) -> None:
        self.count, self._ray, self._arguments = count, ray, arguments
        # What is lost is given again here, where it is known which.
        self._make = ray.remote(worker).options(max_restarts=0, max_task_retries=0, **options)
        self._idle: list[Any] = []
        # By what is waited for: a process, and its portion; None where nobody asks for its outcomes.
        self._busy: dict[Any, tuple[Any, _Portion[Any] | None]] = {}
        self._deaths = 0

    def _start(self) -> None:
        process = self._make.remote(*self._arguments)
        self._busy[process.ready.remote()] = process, None

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            self._ray.kill(process)
        self._idle, self._busy = [], {}

    def run(
        self, method: str, portions: Sequence[Sequence[Item]], *arguments: Any
    ) -> Generator[tuple[Item, Any], None, None]:
        """Each item with its outcome, or `Lost`, in any order; close it where the loop may end early.

        Parameters
        ----------
        method : str
            Of the worker.
        portions : sequence of sequences
            Items that are given at once.
        *arguments
            Given to the method after the items.

        Raises
        ------
        OutputError
            A process answered `Ended`, or none can be started.
        """
        todo = deque(_Portion(items) for items in portions)
        left = sum(map(len, portions))
        try:
            while left:
                working = sum(portion is not None for _, portion in self._busy.values())
                wanted = min(self.count, len(todo) + working)
                for _ in range(wanted - len(self._idle) - len(self._busy)):
                    self._start()
                while todo and self._idle:
                    process, portion = self._idle.pop(), todo.popleft()
                    self._busy[getattr(process, method).remote(list(portion.items), *arguments)] = process, portion
                for item, outcome in self._next(todo):
                    left -= 1
                    yield item, outcome
        finally:
            # What is still at work comes back to nobody.
            self._busy = {reference: (process, None) for reference, (process, _) in self._busy.items()}

    def _next(self, todo: deque[_Portion[Any]]) -> list[tuple[Any, Any]]:
        """Wait for one process; what it says of items. What it died of is to do again."""
        (reference,), _ = self._ray.wait(list(self._busy), num_returns=1)
        process, portion = self._busy.pop(reference)
        try:
            outcomes = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise  # a fault of the method
        except self._ray.exceptions.RayError as error:
            self._deaths += 1
            if self._deaths > _STARTS * self.count:
                reason = " ".join(str(error).split())[:300]
                raise OutputError(f"processes of Ray end at once, perhaps out of memory: {reason}") from error
            if portion is None:
                return []
            if portion.again and len(portion.items) == 1:
                return [(portion.items[0], Lost())]
            todo.extend(_Portion([item], again=True) for item in portion.items)
            return []
        self._deaths = 0
        if isinstance(outcomes, Ended):
            raise OutputError(outcomes.reason)
        self._idle.append(process)
        return [] if portion is None else list(zip(portion.items, outcomes, strict=True))


def portions(items: Sequence[Item], processes: int, most: int) -> list[Sequence[Item]]:
    """Items in portions of at most so many, four for each process at least where there are enough."""
    size = max(1, min(most, len(items) // (processes * 4)))
    return [items[first : first + size] for first in range(0, len(items), size)]

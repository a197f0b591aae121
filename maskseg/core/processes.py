"""Work on many images over processes: results in order, memory bounded, an end in good order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TypeVar

import cv2

from maskseg.core.errors import InputError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# A process takes about as long to start as this many images take to convert.
_LEAST_ITEMS = 12
# Results that may wait for an earlier one, for each process.
_AHEAD = 4


def give_back_memory() -> None:
    """Give the system what was freed: glibc keeps it, in ever more pieces where tensors of many sizes come and go."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def in_order(work: Callable[[Item], Outcome], items: Sequence[Item], workers: int) -> Generator[Outcome]:
    """Results of a function in the order of its items, made in several processes, a few of them ahead.

    Close it (`contextlib.closing`) where the loop over it may end early: what has begun is then ended and the
    processes are gone. Ctrl-C reaches this process only.

    Parameters
    ----------
    work : function
        Defined at the top of its module, or a `functools.partial` of such; it and the items are pickled.
    items : sequence
    workers : int
        Processes at most; fewer for few items. With more than one, a script must be guarded by
        ``if __name__ == "__main__"``.

    Yields
    ------
    outcome
        ``work(item)`` of each item. What it raises is raised here.

    Raises
    ------
    InputError
        If a process was killed.
    """
    workers = min(workers, len(items) // _LEAST_ITEMS)
    if workers <= 1:
        yield from map(work, items)
        return
    # Started afresh and not forked: a fork of a process that has threads may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start)
    try:
        waiting: deque[Future[Outcome]] = deque()
        for item in items:
            with _interrupts_held():
                waiting.append(pool.submit(work, item))
            if len(waiting) == workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "one of the processes was killed, perhaps for want of memory; give fewer with --workers"
        ) from error
    finally:
        # What has begun is ended, so that no half file stays.
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started in here never see Ctrl-C: this one ends them in good order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start() -> None:
    """One thread for each process, and an end to it when its parent has gone without a word."""
    cv2.setNumThreads(1)
    os.environ["TIFFFILE_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

"""How many threads there are to be, and how they wait for one another.

Imported before torch and NumPy, whose threads look at the environment once, when they are loaded.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path

# Where Linux says what share of the processors a container has: in version 2 of its control groups, and in version 1.
_GROUPS = Path("/sys/fs/cgroup")
# Turns of an idle loop, some tenths of a millisecond; GNU's own are 300,000, longer than another program's turn.
_TURNS = "10000"
# Whether the threads of torch were there before that was said.
_too_late = False


def available_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota() or cores)


def _quota() -> int | None:
    """Cores for whose time a container is given time; None where it is not bound."""
    # What is not there, or says "max", does not bind.
    with suppress(OSError, ValueError):
        time, period = (_GROUPS / "cpu.max").read_text().split()
        return max(1, ceil(int(time) / int(period)))
    with suppress(OSError, ValueError):
        time, period = ((_GROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(1, ceil(int(time) / int(period))) if int(time) > 0 else None
    return None


def wait_without_work() -> None:
    """Let threads that wait for one another sleep soon, and be no more than the cores that a container may use.

    Where a core is shared with another program, a thread that turns while it waits takes the time that the one it
    waits for needs: two threads were then eight times slower than one. What the user has set stays.
    """
    global _too_late
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        _too_late = "torch" in sys.modules
        os.environ["GOMP_SPINCOUNT"] = _TURNS
    if quota := _quota():
        os.environ.setdefault("OMP_NUM_THREADS", str(min(quota, available_cores())))


def others_get_the_cores() -> bool:
    """Whether threads of torch that wait leave their cores to those of other libraries.

    They do not where torch was imported before maskseg and nothing was set, or with other threads than GNU's.
    """
    if sys.platform != "linux" or _too_late:
        return False
    policy, turns = os.environ.get("OMP_WAIT_POLICY", ""), os.environ.get("GOMP_SPINCOUNT", "")
    return turns.isdecimal() and int(turns) <= int(_TURNS) if turns else policy.lower() == "passive"

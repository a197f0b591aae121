"""The machine and the day, as every table of a benchmark states them."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
_FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "BF16", "amx_tile": "AMX"}


def machine() -> str:
    """Such as ``2 cores of an AMD EPYC (AVX2), 2026-11-28``."""
    known: dict[str, str] = {}
    for line in _INFO.read_text().splitlines() if _INFO.is_file() else ():
        key, _, value = line.partition(":")
        known.setdefault(key.strip(), value.strip())
    name = known.get("model name") or platform.processor() or platform.machine()
    flags = [title for flag, title in _FLAGS.items() if flag in known.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of an {name} ({', '.join(flags) or 'no AVX2'}), {date.today()}"


if __name__ == "__main__":
    print(machine())

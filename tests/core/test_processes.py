"""Memory goes back to the system."""

import sys
from pathlib import Path

import pytest

from maskseg.core.processes import give_back_memory


def resident() -> int:
    """Megabytes that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096 >> 20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another allocator")
def test_what_was_freed_between_what_is_kept_goes_back():
    give_back_memory()
    before = resident()
    # Of 200 MB every hundredth piece stays, the last one too, so that the heap cannot shrink by itself.
    pieces = [bytearray(100_000) for _ in range(2000)]
    assert resident() - before > 150
    kept = pieces[99::100]
    del pieces
    assert resident() - before > 100
    give_back_memory()
    assert resident() - before < 50
    assert len(kept) == 20

"""Memory of a program that predicts image after image."""

from __future__ import annotations

import ctypes

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next layer, tile or image; to be called once by a program.

    The features of a large image are some hundred megabytes, which glibc gives back to the system after each layer and
    asks for anew, cleared, for the next. What is kept is some hundred megabytes, too. No other C
    library is told anything.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

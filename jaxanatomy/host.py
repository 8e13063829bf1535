"""Settings of the process that JAX on a CPU runs in."""

import ctypes
import sys

# From malloc.h: settings of glibc's allocator.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Lets glibc keep what XLA frees, rather than hand it back after every call.

    Large temporaries otherwise come as fresh pages each time: thousands of page faults
    a call. Call it before threads are started: theirs are arenas that map large blocks one by
    one, so there is to be none but the main arena. Does nothing where the C library is not
    glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_TRIM_THRESHOLD, -1)  # never

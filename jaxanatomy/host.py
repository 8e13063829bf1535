"""The process and the machine that JAX runs on."""

import ctypes
import os
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


def unusable_platform() -> str | None:
    """What is wrong with JAX_PLATFORMS, if JAX finds no device of it here; else None.

    For the place where an exception arrives: JAX's own is a bare AssertionError for "cuda".
    """
    wanted, jax = os.environ.get("JAX_PLATFORMS"), sys.modules.get("jax")
    if not wanted or jax is None:
        return None
    try:
        jax.devices()
        return None
    except Exception:
        jax.config.update("jax_platforms", "")  # what JAX would choose by itself
    there = ", ".join(sorted({device.platform for device in jax.devices()}))
    install = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}.get(wanted.partition(",")[0].lower())
    extra = f", or install jaxanatomy[{install}] on a machine that has one" if install else ""
    return (
        f"JAX_PLATFORMS={wanted} names no device that JAX can use here; there is {there}; set "
        f"JAX_PLATFORMS={there.partition(',')[0]}, or leave it out{extra}"
    )

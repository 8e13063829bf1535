"""What a process of several says when another one is gone: one line, not a stack of C++.

JAX's coordination service ends every process when one is lost: it prints a stack trace and
calls abort() in a thread of its own, where no Python exception can be caught. So foreign
messages go to a file meanwhile, and abort() comes to a handler of ours.
"""

import ctypes
import os
import signal
import sys
import tempfile

HEARTBEAT_SECONDS = 30  # without a sign of life, until the others end
STATUS = 1
LINE = (
    "error: another process of this run has ended or cannot be reached; see what it says; start "
    "all processes again with the same --workdir, and the run goes on"
)
_SERVICE = ("distributed service", "coordination service", "coordination_service")
_COLLECTIVE = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")

_kept: list[object] = []  # what C holds on to: the handler, the file


def explain_loss() -> None:
    """From now on a lost peer ends this process with `LINE` and status 1."""
    if _kept:
        return
    file = tempfile.TemporaryFile()  # noqa: SIM115 - open to the end of the process
    real = os.dup(2)
    sys.stderr.flush()
    sys.stderr = os.fdopen(real, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(file.fileno(), 2)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def aborted(number: int) -> None:
        del number
        text = _text_of(file.fileno())
        lost = any(words in text.lower() for words in _SERVICE)
        os.write(real, f"{LINE}\n".encode() if lost else text.encode())
        os._exit(STATUS if lost else 128 + signal.SIGABRT)

    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = (ctypes.c_int, type(aborted))
    set_handler(signal.SIGABRT, aborted)
    _kept.extend((file, aborted))


def is_loss(error: BaseException) -> bool:
    """Whether an exception says that another process is gone: of a collective that failed."""
    words = str(error).lower()
    return several() and any(each in words for each in (*_SERVICE, *_COLLECTIVE))


def several() -> bool:
    """Whether this is one process of several."""
    return bool(_kept)


def leave(status: int) -> None:
    """Ends a process of several at once if it has failed.

    At an ordinary end JAX would wait minutes for the others, which wait for this one.
    """
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def foreign_messages() -> str:
    """What libraries have written to the standard error meanwhile."""
    return _text_of(_kept[0].fileno()) if _kept else ""


def _text_of(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")

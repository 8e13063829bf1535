"""Ctrl-C and SIGTERM end a program at once, with one line, whatever it is doing.

Python runs signal handlers between two of its own instructions: not while a compiler or a
foreign library works, and an exception that arrives in a callback or an import is lost or
ends in an abort. So a thread of our own hears of the signal, from a pipe that Python's C
handler writes to, and ends the process without unwinding it. Nothing on disk depends on a
last word: every file appears whole, and what a killed process was writing is swept up by
the next.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

STATUS = 130  # as a shell reports Ctrl-C; the same for SIGTERM

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _State:
    """What the process says; there is one of it, as there is one process."""

    line = "interrupted; nothing was written"
    listening = False


_state = _State()
_ending = threading.Lock()


def listen() -> None:
    """Answers signals from now on; for the main of a program, as early as possible.

    A signal that the process was told to ignore (`nohup`, a shell's background job) stays
    ignored.
    """
    if _state.listening or threading.current_thread() is not threading.main_thread():
        return
    _state.listening = True
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    threading.Thread(target=_wait, args=(heard,), daemon=True, name="interrupts").start()


def say(line: str) -> None:
    """Sets the line that an interrupted program prints: how to go on."""
    _state.line = line


def done() -> None:
    """From now on signals are ignored: all is written, and the interpreter shuts down."""
    if _state.listening:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _wait(heard: int) -> None:
    """The thread: hears of a signal though the main thread be deep in foreign code."""
    while os.read(heard, 1)[0] not in _SIGNALS:
        pass
    _end()


def _handle(number: int, frame: Any) -> None:
    """The main thread's part, should it be the first to execute Python."""
    del number, frame
    _end()


def _end() -> None:
    """Says the line and ends the process, in whichever thread comes first."""
    if not _ending.acquire(blocking=False):
        return
    start = "\n" if os.isatty(_stderr()) else ""  # a bar or ^C stands in the line
    with contextlib.suppress(OSError):
        os.write(_stderr(), f"{start}{_state.line}\n".encode())
    for child in _children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGINT)  # pip cleans up after itself
    os._exit(STATUS)


def _stderr() -> int:
    """The descriptor of the standard error, wherever it goes now."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2


def _children() -> list[int]:
    """Processes that this one has started, where the system tells (Linux)."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found

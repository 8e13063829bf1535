"""Progress of long work on stderr, with an estimate of the time left."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO


def format_duration(seconds: float) -> str:
    """A duration as people say it: "0.52 s", "12.5 s", "2 min 05 s", "1 h 02 min"."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Reports progress: a bar on a terminal, nothing elsewhere unless it is forced.

    with Progress(len(chunks), "importance") as progress:
        for chunk in chunks:
            ...
            progress.update()

    Args:
      total: Units of work.
      label: What the work is.
      force: Where stderr is no terminal, write a plain line now and then.
      stream: Written to instead of stderr.
      interval: Seconds between plain lines.
      clock: Returns seconds.
    """

    def __init__(
        self,
        total: int,
        label: str,
        *,
        force: bool = False,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._label, self._force = total, label, force
        self._stream = sys.stderr if stream is None else stream
        self._interval, self._clock = interval, clock
        self._done = 0
        self._bar = None

    def __enter__(self) -> "Progress":
        self._start = self._last = self._clock()
        if self._stream.isatty():
            import tqdm

            self._bar = tqdm.tqdm(total=self._total, desc=self._label, file=self._stream)
        return self

    def update(self, units: int = 1) -> None:
        """Records that `units` more are done."""
        self._done += units
        if self._bar is not None:
            self._bar.update(units)
        elif self._force and self._clock() - self._last >= self._interval:
            self._last = self._clock()
            self._line()

    def __exit__(self, *exception: Any) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._force:
            self._line()

    def _line(self) -> None:
        elapsed = self._clock() - self._start
        text = f"{self._label}: {self._done}/{self._total}, {format_duration(elapsed)}"
        if 0 < self._done < self._total:
            left = elapsed / self._done * (self._total - self._done)
            text += f", about {format_duration(left)} left"
        print(text, file=self._stream, flush=True)

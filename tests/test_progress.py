"""Progress on a terminal, forced, and quiet."""

import io

import pytest

from jaxanatomy.progress import Progress, format_duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, "0.00 s"),
        (0.994, "0.99 s"),
        (0.996, "1.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


def test_quiet_without_a_terminal():
    stream = io.StringIO()
    with Progress(3, "work", stream=stream, interval=0) as progress:
        progress.update(3)
    assert stream.getvalue() == ""


def test_forced_lines_come_at_the_interval_with_the_time_left():
    stream, now = io.StringIO(), [100.0]
    with Progress(40, "work", force=True, stream=stream, clock=lambda: now[0]) as progress:
        for _ in range(8):
            now[0] += 4
            progress.update(5)
    assert stream.getvalue().splitlines() == [
        "work: 15/40, 12.0 s, about 20.0 s left",
        "work: 30/40, 24.0 s, about 8.0 s left",
        "work: 40/40, 32.0 s",
    ]


def test_a_bar_on_a_terminal():
    stream = Terminal()
    with Progress(2, "work", stream=stream) as progress:
        progress.update()
        progress.update()
    assert "work" in stream.getvalue()
    assert "2/2" in stream.getvalue()

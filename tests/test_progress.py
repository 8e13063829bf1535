"""Progress: a bar on a terminal, lines elsewhere, nothing from a library."""

import io
import logging
import re
import sys
import time

import pytest

from jaxanatomy.progress import Progress, announced, format_duration, logging_to_stderr


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


@pytest.fixture
def log(caplog):
    """The lines of the package, as the command line would write them."""
    caplog.set_level("INFO", logger="jaxanatomy")
    return caplog


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing was said"
        time.sleep(0.005)


def test_a_short_work_says_nothing_where_there_is_no_terminal(log):
    stream = io.StringIO()
    with Progress(3, "work", stream=stream) as progress:
        progress.update(3)
    assert (stream.getvalue(), log.messages) == ("", [])


def test_lines_come_at_the_interval_in_units_with_the_time_left(log):
    stream = io.StringIO()
    settings = {"unit": "variants", "work": 400, "stream": stream, "interval": 0.02}
    with Progress(40, "sentences", **settings) as progress:
        until(lambda: log.messages)  # though no step was done
        progress.update(105)
        seen = len(log.messages) + 1
        until(lambda: len(log.messages) > seen)
        during = log.messages[-1]
        progress.update(295)
        seen = len(log.messages) + 1
        until(lambda: len(log.messages) > seen)
    assert re.fullmatch(r"sentences: 0 of 40 variants, [\d.]+ s", log.messages[0])
    assert re.fullmatch(r"sentences: 10 of 40 variants, [\d.]+ s, about [\d.]+ s left", during), (
        during
    )
    assert re.fullmatch(r"sentences: 40 of 40 variants, [\d.]+ s", log.messages[-1])
    assert stream.getvalue() == ""


def test_what_has_no_steps_is_announced_and_said_again_while_it_lasts(log):
    with announced("loading a model", interval=0.02):
        assert log.messages == ["loading a model"]
        until(lambda: len(log.messages) > 1)
    assert re.fullmatch(r"still loading a model, [\d.]+ s", log.messages[1])
    after = len(log.messages)
    time.sleep(0.1)
    assert len(log.messages) == after


def test_a_library_says_nothing_unless_it_is_asked(capsys):
    with announced("loading a model", interval=0.01), Progress(3, "work", interval=0.01):
        time.sleep(0.1)
    assert capsys.readouterr() == ("", "")


def test_the_command_line_writes_the_lines_with_the_time(capsys, monkeypatch):
    # As a library gives the root logger one.
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stderr)])
    with logging_to_stderr(), announced("loading a model"):
        pass
    assert re.fullmatch(r"\d\d:\d\d:\d\d loading a model\n", capsys.readouterr().err)
    monkeypatch.undo()
    with announced("loading another"):
        pass
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(log):
    stream = Terminal()
    with Progress(2, "work", unit="variants", work=10, stream=stream) as progress:
        progress.update(4)
        assert "2/2" not in stream.getvalue()
        progress.update(6)
    assert "work" in stream.getvalue()
    assert "2/2" in stream.getvalue()
    assert log.messages == []

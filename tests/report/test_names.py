"""Texts may be called anything: pictures have names of their own, figures show them as they are."""

import html
import string

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxanatomy.report import plot, style, views, write_report

NAMES = (
    "$x$",
    "a_b^c",
    r"\frac{",
    "$\\frac{1}{$",
    "100 %",
    "a $5 or $6",
    "x\ny",
    "日本語",
    "😀",
    "שלום",
    "<b>&amp;",
    "../../etc/passwd",
    "con",
    " ",
    "a" * 300,
)
SAFE = set(string.ascii_lowercase + string.digits + "_-")


def named(rows, *names):
    """The rows of one text once for each name."""
    one = rows[0]["text"]
    return [
        row | {"text": name, "hash": f"{row['hash']}{at}"}
        for at, name in enumerate(names)
        for row in rows
        if row["text"] == one
    ]


def test_a_page_of_texts_with_any_names_has_a_panel_for_each(rows, make_run, monkeypatch):
    monkeypatch.setattr(views, "to_png", lambda figure: b"png")
    names = NAMES[:1] + NAMES[7:8]
    rows = [row for row in rows if row["variant"].startswith(("baseline", "zero/"))]
    folder = make_run(named(rows, *names))
    page = write_report(folder).read_text(encoding="utf-8")
    files = {path.stem for path in (folder / "figures").glob("*.png")}
    assert all(set(name) <= SAFE for name in files)
    heads = page[page.index('<h2 id="heads">') : page.index('<h2 id="all-layers">')]
    for name in names:
        assert heads.count(f">{html.escape(name, quote=False)}, each query head: zero<") == 1


def labels(ax):
    return {text.get_text() for text in ax.figure.findobj(Text)}


@pytest.mark.parametrize("name", ["$x$", "$\\frac{1}{$ a_b^c 100 % 日本語"])
@pytest.mark.parametrize("draw", [plot.importance, plot.scopes, plot.heads, plot.controls])
def test_a_name_is_drawn_as_it_is_on_axes_of_ours_and_of_the_users(rows, draw, name):
    own = named(rows, name)
    ours = draw(own)
    theirs = Figure().subplots()
    draw(own, ax=theirs)
    for ax in (ours, theirs):
        assert any(name in text for text in labels(ax))
        assert style.to_png(ax.figure)


@pytest.mark.parametrize(("low", "high"), [(20.0, 70.0), (0.003, 5000.0)])
def test_a_logarithmic_axis_has_plain_numbers(low, high):
    with style.styled():
        (ax,) = style.new_figure(4, 3)
        ax.plot([0, 1], [low, high])
        style.log_axis(ax, "y")
        ax.figure.draw_without_rendering()
        ticks = [*ax.yaxis.get_majorticklabels(), *ax.yaxis.get_minorticklabels()]
    shown = [text.get_text() for text in ticks if text.get_text()]
    assert len(shown) >= 3
    assert all(float(text.replace(",", "")) > 0 for text in shown)
    assert "1,000" in shown or high < 1000

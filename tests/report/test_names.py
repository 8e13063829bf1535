"""Texts may be called anything: pictures have names of their own, figures show them as they are."""

import html
import string

import fuzz
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxanatomy.report import plot, style, views, write_report
from jaxanatomy.report.document import Section, file_name

NAMES = (
    *("$x$", "a_b^c", r"\frac{", "$\\frac{1}{$", "100 %", "a $5 or $6", "x\ny"),
    *("日本語", "😀", "שלום", "<b>&amp;", "../../etc/passwd", "con", " ", "a" * 300),
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


def test_names_of_pictures_are_plain_words_where_the_text_is():
    assert file_name("controls", "sentences") == "controls_sentences"
    assert file_name("first_token", "zero", "mlp", "paragraphs-2") == (
        "first_token_zero_mlp_paragraphs-2"
    )
    assert file_name("heads", "") == "heads"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("文", "字"), ("a.txt", "a-txt"), ("A", "a"), ("a b", "a-b"), ("é", "è"), ("a", "a-")],
        *[("x" * 200, "x" * 201), ("", " "), ("$x$", "x"), ("a_", "a"), ("ﬁ", "fi")],
    ],
)
def test_two_texts_never_share_a_picture(one, other):
    names = {file_name("controls", text).casefold() for text in (one, other)}
    assert len(names) == 2
    assert all(set(name) <= SAFE and len(name) <= 80 for name in names)


def test_a_text_that_is_called_like_the_picture_of_another_has_its_own():
    first = file_name("controls", "A")
    assert file_name("controls", first.removeprefix("controls_")) != first


@fuzz.bounded(500)
@given(texts=st.lists(st.text(max_size=12), min_size=2, max_size=8, unique=True))
def test_any_texts_have_pictures_of_their_own(texts):
    names = {file_name("controls", text) for text in texts}
    assert len(names) == len(texts)
    assert all(set(name) <= SAFE for name in names)


def test_headings_in_other_scripts_have_anchors_of_their_own():
    titles = ("Perplexity on 文", "Perplexity on 字", "文", "字", "Which layers matter")
    anchors = [Section(title).anchor for title in titles]
    assert len(set(anchors)) == len(titles)
    assert all(anchors)
    assert anchors[-1] == "which-layers-matter"


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

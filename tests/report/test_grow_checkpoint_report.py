"""The page of a grown checkpoint: its tidy rows against literals, and what it draws."""

from pathlib import Path

import numpy as np
import pytest

from jaxanatomy.records import RunRecord
from jaxanatomy.report import grow_checkpoint as page
from jaxanatomy.report import html, style, terminal, views

ROWS = [
    {"operator": "none", "draw": None, "ppl": 20.0, "ci95": None},
    {"operator": "lidas", "draw": None, "ppl": None, "ci95": None},
    {"operator": "midas", "draw": None, "ppl": 30.0, "ci95": [40.0, 60.0]},
    {"operator": "random_layers", "draw": 0, "ppl": 90.0, "ci95": [300.0, 400.0]},
    {"operator": "random_layers", "draw": 1, "ppl": 70.0, "ci95": [200.0, 300.0]},
]
TEXT = {
    "baseline_ppl": 20.0,
    "tokens": 100,
    "operators": {
        "lidas": {"ppl": None, "degradation_percent": None, "ci95": None}
        | {"difference": [0.0, 0.0, 0.0]},
        "midas": {"ppl": 30.0, "degradation_percent": 50.0, "ci95": [40.0, 60.0]}
        | {"difference": [-0.25, -0.5, -0.125]},
    },
    "nulls": {
        "random_layers": {"draws": 2, "ppl": [90.0, None], "better": 1, "worse": 0},
        "random_order": {"draws": 0, "ppl": [], "better": 0, "worse": 0},
    },
}


@pytest.fixture
def record():
    rows = [row | {"text": "a"} for row in ROWS]
    summary = {"folder": "model", "layers_after": 5, "layers_before": 3, "dtype": "float32"}
    summary |= {"text": "a", "ppl_after": 30.0, "ppl_before": 20.0, "sources": [0, 1, 1, 1, 2]}
    summary |= {"largest_change_of_a_logit": 1.5, "absent": {"midas": "it divides"}}
    config = {"operator": "lidas", "num_layers": 5}
    return RunRecord(Path(), rows, config, {"model": "m"}, summary | {"texts": {"a": TEXT}})


def test_maps_come_in_order_with_the_ends_of_their_perplexity(record):
    midas, lidas, first, second = page.maps(record)
    assert [row["map"] for row in (midas, lidas, first)] == ["midas", "lidas", "random_layers"]
    assert [row["kind"] for row in (midas, lidas, first)] == [page.OTHER, page.CHOSEN, page.NULL]
    np.testing.assert_allclose(midas["ppl"].ends, [28.0, 32.0])
    assert lidas["ppl"] is None
    assert first["ppl"] == 90.0
    assert second["ppl"] == 70.0


def test_the_figure_shows_what_is_not_finite_and_every_draw(record):
    view = page.PAGE.sections[0].views[0]
    ax = views.draw(view, view.rows(record))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["midas", "lidas", "random_layers"]
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [list(line.get_ydata()) for line in crosses] == [[1]]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [
        (30.0, 0),
        (90.0, 2),
        (70.0, 2),
    ]
    assert [line.get_color() for line in dots] == [style.INK, style.MUTED, style.MUTED]
    assert ax.lines[0].get_xdata()[0] == 20.0  # the model as it was


def test_tables_set_the_folder_beside_maps_and_nulls(record):
    _, maps, nulls = page.PAGE.sections[0].views
    texts = [[column.text(row) for column in maps.cells] for row in maps.rows(record)]
    assert texts == [
        ["as it was", "20.00", "100", "–", "–"],
        ["lidas", "not finite", "100", "not finite", "the folder"],
        ["midas", "30.00", "100", "+50.0 % [+40.0 %, +60.0 %]", "−0.250 [−0.500, −0.125]"],
    ]
    texts = [[column.text(row) for column in nulls.cells] for row in nulls.rows(record)]
    assert texts == [["random_layers", "90.00", "90.00", "90.00", "2", "1", "0"]]


def test_the_page_and_the_terminal(record):
    (section,) = html.fill(page.PAGE, record)
    assert section.text[0].endswith("Layers: 0, 1, 1, 1, 2. Not measured: it divides.")
    assert "3, in float32; read back, its perplexity on a is 30.00, was 20.00" in section.text[0]
    assert "random_layers" in html.render(page.PAGE, [section], record)
    assert "-0.250 [-0.500, -0.125]" in terminal.printed(page.PAGE, record)
    unfinished = RunRecord(record.folder, record.rows, record.config, {}, {})
    (section,) = html.fill(page.PAGE, unfinished)
    assert [type(part) for part in section.content] == [html.Picture]

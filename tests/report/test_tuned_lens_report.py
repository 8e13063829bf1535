"""The page of the tuned lens: tokens in cells, and a band for each panel."""

from pathlib import Path

import numpy as np
import pytest

from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.measures.tuned_lens import DIFFERENCE
from jaxanatomy.records import RunRecord
from jaxanatomy.report import tuned_lens as page
from jaxanatomy.report import views
from jaxanatomy.report.views import Axis, Curves, Heatmap


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (" the", "the"),
        (" ", "_"),
        ("\n\n", "\\n\\n"),
        ("", ""),
        ("é", "é"),
        ("日本", "??"),
        ("\ufffd", "?"),
        ("internationally", "internati…"),
    ],
)
def test_tokens_are_short_and_every_font_has_them(token, expected):
    assert page.shown(token) == expected


def test_a_heatmap_has_words_in_its_cells_as_they_are():
    rows = [
        {"layer": 0, "position": 0, "chance": 0.25, "token": "$\\frac$"},
        {"layer": 0, "position": 1, "chance": 0.5, "token": "a_b"},
    ]
    axes = {"x": Axis("position"), "y": Axis("layer"), "cell": Axis("chance")}
    ax = views.draw(Heatmap("heat", list, **axes, words="token"), rows)
    assert [text.get_text() for text in ax.texts] == ["$\\frac$", "a_b"]
    assert views.to_png(ax.figure, 40).startswith(b"\x89PNG")


def test_a_band_may_be_that_of_each_panel():
    rows = [{"step": step, "a": Estimate(1.0, 0.0, 2.0), "b": 5.0} for step in range(3)]
    panels = views.draw(Curves("c", list, x=Axis("step"), y=(Axis("a"), Axis("b")), band="y"), rows)
    (band,) = panels[0].collections
    assert band.get_paths()[0].get_extents().intervaly.tolist() == [0.0, 2.0]
    assert all(
        np.isnan(each.get_paths()[0].vertices).all()
        for each in panels[1].collections
        if each.get_paths()
    )


@pytest.mark.parametrize(("documents", "units"), [(5, "document"), (4, "block of 64 tokens")])
def test_the_headline_counts_layers_and_says_what_intervals_are_over(documents, units):
    summary = {"held_out_documents": documents, "held_out_predictions": 90}
    rows = [
        {"kind": "lens", "lens": DIFFERENCE, "metric": "kl", "layer": layer}
        | {"value": 0.5 * sum(ends), "ci95": ends}
        for layer, ends in enumerate(([-2.0, -1.0], [-1.0, 1.0], [-3.0, -2.0], [1.0, 2.0]))
    ]
    found = page.headline(RunRecord(Path(), rows, {}, {}, summary))
    assert "of 4 layers 1 lie above 0 and 2 below; " in found
    assert f"paired by {units}. " in found

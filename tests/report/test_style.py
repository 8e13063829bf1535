"""Colours, short numbers, and that figures change no global state."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxanatomy.report import style, views


def test_a_colour_is_the_same_percentage_in_every_figure():
    few, many = style.heat_scale([50.0]), style.heat_scale([9e5])
    assert few[0].vmax < many[0].vmax
    for value in (-10.0, 0.0, 10.0, 30.0, 100.0):
        one, other = (np.array(cmap(float(norm(value)))) for norm, cmap in (few, many))
        assert np.abs(one - other).max() < 0.02


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0"),
        (-0.04, "0.0"),
        (-0.6, "−0.6"),
        (9.94, "9.9"),
        (9.96, "10"),
        (151.2, "151"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (34_167, "34k"),
        (999_600, "1.0M"),
        (848e6, "848M"),
        (3.2e12, "3e12"),
        (math.inf, "n/f"),
    ],
)
def test_compact_numbers_fit_a_cell(value, text):
    assert style.compact(value) == text
    assert len(text) <= 5


def test_no_global_state_changes(run_python):
    code = """
import sys
import matplotlib
settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = settings()
from jaxanatomy.report import plot
row = {"variant": "zero/layer/0", "intervention": "zero", "layer": 0, "degradation_percent": 1.0}
plot.importance([row])._repr_png_()
plot.controls([row])._repr_png_()
print(settings() == before, "matplotlib.pyplot" in sys.modules)
"""
    assert run_python(code, devices=1) == "True False\n"


def test_a_value_without_a_colour_gets_none_that_looks_like_another_that_is_shown():
    palette = views.Palette("arm", {"lidas": "#1F5FA8", "fresh": "#D55E00"})
    shown = palette.of([{"arm": "lidas"}, {"arm": "new"}, {"arm": "newer"}])
    # The first of the series is another blue, the second is free: "fresh" is not shown.
    assert shown == {"lidas": "#1F5FA8", "new": "#D55E00", "newer": "#009E73"}
    assert style.alike("#1F5FA8", "#0072B2")
    assert not style.alike("#D55E00", "#E69F00")


def test_more_lines_than_colours_are_told_apart_by_dashes():
    rows = [
        {"arm": f"arm {at}", "step": step, "loss": at + step} for at in range(20) for step in (0, 1)
    ]
    palette = views.Palette("arm")
    shown = [(palette.of(rows)[arm], palette.dashes(rows)[arm]) for arm in palette.of(rows)]
    assert len(set(shown)) == 20
    assert [dash for _, dash in shown[:9]] == ["-"] * 8 + ["--"]
    view = views.Curves(
        "losses", rows, x=views.Axis("step", "step"), y=views.Axis("loss", "loss"), series=palette
    )
    ax = Figure().add_subplot()
    view.draw(ax, rows, rows, view.pairs[0])
    drawn = [(line.get_color(), line.get_linestyle()) for line in ax.get_lines()]
    assert drawn == shown
    assert [(each.get_color(), each.get_linestyle()) for each in view.handles(rows)] == shown


@pytest.mark.parametrize(("inches", "layers"), [(4.2, 30), (11.5, 30), (9.0, 80), (2.5, 6)])
def test_numbers_of_layers_do_not_touch(inches, layers):
    figure = Figure(figsize=(inches, 3.0))
    ax = figure.add_subplot()
    style.layer_axis(ax, layers)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(boxes) > 1
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    if inches > 11:
        assert len(boxes) == layers

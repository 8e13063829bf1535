import math

import numpy as np
import pytest

from jaxanatomy.report import plot, style
from jaxanatomy.report.cells import INTERVENTIONS


def values(rows, intervention, scope, positions="all"):
    return [
        row["degradation_percent"]
        for row in rows
        if (row["intervention"], row["scope"], row["positions"]) == (intervention, scope, positions)
    ]


def shown(axes):
    """The heatmap's values by the names of its rows."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    image = np.ma.filled(axes.images[0].get_array(), np.nan)
    return dict(zip(names, image.tolist(), strict=True))


@pytest.mark.parametrize("intervention", ["neighbour_mean", "zero"])
def test_scopes_hold_each_part(rows, intervention):
    axes = plot.scopes(rows, intervention=intervention)
    parts = {"layer": "layer", "attention": "attention", "MLP": "mlp"}
    parts |= {f"{n}_proj": f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")}
    assert list(shown(axes)) == list(parts)
    for name, scope in parts.items():
        assert shown(axes)[name] == values(rows, intervention, scope)
    texts = [text.get_text() for text in axes.texts]
    assert texts == [style.compact(v) for row in shown(axes).values() for v in row]


def test_heads_hold_each_head(rows):
    found = shown(plot.heads(rows))
    assert list(found) == ["head 0", "head 1", "head 2"]
    assert found["head 2"] == values(rows, "zero", "head_2")


def test_controls_hold_every_intervention(rows, change):
    fields = {"ppl": None, "degradation_percent": None}
    axes = plot.controls(change(rows, "matched_noise/layer/3", **fields))
    found = shown(axes)
    assert list(found) == [name.replace("_", " ") for name in INTERVENTIONS]
    assert math.isnan(found["copy previous"][0])
    assert math.isnan(found["copy next"][4])
    assert found["copy previous"][1:] == values(rows, "copy_previous", "layer")
    assert math.isnan(found["matched noise"][3])
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("n/f") == 1
    assert len(texts) == 9 * 5 - 2
    assert len(axes.patches) == 1, "the cell that is not finite is crossed out"


def test_a_colour_is_the_same_percentage_in_every_figure():
    few, many = style.heat_scale([50.0]), style.heat_scale([9e5])
    assert few[0].vmax < many[0].vmax
    for value in (-10.0, 0.0, 10.0, 30.0, 100.0):
        one, other = (np.array(cmap(float(norm(value)))) for norm, cmap in (few, many))
        assert np.abs(one - other).max() < 0.02


def test_ratios_are_perplexities_over_the_neighbour_mean(rows):
    axes = plot.control_ratios(rows)
    names = [label.get_text() for label in axes.get_yticklabels()]
    dots = {
        name: sorted(c.get_offsets()[:, 0]) for name, c in zip(names, axes.collections, strict=True)
    }
    by_variant = {row["variant"]: row for row in rows}
    for name in INTERVENTIONS[1:]:
        expected = sorted(
            by_variant[f"{name}/layer/{layer}"]["ppl"]
            / by_variant[f"neighbour_mean/layer/{layer}"]["ppl"]
            for layer in (1, 2, 3)
        )
        np.testing.assert_allclose(dots[name.replace("_", " ")], expected, rtol=1e-12)
    counts = [text.get_text() for text in axes.texts if text.get_text().startswith("worse")]
    assert len(counts) == 8
    assert counts[0].startswith("worse in 2 of 3")


def test_first_token_marks_both_readings_and_names_the_sink(rows):
    axes = plot.first_token(rows)
    marks = {found.get_label(): list(found.get_ydata()) for found in axes.lines}
    for positions, words in (("first", "at the first token only"), ("others", "at all other")):
        label = next(name for name in marks if name.startswith(words))
        assert marks[label] == values(rows, "neighbour_mean", "layer", positions)
    assert marks["at all tokens"] == values(rows, "neighbour_mean", "layer")
    assert [text.get_text() for text in axes.texts] == ["3"]


def test_a_layer_that_acts_at_all_tokens_is_no_sink(rows, change):
    change(rows, "neighbour_mean/layer@first/0", degradation_percent=150.0)
    assert [text.get_text() for text in plot.first_token(rows).texts] == ["3"]


def test_figures_of_one_text_share_the_scale(rows):
    limits = [
        plot.first_token(rows, intervention=name).get_ylim() for name in ("neighbour_mean", "zero")
    ]
    assert limits[0] == limits[1]


@pytest.mark.parametrize("draw", [plot.scopes, plot.heads, plot.controls, plot.control_ratios])
def test_missing_measurements_give_emptier_figures(rows, draw):
    few = [row for row in rows if row["variant"].startswith("permuted_rows/")]
    style.to_png(draw(few).figure)


def test_the_same_rows_give_the_same_picture(rows):
    first, second = (style.to_png(plot.controls(rows).figure, dpi=40) for _ in range(2))
    assert first == second


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

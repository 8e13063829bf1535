import math
import statistics

import manipulation_run as made
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from jaxanatomy.errors import InputError
from jaxanatomy.report import plot, style
from jaxanatomy.report.manipulation.figures import SET_COLOURS
from jaxanatomy.report.manipulation.rows import MAIN_SETS, STRATEGIES, Method, by_text


@pytest.fixture
def rows():
    """Every strategy on every set, on one text."""
    return made.make_text()


def change(rows, variant, **fields):
    next(row for row in rows if row["variant"] == variant).update(fields)
    return rows


def values(rows, strategy, set_name, dose="alpha"):
    """Degradation by dose, read off the rows."""
    return {
        row[dose]: row["degradation_percent"]
        for row in rows
        if row["strategy"] == strategy and row["set"] == set_name
    }


def curve(axes, colour, linestyle):
    (line,) = [
        line
        for line in axes.lines
        if to_hex(line.get_color()) == to_hex(colour)
        and line.get_linestyle() == linestyle
        and line.get_marker() == "o"
    ]
    return dict(zip(line.get_xdata(), line.get_ydata(), strict=True))


def shown(axes):
    """The heatmap's values by the names of its rows."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    image = np.ma.filled(axes.images[0].get_array(), np.nan)
    return dict(zip(names, image.tolist(), strict=True))


def test_names_are_those_of_the_interventions():
    from jaxanatomy.interventions import sets, strategies

    assert {*strategies.STRATEGIES, "perturb"} == {*STRATEGIES}
    assert MAIN_SETS == sets.MAIN_SETS


def test_methods_are_ordered_from_mild_to_strong(rows):
    labels = [method.label for method in by_text(rows)[0].methods]
    assert labels[:4] == ["scale × 1.1", "scale × 0.9", "scale × 0.5", "scale × 0"]
    assert labels[-3:] == ["neighbour mean", "noise of 5 %", "noise of 1 %"]
    assert [each for each in labels if each.startswith("low rank")] == [
        "low rank, full rank",
        "low rank, half rank",
        "low rank, rank 8",
    ]


def test_single_layers_with_noise_of_several_seeds_stay_apart(rows):
    (trials,) = by_text(rows)
    assert len(trials.rows) == len(rows) - 1
    method = Method("perturb", 0.01)
    for seed in (0, 1):
        row = trials.row(method, f"layer_4_s{seed}")
        assert (row["seed"], row["layers"]) == (seed, [4])


def test_rows_of_other_kinds_are_no_trials():
    rows = made.make_rows()
    assert any(row.get("kind") == "temperature" for row in rows)
    found = by_text(rows)
    assert [trials.text for trials in found] == ["sentences", "paragraphs"]
    assert found[0].row(Method("zero"), "paper")["tokens"] == sum(made.TOKENS)


def test_dose_response_holds_the_rows(rows):
    axes = plot.manipulation(rows, paper={0.9: 19.2, 0.0: 7e7})
    for name in made.SETS:
        assert curve(axes, SET_COLOURS[name], "-") == values(rows, "scale", name)
        assert curve(axes, SET_COLOURS[name], "--") == values(rows, "scale_output", name)
    (diamonds,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert dict(zip(*diamonds.get_data(), strict=True)) == {0.9: 19.2, 0.0: 7e7}
    assert axes.get_ylim()[1] > 7e7
    assert axes.get_xlim()[0] > axes.get_xlim()[1], "stronger to the right"


def test_bands_are_the_intervals(rows):
    axes = plot.manipulation(rows)
    band = axes.collections[0].get_paths()[0].vertices
    ends = {
        row["alpha"]: row["ci95"]
        for row in rows
        if row["strategy"] == "scale" and row["set"] == "measured"
    }
    for alpha, (low, high) in ends.items():
        heights = band[np.isclose(band[:, 0], alpha), 1]
        assert min(heights) == pytest.approx(low, rel=1e-12)
        assert max(heights) == pytest.approx(high, rel=1e-12)


def test_what_is_not_finite_is_a_cross_and_a_gap(rows):
    fields = {"ppl": None, "degradation_percent": None, "ci95": None}
    axes = plot.manipulation(change(rows, "scale_0.0/paper", **fields))
    assert math.isnan(curve(axes, SET_COLOURS["paper"], "-")[0.0])
    crosses = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "x"]
    assert sorted(crosses) == [[], [], [], [], [], [0.0]]


def test_sets_of_ones_own_have_a_line_and_a_column(rows):
    own = [made.make_row("scale", "layers_2_4", [2, 4], 50.0, alpha) for alpha in (0.5, 0.9)]
    labels = [text.get_text() for text in plot.manipulation([*rows, *own]).get_legend().texts]
    assert "2, 4 (2 layers)" in labels
    columns = [each.get_text() for each in plot.manipulation_sets([*rows, *own]).get_xticklabels()]
    assert columns[:4] == ["measured", "paper", "paper,\ninner", "2, 4"]
    assert columns[4:] == ["least\n1", "least\n2", "least\n3"]


def test_heatmap_holds_every_strategy_and_set(rows):
    axes = plot.manipulation_sets(change(rows, "clone/paper", degradation_percent=None))
    found = shown(axes)
    sets = [*made.SETS, *made.LEAST]
    for strategy, label in (("zero", "zero"), ("blend_4", "blend of 4"), ("clone", "clone")):
        expected = [values(rows, strategy, name)[None] for name in sets]
        cells = [None if math.isnan(value) else value for value in found[label]]
        assert cells == expected
    assert found["own SVD, half rank"][0] == values(rows, "own_svd", "measured", "rank")["half"]
    assert found["scale × 0.5"][1] == values(rows, "scale", "paper")[0.5]
    assert "noise of 1 %" not in found
    assert all(math.isnan(value) for value in shown(axes)["clone"][1:2])
    assert len(axes.patches) == 1, "the cell that is not finite is crossed out"
    assert [text.get_text() for text in axes.texts].count("n/f") == 1


def test_a_colour_means_the_same_percentage_as_in_other_heatmaps(rows):
    axes = plot.manipulation_sets(rows)
    image = axes.images[0]
    norm, cmap = style.heat_scale([1e9])
    for value in (-10.0, 0.0, 30.0, 300.0):
        ours, theirs = image.cmap(float(image.norm(value))), cmap(float(norm(value)))
        assert np.abs(np.array(ours) - np.array(theirs)).max() < 0.02


def test_pairs_are_triangles_with_the_papers_cell(rows):
    panels = plot.manipulation_pairs(rows, paper={"zero": 4.3e6})
    assert [panel.get_title(loc="left") for panel in panels] == [
        "sentences, zero",
        "sentences, clone",
        "sentences, blend of 4",
    ]
    found = shown(panels[1])
    seconds = [int(label.get_text()) for label in panels[1].get_xticklabels()]
    assert list(found) == ["0", "1", "3"]
    assert seconds == [1, 3, 5]
    for first, cells in found.items():
        for second, value in zip(seconds, cells, strict=True):
            expected = values(rows, "clone", f"pair_{first}_{second}")
            assert [value] == [*expected.values()] or (math.isnan(value) and not expected)
    texts = [[text.get_text() for text in panel.texts] for panel in panels]
    assert "4.3M" in texts[0]
    assert "4.3M" not in texts[1]
    norm, cmap = style.heat_scale([4.3e6])
    assert to_rgba(panels[0].patches[0].get_facecolor()) == cmap(float(norm(4.3e6)))


def test_curves_count_layers(rows):
    axes = plot.manipulation_layers(rows)
    lines = {line.get_label(): line for line in axes.lines}
    for label, strategy, dose in (
        ("zero", "zero", None),
        ("scale × 0.9", "scale", 0.9),
        ("low rank, full rank", "low_rank", None),
    ):
        expected = [
            values(rows, strategy, f"least_{k}", "rank" if "rank" in label else "alpha")[
                "full" if "rank" in label else dose
            ]
            for k in (1, 2, 3)
        ]
        assert list(lines[label].get_xdata()) == [1, 2, 3]
        assert list(lines[label].get_ydata()) == expected
    assert "scale × 1.1" not in lines
    assert "own SVD, half rank" not in lines


def test_compounding_stands_beside_effects_that_add_up(rows):
    axes = plot.compounding(rows)
    for index, alpha in enumerate((0.05, 0.01)):
        own = [r for r in rows if r["strategy"] == "perturb" and r["alpha"] == alpha]

        def mean(count, family, own=own):
            chosen = [r for r in own if r["count"] == count and r["set"].startswith(family)]
            return statistics.fmean(math.log(row["ppl"] / made.BASELINE_PPL) for row in chosen)

        measured, below, additive = axes.lines[3 * index : 3 * index + 3]
        assert list(measured.get_xdata()) == [1, 2, 4, 6]
        expected = [100 * math.expm1(mean(count, "random")) for count in (1, 2, 4, 6)]
        np.testing.assert_allclose(measured.get_ydata(), expected, rtol=1e-12)
        expected = [100 * math.expm1(count * mean(1, "layer")) for count in (1, 2, 4, 6)]
        np.testing.assert_allclose(additive.get_ydata(), expected, rtol=1e-12)
        assert list(below.get_xdata()) == []


def test_a_mean_below_zero_is_marked_on_the_logarithmic_axis(rows):
    for seed in (0, 1):
        change(rows, f"perturb_0.01/random_1_s{seed}", degradation_percent=-0.1)
    axes = plot.compounding(rows)
    marks = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "v"]
    assert marks == [[], [1]]


def test_attention_is_the_mean_over_seeds_of_the_local_rows():
    rows = made.make_attention()
    panels = plot.attention_shift(rows)
    assert [panel.get_title(loc="left") for panel in panels[:2]] == [
        "q_proj: total variation",
        "k_proj: total variation",
    ]
    for index, panel in enumerate(panels):
        component = ("q_proj", "k_proj")[index % 2]
        field = ("total_variation", "argmax_changed")[index // 2]
        for line, alpha in zip(panel.get_lines(), (0.01, 0.1, None), strict=True):
            expected = [
                statistics.fmean(
                    row[field]
                    for row in rows
                    if (row["component"], row["layer"], row["alpha"], row["spread"])
                    == (component, layer, alpha, "local")
                )
                for layer in range(6)
            ]
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)


def test_texts_have_panels_on_one_scale(rows):
    both = [*rows, *made.make_text("paragraphs", pairs=False)]
    panels = plot.manipulation(both)
    assert len(panels) == 2
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert len(plot.manipulation_sets(both)) == 2
    assert not isinstance(plot.manipulation_layers(both), tuple), "one text has these sets"


FIGURES = ("manipulation", "manipulation_sets", "manipulation_layers", "compounding")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_say_what_they_need(rows, name):
    draw = getattr(plot, name)
    with pytest.raises(InputError, match="needs rows of the manipulation experiment"):
        draw([made.make_baseline()])
    with pytest.raises(InputError, match="got 2 for 1 texts"):
        draw(rows, style.new_figure(4, 3, 1, 2))


def test_other_figures_say_what_they_need(rows):
    with pytest.raises(InputError, match="sets like pair_3_5; got none"):
        plot.manipulation_pairs([made.make_baseline()])
    with pytest.raises(InputError, match="got 1 for 3"):
        plot.manipulation_pairs(rows, style.new_figure(4, 3))
    with pytest.raises(InputError, match="kind 'attention'"):
        plot.attention_shift(rows)
    with pytest.raises(InputError, match="got 1 for q_proj, k_proj; pass 4"):
        plot.attention_shift(made.make_attention(), style.new_figure(4, 3))


@pytest.mark.parametrize("name", [*FIGURES, "manipulation_pairs"])
def test_a_single_row_gives_an_emptier_figure(rows, name):
    sets = {
        "manipulation": "scale_0.5/paper",
        "manipulation_sets": "zero/least_1",
        "manipulation_layers": "zero/least_1",
        "compounding": "perturb_0.01/random_2_s0",
        "manipulation_pairs": "zero/pair_0_1",
    }
    (row,) = [row for row in rows if row["variant"] == sets[name]]
    axes = getattr(plot, name)([row])
    panel = axes[0] if isinstance(axes, tuple) else axes
    assert style.to_png(panel.figure, dpi=30).startswith(b"\x89PNG")


def test_the_layout_holds_all_panels():
    """A warning of the layout engine, and so an error, where a mark lies far outside."""
    rows = [*made.make_rows(), *made.make_noise("paragraphs")]
    axes = [getattr(plot, name)(rows) for name in (*FIGURES, "manipulation_pairs")]
    for each in axes:
        panels = each if isinstance(each, tuple) else (each,)
        style.to_png(panels[0].figure, dpi=30)
        assert all(panel.get_position().height > 0.1 for panel in panels)


def test_a_data_frame_writes_null_as_nan(rows):
    class Frame:
        def to_dict(self, orient):
            assert orient == "records"
            holes = dict.fromkeys(("alpha", "rank", "set", "kind", "seed"), math.nan)
            return [
                holes | {name: math.nan if v is None else v for name, v in row.items()}
                for row in rows
            ]

    (found,), (expected,) = by_text(Frame()), by_text(rows)
    assert found.rows.keys() == expected.rows.keys()

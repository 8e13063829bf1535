"""The page of the importance experiment: its tidy rows against literals, and what it draws."""

import math

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from jaxanatomy.errors import InputError
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.records import RunRecord
from jaxanatomy.report import html, plot, style, summary_table, terminal, views
from jaxanatomy.report import importance as page
from jaxanatomy.report import importance_rows as tidy

of_rows = RunRecord.of_rows


def wanted(rows, intervention, scope="layer", positions="all", text="sentences"):
    return [
        row
        for row in rows
        if (row["intervention"], row["scope"], row["positions"]) == (intervention, scope, positions)
        and row["text"] == text
    ]


def changes(rows, *where):
    return [row["degradation_percent"] for row in wanted(rows, *where)]


def bars(axes):
    return [patch for container in axes.containers for patch in container]


def table(rows, summary=None):
    record = RunRecord(None, rows, {}, {}, summary or {})
    return {row["finding"].split(" (")[0]: row for row in page.glance(record)}


# The map


def test_bars_are_the_degradations_and_their_categories(rows):
    axes = plot.importance(rows)
    drawn = {round(bar.get_x() + bar.get_width() / 2): bar for bar in bars(axes)}
    for row in wanted(rows, "neighbour_mean"):
        bar = drawn.pop(row["layer"])
        assert bar.get_height() == row["degradation_percent"]
        assert to_hex(bar.get_facecolor()).upper() == style.CATEGORY_COLOURS[row["category"]]
        assert bool(bar.get_hatch()) == row["boundary"]
    assert not drawn
    assert axes.get_yscale() == "symlog"
    low, high = axes.get_ylim()
    assert low < -2.0 - 4.0
    assert high > 1.5 * 34_000 + 4


def test_own_intervals_and_the_band_of_all_layers(rows):
    found = tidy.layers(of_rows(rows))
    own = {row["layer"]: row["change"].ends for row in found}
    assert own == {row["layer"]: row["ci95"] for row in wanted(rows, "neighbour_mean")}
    (cells,) = tidy.texts(of_rows(rows))
    assert set(cells.looks.band) == {1, 2, 3}  # boundary layers are not looked at
    for row in found:
        each = cells.looks.band.get(row["layer"])
        assert row.get("band") == (each.degradation_percent() if each else None)
    assert any("band" in row for row in found)
    thin, thick = page.IMPORTANCE.spans
    assert (thin.field, thick.field) == ("band", "change")
    assert thin.line < thick.line


def test_the_second_reading_and_the_paper_are_fields(rows):
    paper = [math.nan, 1.0, 2.0, 3e4, 5.0, 6.0]
    found = tidy.layers(of_rows(rows), paper=paper)
    for row, own in zip(found, wanted(rows, "neighbour_mean"), strict=True):
        assert row["without_first"] == own["degradation_percent_without_first"]
        assert row.get("paper", math.nan) == pytest.approx(paper[row["layer"]], nan_ok=True)
    assert not any("paper" in row for row in tidy.layers(of_rows(rows)))


def test_an_anti_layer_needs_the_band_and_has_its_own_colour(rows, change, improve):
    change(rows, "neighbour_mean/layer/1", ci95=[-3.0, -1.0], anti_layer=True)
    # Pointwise it is one; the band that holds for all layers says otherwise.
    assert [row["kind"] for row in tidy.layers(of_rows(rows))][1] == "redundant"
    found = tidy.layers(of_rows(improve(rows)))
    assert [row["kind"] == "better" for row in found] == [False, True, False, False, False]
    assert found[1]["verdict"] == "redundant, anti-layer"
    assert table(rows)["better without it"]["words.sentences"] == "1"


def test_what_is_not_finite_is_a_cross_and_said(rows, change):
    gone = {"ppl": None, "degradation_percent": None, "ci95": None}
    change(rows, "neighbour_mean/layer/3", **gone, reason="too large")
    axes = plot.importance(rows)
    crosses = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [3]
    assert len(bars(axes)) == 4


def test_each_text_has_a_panel_of_one_scale(two_texts):
    panels = plot.importance(two_texts)
    titles = [panel.get_title(loc="left").split(",")[0] for panel in panels]
    assert titles == ["sentences", "paragraphs"]
    heights = [bar.get_height() for bar in bars(panels[1])]
    assert heights == [
        row["degradation_percent"] for row in wanted(two_texts, "neighbour_mean", text="paragraphs")
    ]
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_draws_on_axes_that_are_given(rows, two_texts):
    axes = Figure().subplots(2)
    assert plot.importance(rows, ax=axes[0]) is axes[0]
    assert list(plot.importance(two_texts, ax=axes)) == list(axes)
    with pytest.raises(InputError, match="one axes for each panel"):
        plot.importance(two_texts, ax=axes[0])
    with pytest.raises(InputError, match="got none"):
        plot.importance(rows[:1])


def test_other_interventions_and_scopes(rows):
    shown = [bar.get_height() for bar in bars(plot.importance(rows, intervention="zero"))]
    assert shown == changes(rows, "zero")
    shown = [bar.get_height() for bar in bars(plot.importance(rows, scope="mlp"))]
    assert shown == changes(rows, "neighbour_mean", "mlp")
    only_zero = [row for row in rows if row["intervention"] == "zero"]
    assert [bar.get_height() for bar in bars(plot.importance(only_zero))] == changes(rows, "zero")


def test_divergences_have_their_intervals(rows, change):
    assert tidy.divergences(of_rows(rows)) == []
    change(rows, "neighbour_mean/layer/2", kl=0.4, kl_ci95=[0.1, 0.9])
    (row,) = tidy.divergences(of_rows(rows))
    assert (row["layer"], row["kl"]) == (2, Estimate(0.4, 0.1, 0.9))


# At a glance


def test_layers_stand_in_their_categories(rows, change):
    found = table(rows)
    assert found["critical"]["words.sentences"] == "3"
    # Layer 1 changes by -2 %, its interval reaches from -6 to +7.
    assert found["redundant"]["words.sentences"] == "1"
    assert found["important"]["words.sentences"] == "none"
    assert found["boundary layers, whose one neighbour was copied"]["words.sentences"] == "0, 4"
    assert found["cannot be told from no effect"]["words.sentences"] == "1"
    change(rows, "neighbour_mean/layer/2", ci95=[11.0, 29.0])
    assert table(rows)["minor"]["words.sentences"] == "2"
    change(rows, "neighbour_mean/layer/2", ci95=[9.0, 29.0])
    assert table(rows)["minor"]["words.sentences"] == "2; not settled: 2"


def test_the_looks_at_the_whole_map_are_said(rows):
    found, (cells,) = table(rows), tidy.texts(of_rows(rows))
    most = ", ".join(map(str, cells.looks.most))
    assert found["may be the most important"]["words.sentences"] == most
    chance = found["as many better by chance, by their own intervals"]["words.sentences"]
    assert chance == f"{cells.looks.chance_better:.1f} of 3 layers"
    least = found["smallest effect that this text can show"]["words.sentences"]
    assert f"({cells.looks.smallest_effect.pointwise:.3f} nats) for a layer named" in least
    assert least.endswith(
        "for one picked from the map; 2 documents (blocks of 64 tokens if fewer than 5)"
    )


def test_texts_stand_side_by_side(two_texts):
    found = table(two_texts)
    assert found["redundant"]["words.paragraphs"].startswith("1, 2")
    assert "rank correlation with AH Table 1" not in found


def test_the_rank_correlation_is_that_of_the_summary(rows):
    correlation = {"layers": 28, "value": 0.891, "ci95": [0.7, 0.95]}
    found = table(rows, {"texts": {"sentences": {"rank_correlation": correlation}}})
    said = found["rank correlation with AH Table 1"]["words.sentences"]
    assert said == "0.89 (95 % interval 0.70 to 0.95), 28 layers"


@pytest.mark.parametrize(
    ("ends", "settled"), [([11.0, 29.0], True), ([9.0, 29.0], False), ([11.0, 31.0], False)]
)
def test_a_category_is_settled_if_the_interval_is_in_it(ends, settled):
    row = {"change": Estimate(20.0, *ends), "category": "minor"}
    assert tidy.is_settled(row) is settled
    assert not tidy.is_settled({**row, "change": 20.0})


# Controls


def test_controls_hold_every_intervention_in_order(rows, change):
    change(rows, "matched_noise/layer/3", degradation_percent=None)
    found = tidy.controls(of_rows(rows))
    assert list(dict.fromkeys(row["intervention"] for row in found)) == list(tidy.INTERVENTIONS)
    assert [row["layer"] for row in found if row["intervention"] == "copy_next"] == [0, 1, 2, 3]
    axes = plot.controls(rows)
    assert [text.get_text() for text in axes.texts].count("n/f") == 1
    assert len(axes.texts) == 9 * 5 - 2


def test_ratios_are_perplexities_over_the_neighbour_mean(rows):
    found = tidy.ratios(of_rows(rows))
    by_variant = {row["variant"]: row for row in rows}
    for name in tidy.INTERVENTIONS[1:]:
        own = {row["layer"]: row for row in found if row["intervention"] == name and "ratio" in row}
        assert set(own) == {1, 2, 3}
        for layer, row in own.items():
            pair = (by_variant[f"{each}/layer/{layer}"]["ppl"] for each in (name, "neighbour_mean"))
            assert row["ratio"] == pytest.approx(next(pair) / next(pair), rel=1e-12)
    medians = [row for row in found if "median" in row]
    assert len(medians) == 8
    assert medians[0]["beside"].startswith("worse in 2 of 3; median ×")
    (zero,) = (row for row in medians if row["intervention"] == "zero")
    assert zero["beside"].startswith("worse in 2 of 3")
    ends = [row["layer"] for row in found if row["intervention"] == "zero" and "written" in row]
    assert ends == [1, 3]


def drawn(draw, *unit_nll, name="matched_noise"):
    nll = None if None in unit_nll else sum(unit_nll)
    return {
        "variant": name if draw is None else f"{name}#{draw}/layer/1",
        "intervention": name,
        "layer": None if name == "baseline" else 1,
        "draw": draw,
        "nll": nll,
        "ppl": None if nll is None else math.exp(nll / 10),
        "tokens": 10,
        "unit_nll": list(unit_nll),
        "unit_tokens": [5, 5],
        "ci95": [10.0, 20.0],
        "text": "sentences",
    }


BASELINE = drawn(None, 5.0, 5.0, name="baseline")
NOISE = [drawn(draw, 7.5 + draw, 7.5 + draw) for draw in range(3)]


def test_the_median_draw_stands_for_what_is_random():
    mean = drawn(None, 6.0, 6.0, name="neighbour_mean")
    record = of_rows([BASELINE, mean, *NOISE])
    (cells,) = tidy.texts(record)
    assert cells.of("matched_noise")[1]["draw"] == 1
    dot, _ = tidy.ratios(record)
    # Mean losses of 1.5, 1.7, 1.9 against 1.2.
    found = [dot["ratio"], *dot["draws"].ends]
    assert found == pytest.approx([math.exp(0.5), math.exp(0.3), math.exp(0.7)])


def test_draws_have_their_range_and_the_interval_over_both():
    (row,) = tidy.draws(of_rows([BASELINE, *NOISE]))
    assert (row["layer"], row["draws"], row["documents"].ends) == (1, 3, [10.0, 20.0])
    # Mean losses 0.5, 0.7 and 0.9 nats above the baseline's.
    median, spread, both = (row[name] for name in ("documents", "range", "both"))
    found = [spread.low, spread.value, spread.high]
    assert found == pytest.approx([100 * math.expm1(each) for each in (0.5, 0.7, 0.9)])
    assert median.value == spread.value
    assert both.low < spread.low < spread.high < both.high
    (lost,) = tidy.draws(of_rows([BASELINE, *NOISE[:2], drawn(2, 5.0, None)]))
    assert lost["documents"].value == pytest.approx(100 * math.expm1(0.7))
    assert (lost["range"].ends, lost["both"].ends) == (None, None)
    assert tidy.draws(of_rows([BASELINE, NOISE[0]])) == []


def test_controls_are_not_claimed_beyond_a_paired_interval(rows, change):
    """Layer 1 alone is milder when zeroed; whether that counts is for the interval."""
    change(rows, "neighbour_mean/layer/1", unit_nll=[70.0, 80.0])
    for units, count in (([68.0, 80.5], 0), ([69.0, 79.0], 1)):
        change(rows, "zero/layer/1", unit_nll=units)
        said = f"in 1 of 3 layers (median ratio ×1.08); in {count} of them the 95 % interval"
        assert said in page.skipped(of_rows(rows))


# Positions, parts, heads


def test_the_first_token_has_both_readings_and_names_the_sink(rows, change):
    change(rows, "neighbour_mean/layer@first/0", degradation_percent=150.0)
    found = tidy.first_token(of_rows(rows), "neighbour_mean", "layer")
    for field, positions in (("first", "first"), ("others", "others"), ("everywhere", "all")):
        own = changes(rows, "neighbour_mean", "layer", positions)
        assert [views.value(row, field) for row in found] == own
    # Layer 0 acts at all tokens and is no sink.
    assert [row["written"] for row in found if "written" in row] == ["3"]
    everything = tidy.first_token(of_rows(rows))
    assert list(dict.fromkeys(row["panel"] for row in everything)) == [
        "sentences, whole layers: neighbour mean",
        "sentences, whole layers: zero",
    ]


@pytest.mark.parametrize("intervention", ["neighbour_mean", "zero"])
def test_parts_and_heads_hold_each(rows, intervention):
    found = tidy.parts(of_rows(rows), intervention)
    scopes = list(dict.fromkeys(row["scope"] for row in found))
    matrices = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    assert scopes == ["layer", "attention", "mlp", *matrices]
    for scope in scopes:
        own = [row["degradation_percent"] for row in found if row["scope"] == scope]
        assert own == changes(rows, intervention, scope)
    found = tidy.heads(of_rows(rows))
    assert list(dict.fromkeys(row["scope"] for row in found)) == ["head_0", "head_1", "head_2"]
    own = [row["degradation_percent"] for row in found if row["scope"] == "head_2"]
    assert own == changes(rows, "zero", "head_2")


@pytest.mark.parametrize("draw", [plot.scopes, plot.heads, plot.control_ratios, plot.first_token])
def test_a_figure_of_what_was_not_measured_is_refused(rows, draw):
    few = [row for row in rows if row["variant"].startswith("permuted_rows/")]
    with pytest.raises(InputError, match="needs rows; got none"):
        draw(few)


# The page and the terminal


def test_sections_are_those_that_were_measured(rows, two_texts):
    def titles(some):
        return [each.section.title for each in html.fill(page.PAGE, of_rows(some))]

    assert titles(two_texts) == [
        "Which layers matter",
        "Importance map",
        "What the controls say",
        "First token or the others",
        "Parts of layers",
        "Heads",
        "All layers",
    ]
    main = wanted(rows, "neighbour_mean")
    assert titles(main) == ["Which layers matter", "Importance map", "All layers"]


def test_the_terminal_has_a_line_for_each_layer(rows, two_texts):
    lines = summary_table(rows, "importance").splitlines()
    start = "sentences, each layer: neighbour mean; baseline perplexity 20.0000, 50 predicted"
    assert lines[0].startswith(start)
    cells = ["3", "critical", "6,820.00", "+34,000", "[+33,994,", "+51,004]", "+51,000"]
    assert lines[5].split() == [*cells, "+30,600", "+12.0"]
    assert summary_table(rows, "importance").isascii()
    assert max(map(len, lines)) <= 120
    first, second = summary_table(two_texts, "importance").split("\n\n")
    assert "zero" in first
    assert "zero" not in second


def test_a_data_frame_works(rows, change):
    change(rows, "zero/layer/2", degradation_percent=None, category=None)

    class Frame:
        """What pandas makes of the rows: null becomes NaN."""

        def to_dict(self, orient):
            assert orient == "records"
            nan = float("nan")
            return [{k: nan if v is None else v for k, v in row.items()} for row in rows]

    assert tidy.layers(of_rows(Frame())) == tidy.layers(of_rows(rows))
    assert terminal.printed(page.PAGE, of_rows(Frame())) == summary_table(rows, "importance")


def test_the_same_rows_give_the_same_picture(rows):
    first, second = (views.to_png(plot.controls(rows).figure, dpi=40) for _ in range(2))
    assert first == second

"""The page of the manipulation experiment: its rows are the run's, its figures show them."""

import itertools
import math
import statistics
from pathlib import Path

import manipulation_run as made
import pytest

import jaxanatomy as ja
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.grid import PLAIN
from jaxanatomy.interventions.sets import MAIN_SETS
from jaxanatomy.measures.statistics.estimates import Estimate, paired_difference
from jaxanatomy.records import RunRecord
from jaxanatomy.report import html, terminal, views
from jaxanatomy.report import manipulation as page
from jaxanatomy.report import manipulation_rows as tidy

SECTIONS = [
    "What survives",
    "Dose and response",
    "Strategies on sets",
    "Pairs of layers",
    "Number of layers",
    "Improvements and temperature",
    "Does a small error compound?",
    "Does 1 % redirect attention?",
    "All rows",
]
# What tells the paper's model from others, at six layers' worth of rows.
SHAPE = {"hidden_size": 576, "vocab_size": 49152, "rope_theta": 100000}
ARCHITECTURE = {"layers": [{}] * 30, **SHAPE}
NOT_FINITE = {"ppl": None, "degradation_percent": None, "ci95": None, "unit_nll": [None, None]}


def make_record(rows, summary=None, architecture=None, model="file:made-up"):
    provenance = {"model": model, "architecture": architecture or {}, "experiment": "manipulation"}
    return RunRecord(Path("made-up"), list(rows), {}, provenance, summary or {})


def change(rows, variant, **fields):
    next(row for row in rows if row["variant"] == variant).update(fields)
    return rows


def with_ppl(rows, variant, ppl):
    """A row with another perplexity, the same in each of its documents."""
    fields = {"ppl": ppl, "degradation_percent": 100 * (ppl / made.BASELINE_PPL - 1)}
    fields["unit_nll"] = [tokens * math.log(ppl) for tokens in made.TOKENS]
    return change(rows, variant, **fields)


@pytest.fixture
def rows():
    """Every strategy on every set, on one text."""
    return made.make_text()


@pytest.fixture
def record(rows):
    return make_record(rows)


def values(rows, strategy, set_name, dose="alpha"):
    """Degradation by dose, read off the rows."""
    return {
        row[dose]: row["degradation_percent"]
        for row in rows
        if row["strategy"] == strategy and row["set"] == set_name
    }


def by(found, *fields):
    """Tidy rows by some of their fields, which name each once."""
    named = {tuple(row[field] for field in fields): row for row in found}
    assert len(named) == len(found)
    return named


def test_names_are_those_of_the_interventions():
    settings = {"scale", "scale_output", "low_rank", "own_svd", tidy.NOISE}
    assert {*PLAIN, *settings} == {*tidy.STRATEGIES}
    assert tuple(made.SETS) == MAIN_SETS


def test_a_finished_run_has_every_section_and_figure():
    filled = html.fill(page.PAGE, make_record(made.make_rows(), made.make_summary()))
    assert [each.section.title for each in filled] == SECTIONS
    pictures = [p for each in filled for p in each.content if isinstance(p, html.Picture)]
    names = ["manipulation", "manipulation_sets", "manipulation_pairs", "manipulation_layers"]
    assert [p.name for p in pictures] == [*names, "compounding", "attention_shift"]
    assert all(picture.svg.startswith("<svg") for picture in pictures)


def test_an_unfinished_run_has_what_is_there(rows):
    few = [row for row in rows if row["set"] in (None, "paper")]
    titles = [each.section.title for each in html.fill(page.PAGE, make_record(few))]
    assert titles == [*SECTIONS[:3], SECTIONS[8]]
    noise = [row for row in rows if row["strategy"] == "perturb"]
    titles = [each.section.title for each in html.fill(page.PAGE, make_record(noise))]
    assert titles == [SECTIONS[6], SECTIONS[8]]


def test_trials_are_every_variant_in_the_order_of_methods_and_sets(rows, record):
    found = tidy.trials(record)
    assert len(found) == len(rows) - 1
    methods = list(dict.fromkeys(row["method"] for row in found))
    assert methods[:4] == ["scale × 1.1", "scale × 0.9", "scale × 0.5", "scale × 0"]
    assert methods[-3:] == ["neighbour mean", "noise of 5 %", "noise of 1 %"]
    low_rank = ["low rank, full rank", "low rank, half rank", "low rank, rank 8"]
    assert [each for each in methods if each.startswith("low rank")] == low_rank
    shown = [row["shown"] for row in found if row["method"] == "clone"]
    assert shown[:5] == ["measured", "paper", "paper, inner", "least 1", "least 2"]
    assert tidy.trials(make_record(made.make_attention())) == []


def test_survival_holds_every_change_with_its_interval_and_the_category_that_is_sure(rows):
    change(rows, "clone/set/paper", **NOT_FINITE)
    change(rows, "zero/set/measured", ci95=[101.0, 400.0])
    change(rows, "blend_2/set/measured", ci95=[99.0, 400.0])
    change(rows, "blend_4/set/measured", ci95=[-9.0, -1.0])
    found = by(tidy.survival(make_record(rows)), "method")
    measured = found["scale × 0.5",]["change.measured"]
    assert measured.value == values(rows, "scale", "measured")[0.5]
    assert found["clone",]["change.paper"] is None
    inner = found["clone",]["change.paper, inner"]
    assert inner.value == values(rows, "clone", "paper_inner")[None]
    assert found["zero",]["change.measured"].ends == [101.0, 400.0]
    kinds = [found[name,]["kind.measured"] for name in ("zero", "blend of 2", "blend of 4")]
    assert kinds == ["critical", "", "better"]
    assert ("scale × 1.1",) not in found, "a factor that AH does not use"
    assert not any("paper" in row for row in found.values())
    own = [made.make_row("scale", "2,4", [2, 4], 50.0, alpha) for alpha in (0.8, 0.95)]
    found = tidy.survival(make_record(own))
    assert {views.value(row, "change.2, 4") for row in found} == {50.0}


def test_the_papers_figures_stand_beside_its_own_model_only(rows):
    found = by(tidy.survival(make_record(rows, architecture=ARCHITECTURE)), "method")
    assert found["scale × 0.9",]["paper"] == pytest.approx(19.2, abs=0.05)
    assert found["zero",]["paper"] == pytest.approx(4_288_387, rel=1e-4)
    assert found["low rank, rank 8",]["paper"] == found["low rank, full rank",]["paper"]
    assert "paper" not in found["clone with norms",]
    random = make_record(rows, architecture=ARCHITECTURE, model="random:made-up")
    assert tidy.table4(random) == {}
    assert len(tidy.doses(make_record(rows, architecture=ARCHITECTURE))) == 2 * 3 * 4 + 4


def test_sets_name_their_layers_and_the_baseline(record):
    found = by(tidy.sets(record), "shown")
    assert found["paper, inner",]["layers"] == made.SETS["paper_inner"]
    assert next(iter(found.values()))["ppl"] == made.BASELINE_PPL


class TestOutermost:
    def test_the_ratio_is_that_of_the_pairs_of_documents(self, rows, record):
        (row,) = [row for row in tidy.outermost(record) if row["alpha"] == 0.5]
        outer, inner = (
            next(row for row in rows if row["variant"] == f"scale_0.5/set/{name}")
            for name in ("paper", "paper_inner")
        )
        assert row["times"] == paired_difference(outer, inner).map(math.exp)
        assert (row["paper"], row["paper_inner"]) == (outer["ppl"], inner["ppl"])


def test_doses_are_the_rows_and_the_bands_their_intervals(rows, record):
    found = by(tidy.doses(record), "strategy", "set", "alpha")
    for strategy, name in itertools.product(("scale", "scale_output"), made.SETS):
        for alpha, expected in values(rows, strategy, name).items():
            row = found[strategy, name, alpha]
            assert row["change"] == Estimate(expected, *row["ci95"])
            assert row["taken"] == 1 - alpha


def test_the_grid_has_every_cell_and_its_gaps(rows):
    less = [row for row in rows if row["variant"] != "scale_1.1/set/paper"]
    found = by(tidy.grid(make_record(less)), "method", "set")
    sets = [*made.SETS, *made.LEAST]
    assert list(dict.fromkeys(name for _, name in found)) == sets
    assert "degradation_percent" not in found["scale × 1.1", "paper"]
    assert (
        found["own SVD, half rank", "paper"]["degradation_percent"]
        == (values(rows, "own_svd", "paper", "rank")["half"])
    )
    assert not any(method.startswith("noise") for method, _ in found)
    axes = ja.plot.manipulation_sets(change(less, "clone/set/paper", degradation_percent=None))
    assert [text.get_text() for text in axes.texts].count("n/f") == 1


def test_pairs_have_a_triangle_for_each_strategy(rows, record):
    found = by(tidy.pairs(record), "strategy", "first", "second")
    assert found["clone", 0, 5]["degradation_percent"] == values(rows, "clone", "0,5")[None]
    titles = [panel.get_title(loc="left") for panel in ja.plot.manipulation_pairs(rows)]
    assert titles == ["sentences, zero", "sentences, clone", "sentences, blend of 4"]


class TestPairRanges:
    def near(self, rows, monkeypatch, percent):
        monkeypatch.setattr(tidy, "table4", lambda record: {("zero", None): percent})
        (row,) = [row for row in tidy.pair_ranges(make_record(rows)) if row["method"] == "zero"]
        return row["near"], row["near_outer"]

    def test_they_are_near_within_a_factor_of_ten(self, rows, monkeypatch):
        # Zero of a pair costs 30 w^2 %, with w 2, 41 or 80 for none, one or both ends.
        costs = [30.0 * w * w for w in (2, 41, 80)]
        assert self.near(rows, monkeypatch, 20 * (100 + costs[2]) - 100) == (0, 0)
        assert self.near(rows, monkeypatch, 9.9 * (100 + costs[2]) - 100) == (1, 1)
        assert self.near(rows, monkeypatch, costs[1]) == (5, 5)
        assert self.near(rows, monkeypatch, costs[0]) == (1, 0)

    def test_ranges_are_apart_by_the_models_ends(self, rows):
        (row,) = [r for r in tidy.pair_ranges(make_record(rows)) if r["method"] == "clone"]
        assert row["outer"].ends == [60.0 * 41**2, 60.0 * 80**2]
        assert row["inner"] == Estimate(240.0, 240.0, 240.0)
        assert "near" not in row
        # Of a model of thirty layers the sixth is no last one.
        of_thirty = tidy.pair_ranges(make_record(rows, architecture=ARCHITECTURE))
        assert of_thirty[1]["inner"].high == 60.0 * 41**2

    def test_what_is_not_finite_has_no_number(self, rows):
        change(rows, "clone/set/1,3", **NOT_FINITE)
        (row,) = [r for r in tidy.pair_ranges(make_record(rows)) if r["method"] == "clone"]
        (column,) = (each for each in page.RANGES.cells if each.field == "inner")
        assert column.text(row) == "not finite"


def test_curves_count_layers_for_few_doses(rows, record):
    found = by(tidy.by_count(record), "method", "count")
    assert {method for method, _ in found} >= {"zero", "scale × 0.9", "scale × 0.5"}
    assert {method for method, _ in found}.isdisjoint({"scale × 1.1", "own SVD, half rank"})
    for k in (1, 2, 3):
        expected = values(rows, "scale", f"least_{k}")[0.5]
        assert found["scale × 0.5", k]["degradation_percent"] == expected
        assert found["scale × 0.5", k]["dose"] == "second"
        assert found["low rank, full rank", k]["dose"] == "first"


def test_improvements_are_counted_with_and_without_their_intervals():
    rows = [
        made.make_baseline(),
        made.make_row("zero", "least_1", [3], -2.0) | {"ci95": [-3.0, -1.0]},
        made.make_row("clone", "least_1", [3], -2.0) | {"ci95": [-3.0, 1.0]},
        made.make_row("blend_2", "least_1", [3], 2.0),
        made.make_row("perturb", "random_1_s0", [3], -2.0, 0.01) | {"ci95": [-3.0, -1.0]},
    ]
    entry = made.make_summary()["calibration"][1] | {"text": "sentences"}
    record = make_record(rows, {"calibration": [entry]})
    assert page.better(record) == (
        "2 of 3 variants have a perplexity below the baseline's; of 2 changes 0 lie above 0 and 1 "
        "below."
    )
    zero, clone = tidy.improvements(record)
    assert zero["calibrated"] == Estimate(-0.5, -2.0, 1.0)
    assert (zero["explained_by_calibration"], zero["kind_calibrated"]) == (False, "better")
    assert zero["change"] == Estimate(-2.0, -3.0, -1.0)
    assert "explained_by_calibration" not in clone


def test_noise_stands_beside_losses_that_add_up(rows, record):
    for alpha in (0.05, 0.01):
        own = [row for row in rows if row["strategy"] == "perturb" and row["alpha"] == alpha]

        def mean(count, alone=False, own=own):
            chosen = [r for r in own if r["count"] == count and r["set"].isdecimal() == alone]
            return statistics.fmean(math.log(row["ppl"] / made.BASELINE_PPL) for row in chosen)

        shown = [row for row in tidy.noise(record) if row["method"] == f"{100 * alpha:g} %"]
        for what, expected in (
            ("mean", lambda count, mean=mean: mean(count)),
            ("additive", lambda count, mean=mean: count * mean(1, alone=True)),
        ):
            means = {row["count"]: row["noised"] for row in shown if row["what"] == what}
            nats = {count: expected(count) for count in (1, 2, 4, 6)}
            assert means == pytest.approx({k: 100 * math.expm1(v) for k, v in nats.items()})
    draws = [row for row in tidy.noise(record) if row["what"] == "draw"]
    assert len(draws) == 2 * 2 * 4


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([1.001, 1.6], "errors compound"),
        ([0.4, 0.999], "errors partly cancel"),
        ([0.999, 2.084], "that they add up is not excluded"),
        (None, "cannot be told (too few seeds)"),
    ],
)
def test_whether_errors_compound_is_judged_by_the_ratios_interval(ends, verdict):
    entry = {"seeds": 8, "ratio_all_to_sum": 1.0559, "ratio_ci95": ends}
    entry |= {"exponent": 2.0, "exponent_ci95": [1.5, 2.5], "ratio_reason": "too few seeds"}
    summary = {"compounding": {"0.05": entry, "0.01": entry}}
    found = tidy.compounding(make_record([], summary))
    assert [row["method"] for row in found] == ["1 %", "5 %"]
    assert {row["verdict"] for row in found} == {verdict}
    assert found[0]["exponent"] == Estimate(2.0, 1.5, 2.5)


def test_attention_is_the_mean_over_seeds_of_the_local_rows():
    rows = made.make_attention()
    found = by(tidy.attention(make_record(rows)), "panel", "noise", "layer")
    for component, alpha, layer in itertools.product(("q_proj", "k_proj"), (0.1, None), range(6)):
        cell = (component, layer, alpha, "local")
        expected = statistics.fmean(
            row["total_variation"]
            for row in rows
            if (row["component"], row["layer"], row["alpha"], row["spread"]) == cell
        )
        noise = "10 %" if alpha else "matched noise"
        assert found[component, noise, layer]["total_variation"] == pytest.approx(expected)
    panels = ja.plot.attention_shift(rows)
    assert len(panels) == 4
    assert panels[0].get_title(loc="left") == "q_proj, attention moved"
    both = [row | {"model": name} for name in "ab" for row in rows]
    assert len(ja.plot.attention_shift(both)) == 8


def test_attention_is_told_in_percent(rows):
    found = by(tidy.attention_means(make_record(rows, made.make_summary())), "component", "noise")
    assert found["q_proj", "1 %"]["total_variation"] == pytest.approx(1.2)
    assert found["q_proj", "matched noise"]["total_variation"] == pytest.approx(60.0)


FIGURES = {
    "manipulation": "scale_0.5/set/paper",
    "manipulation_sets": "zero/set/least_1",
    "manipulation_layers": "zero/set/least_1",
    "compounding": "perturb_0.01/set/random_2_s0",
    "manipulation_pairs": "zero/set/0,1",
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_single_row_gives_an_emptier_figure_and_none_an_error(rows, name):
    draw = getattr(ja.plot, name)
    (row,) = [row for row in rows if row["variant"] == FIGURES[name]]
    axes = draw([row])
    panel = axes[0] if isinstance(axes, tuple) else axes
    assert views.to_png(panel.figure, dpi=30).startswith(b"\x89PNG")
    with pytest.raises(InputError, match=f"the figure '{name}' needs rows"):
        draw([made.make_baseline()])


def test_a_data_frame_writes_null_as_nan(rows):
    class Frame:
        def to_dict(self, orient):
            assert orient == "records"
            holes = dict.fromkeys(("alpha", "rank", "set", "kind", "seed"), math.nan)
            return [
                holes | {name: math.nan if v is None else v for name, v in row.items()}
                for row in rows
            ]

    found = tidy.trials(RunRecord.of_rows(Frame()))
    expected = tidy.trials(make_record(rows))
    fields = ("method", "shown", "degradation_percent")
    assert by(found, *fields, "variant").keys() == by(expected, *fields, "variant").keys()


def test_the_terminal_has_tables_for_each_text(rows):
    change(rows, "zero/set/paper", **NOT_FINITE)
    both = make_record([*rows, *made.make_text("paragraphs", pairs=False)])
    text = terminal.printed(page.PAGE, both)
    tables = text.split("\n\n")
    assert [table.split(",")[0] for table in tables] == ["sentences", "paragraphs"] * 2
    (line,) = [line for line in tables[0].split("\n") if line.startswith("zero")]
    assert "+90.0 [" in line
    assert "not finite" in line
    assert "20.00" in tables[2]
    assert text.isascii()
    assert max(map(len, text.split("\n"))) <= 120

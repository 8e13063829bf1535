import math
import re
from pathlib import Path

import manipulation_run as made
import pytest

from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.records import RunRecord
from jaxanatomy.report import page
from jaxanatomy.report.document import Picture, Table
from jaxanatomy.report.manipulation import words
from jaxanatomy.report.manipulation.report import manipulation_report, manipulation_table
from jaxanatomy.report.manipulation.rows import Method, by_text
from jaxanatomy.report.manipulation.tables import Published

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
ARCHITECTURE = {
    "layers": [{}] * 30,
    "hidden_size": 576,
    "vocab_size": 49152,
    "rope_theta": 100000,
}


def make_record(rows, summary=None, architecture=None):
    provenance = {"model": "file:made-up", "architecture": architecture or {}}
    return RunRecord(Path("made-up"), list(rows), {}, provenance, summary or {})


def section(report, title):
    (found,) = [each for each in report.sections if each.title == title]
    return found


def tables_of(found):
    return [part for part in found.content if isinstance(part, Table)]


def column(table, name):
    index = table.header.index(name)
    return {row[0].text: row[index] for row in table.rows}


def change(rows, variant, **fields):
    next(row for row in rows if row["variant"] == variant).update(fields)
    return rows


def with_ppl(rows, variant, ppl):
    """A row with another perplexity, the same in each of its documents."""
    return change(
        rows,
        variant,
        ppl=ppl,
        degradation_percent=100 * (ppl / made.BASELINE_PPL - 1),
        unit_nll=[tokens * math.log(ppl) for tokens in made.TOKENS],
    )


@pytest.fixture
def rows():
    """Every strategy on every set, on one text."""
    return made.make_text()


@pytest.fixture
def trials(rows):
    return by_text(rows)[0]


def test_runs_of_other_experiments_are_left_to_their_reports(rows):
    assert manipulation_report(make_record([{"variant": "zero/layer/3", "layer": 3}])) is None
    function_test = [row | {"reading": "function"} for row in rows]
    assert manipulation_report(make_record(function_test)) is None
    assert manipulation_report(make_record([made.make_baseline()])) is None


def test_a_finished_run_has_every_section():
    report = manipulation_report(make_record(made.make_rows(), made.make_summary()))
    assert [each.title for each in report.sections] == SECTIONS
    pictures = [p for s in report.sections for p in s.content if isinstance(p, Picture)]
    assert [picture.name for picture in pictures] == [
        "manipulation",
        "manipulation_sets_sentences",
        "manipulation_sets_paragraphs",
        "manipulation_pairs",
        "manipulation_layers",
        "compounding",
        "attention_shift",
    ]
    assert all(len(picture.caption) > 100 and len(picture.alt) > 40 for picture in pictures)


def test_an_unfinished_run_has_what_is_there(rows):
    few = [row for row in rows if row["set"] in (None, "paper")]
    titles = [each.title for each in manipulation_report(make_record(few)).sections]
    assert titles == [*SECTIONS[:3], SECTIONS[5], SECTIONS[8]]
    noise = [row for row in rows if row["strategy"] == "perturb"]
    titles = [each.title for each in manipulation_report(make_record(noise)).sections]
    assert titles == [*SECTIONS[5:7], SECTIONS[8]]


def test_the_page_renders(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "REPORTS", (manipulation_report,))
    report = page.build(make_record(made.make_rows(), made.make_summary()))
    pictures = {p.name: b"png" for s in report.sections for p in s.content if hasattr(p, "figure")}
    text = page.render(report, pictures)
    assert text.count("<img") == 7
    assert "inf" not in [part.split('"')[0] for part in text.split('data-value="')[1:]]


def test_the_main_table_holds_the_rows(rows):
    report = manipulation_report(make_record(rows))
    (table,) = tables_of(section(report, "What survives"))
    for name, label in (("measured", "measured"), ("paper_inner", "paper, inner")):
        changes, ppls = column(table, f"{label} (%)"), column(table, f"{label}: perplexity")
        for method, text in ((Method("clone"), "clone"), (Method("scale", 0.5), "scale × 0.5")):
            (row,) = [
                row
                for row in rows
                if row["set"] == name
                and (row["strategy"], row["alpha"]) == (method.strategy, method.dose)
            ]
            assert changes[text].value == row["degradation_percent"]
            assert ppls[text].text == f"{row['ppl']:,.2f}"
    assert "scale × 1.1" not in column(table, "measured (%)"), "a factor that AH does not use"
    assert not [name for name in table.header if name.startswith("AH")]


def test_the_papers_figures_stand_beside_its_own_model_only(rows):
    report = manipulation_report(make_record(rows, architecture=ARCHITECTURE))
    (table,) = tables_of(section(report, "What survives"))
    found = column(table, "AH Table 4 (%; perplexity)")
    assert found["scale × 0.9"].text == "+19.2 % (27; nine layers)"
    assert found["zero"].text == "+4,288,387 % (969,198; two layers, not named)"
    assert found["clone with norms"].text == "–"
    published = Published(make_record(rows, architecture=ARCHITECTURE))
    assert sorted(published.by_alpha) == [0.0, 0.5, 0.7, 0.9]
    assert published.by_alpha[0.7] == pytest.approx(100 * (928.22 / 22.60 - 1), rel=1e-12)
    random = make_record(rows, architecture=ARCHITECTURE)
    random.provenance["model"] = "random:made-up"
    assert not Published(random)


def test_survival_is_below_a_doubling(rows):
    kept = {"zero": 39.9, "clone": 40.0, "predicted": 40.1}  # of a baseline of 20
    for strategy, ppl in kept.items():
        with_ppl(rows, f"{strategy}/paper", ppl)
    sentence = words.survivors(by_text(rows)[0])
    assert re.findall(r"\d+ of \d+ on the set “paper” \(.*?\)", sentence) == [
        "1 of 18 on the set “paper” (zero)"
    ]


class TestCollapse:
    def test_it_comes_with_the_outermost_layers(self, rows, trials):
        found = words.collapse(trials)
        outer, inner = (trials.row(Method("scale", 0.5), name) for name in ("paper", "paper_inner"))
        ratio = math.exp(paired_difference(inner, outer).value)
        assert f"without layers 0 and 5 it is {inner['ppl']:.2f} (×{ratio:.3g}, 95 %" in found
        assert "worse at 2 of 2 factors up to 0.7" in found
        assert found.endswith("The collapse comes with layers 0 and 5 in the set.")

    def test_a_factor_that_is_not_settled_leaves_it_open(self, rows):
        inner = next(row for row in rows if row["variant"] == "scale_0.0/paper_inner")
        low, high = inner["unit_nll"]
        change(rows, "scale_0.0/paper", unit_nll=[low - 1.0, high + 2.0])
        found = words.collapse(by_text(rows)[0])
        assert "worse at 1 of 2 factors" in found
        assert "does not show" in found

    def test_a_mild_effect_is_no_collapse(self, rows):
        for alpha in (0.0, 0.5, 0.9):
            inner = next(row for row in rows if row["variant"] == f"scale_{alpha}/paper_inner")
            with_ppl(rows, f"scale_{alpha}/paper", 1.5 * inner["ppl"])
        found = words.collapse(by_text(rows)[0])
        assert "worse at 2 of 2 factors" in found
        assert "does not show" in found

    def test_what_is_not_finite_is_worse(self, rows):
        fields = {"ppl": None, "degradation_percent": None, "unit_nll": [None, None]}
        change(rows, "scale_0.0/paper", **fields)
        assert "worse at 2 of 2 factors" in words.collapse(by_text(rows)[0])
        change(rows, "scale_0.0/paper_inner", **fields)
        assert "worse at 1 of 2 factors" in words.collapse(by_text(rows)[0])


class TestPairs:
    def published(self, percent):
        found = Published(make_record([]))
        found.pairs = {"zero": percent}
        return found

    def near(self, trials, percent):
        return words.near_pairs(trials, Method("zero"), self.published(percent), {0, 5})

    def test_they_are_near_within_a_factor_of_ten(self, trials):
        # Zero of a pair costs 30 w^2 %, with w 2, 41 or 80 for none, one or both ends.
        costs = [30.0 * w * w for w in (2, 41, 80)]
        found = self.near(trials, 20 * (100 + costs[2]) - 100)
        assert "no pair comes within a factor of 10" in found
        found = self.near(trials, 9.9 * (100 + costs[2]) - 100)
        assert "within a factor of 10 of that perplexity: 0 with 5; 1 of these 1 with" in found
        found = self.near(trials, costs[1])
        assert found.endswith("; 5 of these 5 with layer 0 or 5.")
        found = self.near(trials, costs[0])
        assert found.endswith("1 with 3; 0 of these 1 with layer 0 or 5.")

    def test_without_the_paper_the_spans_stay(self, trials):
        found = words.near_pairs(trials, Method("clone"), self.published(1.0), {0, 5})
        assert found == (
            "sentences: clone of two layers costs +100,860 to +384,000 % with layer 0 or 5, "
            "+240.0 to +240.0 % without."
        )

    def test_the_last_layer_is_the_models(self, trials):
        assert words.boundary_of(trials, {"architecture": ARCHITECTURE}) == {0, 29}
        assert words.boundary_of(trials, {}) == {0, 5}


def test_layers_are_counted_until_the_perplexity_doubles(rows):
    # One layer, two and three: the second fails, so the third does not count.
    for k, ppl in ((1, 30.0), (2, 50.0), (3, 30.0)):
        with_ppl(rows, f"zero/least_{k}", ppl)
        with_ppl(rows, f"clone/least_{k}", 39.0)
    found = words.enough(by_text(rows)[0])
    assert "; zero: 1;" in found
    assert "; clone: 3;" in found


def test_improvements_are_counted_with_and_without_their_intervals():
    rows = [
        made.make_baseline(),
        made.make_row("zero", "least_1", [3], -2.0) | {"ci95": [-3.0, -1.0]},
        made.make_row("clone", "least_1", [3], -2.0) | {"ci95": [-3.0, 1.0]},
        made.make_row("blend_2", "least_1", [3], 2.0),
        made.make_row("perturb", "random_1_s0", [3], -2.0, 0.01) | {"ci95": [-3.0, -1.0]},
    ]
    assert words.better(by_text(rows)[0]) == (
        "sentences: 2 of 3 variants have a perplexity below the baseline's; for 1 of them the "
        "whole 95 % interval lies below it."
    )


def test_calibration_tells_what_it_explains(rows):
    report = manipulation_report(make_record(rows, made.make_summary()))
    found = section(report, "Improvements and temperature")
    assert "explains 1 of 2 improvements" in found.text[-1]
    (table,) = tables_of(found)
    assert [cell.text for cell in table.rows[0]] == [
        "scale_1.1/measured",
        "paragraphs (fitted on sentences)",
        "−7.0",
        "−11.0 to −2.0",
        "−0.5",
        "−2.0 to +1.0",
        "1.020, 1.110",
        "yes",
    ]
    assert table.rows[1][-1].chips[0].text == "no"


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([1.001, 1.6], "errors compound"),
        ([0.4, 0.999], "errors partly cancel"),
        ([0.999, 2.084], "that errors add up is not excluded"),
    ],
)
def test_whether_errors_compound_is_judged_by_the_ratio(ends, verdict):
    entry = {"seeds": 8, "ratio_all_to_sum": 1.0559, "ratio_ci95": ends}
    exponent = {"exponent": 2.0, "exponent_ci95": [1.5, 2.5]}
    told = (
        "Noise of 1 %: all layers at once change the loss by 1.056 times the sum of what each does "
        f"alone (95 % interval over 8 draws {ends[0]:.3f} to {ends[1]:.3f}); independent errors, "
        f"which add up, would give 1: {verdict}."
    )
    assert words.growth("0.01", entry) == told
    assert words.growth("0.01", entry | exponent) == (
        f"{told} The size of the change grows as the number of layers to the power 2.00 "
        "(1.50 to 2.50)."
    )


def test_without_an_interval_nothing_is_judged():
    entry = {"ratio_all_to_sum": 1.3, "ratio_ci95": None, "ratio_reason": "too few seeds"}
    found = words.growth("0.01", entry | {"exponent": 2.0, "exponent_ci95": [1.5, 2.5]})
    assert found == "Noise of 1 %: whether errors compound cannot be told (too few seeds)."


def test_the_ratio_stands_beside_its_null(rows):
    report = manipulation_report(make_record(rows, made.make_summary()))
    (table,) = tables_of(section(report, "Does a small error compound?"))
    (row,) = table.rows
    assert [cell.text for cell in row[:4]] == [
        *("1 %", "×2.400 (2.000 to 2.900)", "×1", "1.50 (1.40 to 1.60)"),
    ]
    assert table.header[2] == "null: independent errors add up"


def test_attention_is_told_in_percent(rows):
    report = manipulation_report(make_record(rows, made.make_summary()))
    found = section(report, "Does 1 % redirect attention?")
    assert found.text[0] == (
        "q_proj: noise of 1 % moves 1.20 % of the attention and changes the most attended token "
        "of 0.4 % of the queries; nothing but noise moves 60.00 %."
    )
    (table,) = tables_of(found)
    assert [row[0].text for row in table.rows[:3]] == [
        "q_proj, 1 %",
        "q_proj, 10 %",
        "q_proj, matched noise",
    ]


def test_the_last_table_has_every_row_once(rows):
    report = manipulation_report(make_record(rows))
    (table,) = tables_of(section(report, "All rows"))
    assert table.folded
    assert table.sortable
    assert len(table.rows) == len(rows) - 1
    assert all(cell.value is not None for row in table.rows for cell in row)


def test_the_terminal_has_a_table_for_each_text(rows):
    fields = {"ppl": None, "degradation_percent": None}
    change(rows, "zero/paper", **fields)
    text = manipulation_table([*rows, *made.make_text("paragraphs", pairs=False)])
    tables = text.split("\n\n")
    assert [table.split("\n")[0] for table in tables] == [
        "sentences: baseline 20.0000",
        "paragraphs: baseline 20.0000",
    ]
    lines = tables[0].split("\n")
    assert lines[1].split() == ["change", "%", "measured", "paper", "paper_inner"]
    assert ["zero", "+90.0", "n/f", "+60.0"] in [line.split() for line in lines]
    assert text.isascii()
    assert max(map(len, text.split("\n"))) <= 100

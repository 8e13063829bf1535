"""The report of the recovery experiment: what it says and draws, from literal rows."""

import math

import numpy as np
import pytest
import run_files

from jaxanatomy.growth.budgets import budget, recovery_shares
from jaxanatomy.measures.recovery import (
    curves,
    evaluation_fields,
    final_row,
    noise_spread,
    recovery_against_importance,
)
from jaxanatomy.records import RunRecord
from jaxanatomy.report import write_report
from jaxanatomy.report.recovery import figures
from jaxanatomy.report.recovery.report import recovery_report, recovery_table

BASELINE, THRESHOLDS = 10.0, (2.0, 1.1)
# Perplexity at steps 0, 10, 20 by (layer, seed).
PPL = {
    (0, None): (10.0, 9.0, 9.5),
    (0, 0): (30.0, 15.0, 10.4),
    (1, None): (10.0, 9.0, 9.0),
    (1, 1): (500.0, 80.0, 60.0),
    (2, None): (10.0, 9.0, 9.0),
    (2, 2): (12.0, 9.8, None),
}
DEGRADATION = {0: 5.0, 1: 900.0, 2: 12.0}


def row_of(layer, seed, step, ppl):
    nll_P = np.full(12, math.nan if ppl is None else math.log(ppl))
    row = {"hash": f"{layer}/{seed}/{step}", "layer": layer, "seed": seed}
    row |= {"noise": seed is not None, "train_text": "paragraphs", "step": step, "loss": 3.0}
    row |= evaluation_fields(nll_P, np.repeat(np.arange(6), 2)) | {"text": "sentences"}
    return row | {"reason": "diverged: here"} if ppl is None else row


@pytest.fixture(scope="module")
def rows():
    found = [{"hash": "b", "variant": "baseline", "ppl": BASELINE, "layer": None}]
    for layer, value in DEGRADATION.items():
        found.append({"hash": f"n{layer}", "variant": f"n/{layer}", "layer": layer})
        found[-1] |= {"intervention": "neighbour_mean", "degradation_percent": value}
    for (layer, seed), values in PPL.items():
        found += [row_of(layer, seed, 10 * index, ppl) for index, ppl in enumerate(values)]
    found.append(row_of(1, 1001, 0, 300.0))
    by_replica = curves(found)
    for (layer, seed), curve in by_replica.items():
        if len(curve) > 1:
            control = None if seed is None else by_replica[layer, None]
            final = final_row(curve, control, BASELINE, THRESHOLDS)
            found.append({"hash": f"f{layer}{seed}", **final})
    return found


@pytest.fixture(scope="module")
def finals(rows):
    return [row for row in rows if row.get("kind") == "final"]


@pytest.fixture(scope="module")
def page(rows, finals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    shares = recovery_shares(finals, "1.1", 20)
    groups = [{"group": "all_of_them", "layers": [0, 1, 2], "low": 0.2, "high": 0.4}]
    summary = {
        "thresholds": ["2", "1.1"],
        "warnings": ["the texts are the same"],
        "diverged": [{"layer": 2, "seed": 2, "reason": "diverged: here"}],
        "noise": noise_spread(rows),
        "importance": recovery_against_importance(finals, DEGRADATION, "1.1"),
        "shares": shares,
        "budget": budget(shares, groups, 200),
    }
    run_files.write_config(folder, {"thresholds": THRESHOLDS}, {"model": "random:x"})
    run_files.write_rows(folder, rows)
    run_files.write_summary(folder, summary)
    return write_report(folder).read_text()


def test_the_page_says_what_was_found(page):
    for words in (
        "3 layers, 6 curves; trained on paragraphs, evaluated on sentences.",
        "Warning: the texts are the same.",
        "Layer 2, seed 2: diverged: here.",
        "the perplexity with noise +0.50",
        # (1 + 1 + 0.5) / 3 of the steps: layer 0 after 20, layer 1 never, layer 2 after 10.
        "Over 3 layers: 500 of 600 steps, 17 % saved; AH Table 10 over the same layers 120 to 240",
        "all of them",
    ):
        assert words in page
    assert "AH Table 5" not in page  # another model


def test_what_recovers_is_the_gap_to_the_same_training_without_noise(rows):
    record = RunRecord("run", rows, {"thresholds": THRESHOLDS}, {}, {})
    section = recovery_report(record).sections[0]
    table, picture, *_ = section.content
    cells = {row[0].text: [cell.text for cell in row] for row in table.rows}
    gap = math.log(10.4 / 9.5)
    assert cells["0"] == ["0", "1", f"+{gap:.3f}", "", f"+{gap:.3f} to +{gap:.3f}", "10", "20"]
    assert cells["1"][-2:] == ["never", "never"]
    assert cells["2"][2] == f"+{math.log(9.8 / 9):.3f}"  # at step 10: it diverged
    assert picture.name == "gaps"
    alone = [row for row in rows if row.get("noise") is not False]
    alone = [
        {**row, "steps_to_control": None, "gap_to_control_nats": None}
        if row.get("kind") == "final"
        else row
        for row in alone
    ]
    said = recovery_report(RunRecord("run", alone, {"thresholds": THRESHOLDS}, {}, {})).sections[0]
    assert any("what they recover is not known" in words for words in said.text)
    lines = recovery_table(alone).splitlines()
    assert lines[1].split()[6:] == ["-", "-", "-"]


def test_gaps_are_drawn_with_their_seeds_and_intervals():
    found = {
        3: {"mean": 0.2, "low": 0.1, "high": 0.3, "ci95": [-1.0, 1.4]},
        5: {"mean": 0.5, "low": 0.5, "high": 0.5, "ci95": None},
    }
    ax = figures.gaps(found)
    marks = {
        line.get_xdata()[0]: line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"
    }
    assert marks == {3: 0.2, 5: 0.5}
    bars = [line.get_ydata() for line in ax.lines if line.get_linewidth() == 4]
    assert [list(bar) for bar in bars] == [[0.1, 0.3], [0.5, 0.5]]
    assert ax.get_ylim()[1] < 1.4  # an interval of two seeds would hide the rest


def test_training_on_the_evaluation_text_is_called_an_upper_bound(rows):
    def paragraphs(train_text):
        made = [{**row, "train_text": train_text} if "train_text" in row else row for row in rows]
        record = RunRecord("run", made, {"thresholds": THRESHOLDS}, {}, {})
        return " ".join(recovery_report(record).sections[0].text)

    assert "an upper bound" in paragraphs("sentences")
    assert "an upper bound" not in paragraphs("paragraphs")


def test_the_table_of_a_run_is_narrow_and_holds_the_steps(rows):
    lines = recovery_table(rows).splitlines()
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    assert " ".join(lines[0].split()) == "layer seed noised best at step last to 2x to 1.1x gap"
    assert lines[1].split()[:8] == ["0", "0", "30.00", "10.40", "20", "10.40", "10", "20"]
    assert lines[2].split()[:8] == ["1", "1", "500.00", "60.00", "20", "60.00", "never", "never"]
    assert lines[3].split()[:8] == ["2", "2", "12.00", "9.80", "10", "not", "finite", "0"]
    assert "to Nx: first evaluated step within N times the same training without noise" in lines


def test_curves_have_a_panel_for_each_layer_and_end_in_a_cross_where_they_diverge(rows):
    panels = figures.recovery_curves(rows, BASELINE, ["2", "1.1"])
    assert [ax.get_title(loc="left") for ax in panels] == ["layer 0", "layer 1", "layer 2"]
    drawn = [line for line in panels[0].lines if len(line.get_xdata()) == 3]
    values = sorted(line.get_ydata().tolist() for line in drawn)
    assert values == [pytest.approx(PPL[0, None]), pytest.approx(PPL[0, 0])]
    levels = {line.get_ydata()[0] for line in panels[0].lines if list(line.get_xdata()) == [0, 1]}
    assert levels == {10.0, 20.0, 11.0}
    crosses = [[line.get_marker() for line in ax.lines].count("x") for ax in panels]
    assert crosses == [0, 0, 1]


def test_damage_shows_every_seed_and_the_lowest_of_each_curve(rows, finals):
    ax = figures.damage_and_recovery(rows, finals, BASELINE, {"1": [54.7]})
    marks = [line for line in ax.lines if line.get_marker() in ("o", "D")]
    seeds = [line.get_ydata()[0] for line in marks if line.get_color() == figures.SEEDS]
    assert sorted(seeds) == pytest.approx([12.0, 30.0, 300.0, 500.0])
    lowest = [line.get_ydata()[0] for line in marks if line.get_color() == figures.NOISED]
    assert sorted(lowest) == pytest.approx([9.8, 10.4, 60.0])
    assert [line.get_ydata()[0] for line in marks if line.get_marker() == "D"] == [54.7]


def test_importance_puts_what_never_recovered_above_the_longest_curve(finals):
    noised, steps = figures.against_importance(finals, DEGRADATION, "1.1")
    points = {line.get_xdata()[0]: line.get_ydata()[0] for line in steps.lines}
    assert points == pytest.approx({5.0: 20, 12.0: 10, 900.0: 1.08 * 20})
    assert sorted(text.get_text() for text in noised.texts) == ["0", "1", "2"]


def test_budgets_show_shares_over_the_papers_ranges():
    groups = [{"group": "a", "layers": [1], "low": 0.2, "high": 0.5}]
    ax = figures.budgets({0: 1.0, 1: 0.25}, groups)
    assert [line.get_ydata()[0] for line in ax.lines] == [1.0, 0.25]
    (bar,) = ax.patches
    assert (bar.get_y(), bar.get_height()) == (0.2, pytest.approx(0.3))
    assert figures.budgets({0: 1.0}, ()).patches[:] == []

"""The report of the developmental experiment, from rows alone."""

import dataclasses

import numpy as np
import pytest

from jaxanatomy.data.facts import facts
from jaxanatomy.growth.arms import ARMS
from jaxanatomy.measures.developmental import summarise
from jaxanatomy.records import RunRecord
from jaxanatomy.report.developmental import figures
from jaxanatomy.report.developmental.report import developmental_report, summary_table

TAUGHT = [rest for _, rest in facts().prompts]
LOSSES = {"uniform_100": 1.0, "growth_100": 1.3, "equal_flops": 1.3}
STAGES = {"growth_100": ("gastrulation", "maturation")}


def curve(arm, seed, loss, purpose="main", rate=1e-3):
    labels = {"arm": arm, "purpose": purpose, "learning_rate": rate, "seed": seed}
    stages = STAGES.get(arm, ("uniform", "uniform"))
    places = ((stages[0], 0, 6.0), (stages[0], 32, 2.0), (stages[1], 64, loss))
    rows = [
        {
            **labels,
            "kind": "curve",
            "stage": stage,
            "step": step,
            "tokens": 50 * step,
            "seconds": step / 10,
            "flops": 10**10 * step,
            "loss": value - 0.5 if step else None,
            "eval_nll": value,
        }
        for stage, step, value in places
    ]
    final = rows[-1] | {
        "kind": "final",
        "final_nll": loss,
        "min_nll": loss - 0.1,
        "min_step": 32,
        "unit_nll": [3 * loss, 2 * loss],
        "min_unit_nll": [3 * (loss - 0.1), 2 * (loss - 0.1)],
        "unit_tokens": [3, 2],
        "core_steps": 40,
        "train_nll": 0.25,
        "completions": [*TAUGHT[:-1], "nothing"],
        "exact_completions": 11,
        "diverged_step": None,
        "reason": None,
        "wall_seconds": 3.0,
    }
    return [*rows, final]


@pytest.fixture(scope="module")
def record():
    rows = []
    for arm, loss in LOSSES.items():
        for rate, tried in ((1e-4, 3.0), (1e-3, 2.0)):
            rows += curve(arm, 7, tried, "tuning", rate)
        # growth_100 and equal_flops differ by chance alone.
        sign = -1 if arm == "equal_flops" else 1
        for seed, off in enumerate((-0.02, 0.0, 0.02)):
            rows += curve(arm, seed, loss + sign * off)
    rows = [{"hash": str(index), **row} for index, row in enumerate(rows)]
    return RunRecord("run", rows, {}, {}, summarise(rows))


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_the_verdict_says_only_what_intervals_allow(record):
    _, said = developmental_report(record).sections[0].text
    assert said.startswith(
        "At the end growth_100 is worse than uniform_100 (+0.300); not told apart from "
        "equal_flops (+0.000). At its best growth_100 is worse than"
    )
    alone = [row for row in record.rows if row["arm"] == "growth_100"]
    (_,) = developmental_report(dataclasses.replace(record, rows=alone)).sections[0].text


def test_tables_hold_means_intervals_and_the_paper_s_figures(record):
    arms, words = developmental_report(record).sections[0].content
    first, growth, _ = texts(arms)
    half = 4.302653 * 0.02 / np.sqrt(3)
    assert first[:5] == ["uniform_100", "0.001", "64", "40", "0.64"]
    assert first[6] == f"1.000 [{1 - half:.3f}, {1 + half:.3f}]"
    assert (first[-2:], growth[-2:]) == (["11.0", "0.599"], ["11.0", "0.127"])
    assert texts(words)[2] == ["equal_flops", ARMS["equal_flops"]]
    against, of_growth = developmental_report(record).sections[1].content
    assert texts(against)[0] == ["growth_100", *["+0.300 [+0.300, +0.300]"] * 2, "3"]
    assert [row[0] for row in texts(of_growth)] == ["uniform_100", "equal_flops"]
    assert "at level 97.50%, so that all 2 hold at once with 95 %" in against.note


def test_rates_at_the_edge_and_completions_are_shown(record):
    (rates,) = developmental_report(record).sections[3].content
    assert rates.header == ("arm", "0.0001", "0.001", "taken")
    assert texts(rates)[0] == ["uniform_100", "3.000", "2.000", "0.001"]
    assert "edge of the grid" in rates.note
    assert "uniform_100, growth_100, equal_flops" in rates.note
    (written,) = developmental_report(record).sections[4].content
    assert written.header == ("prompt", "taught", "uniform 100", "growth 100", "equal flops")
    assert texts(written)[0] == ["the capital of france is", "paris", "✓", "✓", "✓"]
    assert texts(written)[-1] == ["hello how are", "you today", *["nothing"] * 3]


def test_a_seed_that_stopped_is_named(record):
    rows = [dict(row) for row in record.rows]
    stopped = next(row for row in rows if row["kind"] == "final" and row["purpose"] == "main")
    stopped |= {"final_nll": None, "min_nll": None, "train_nll": None, "diverged_step": 3}
    found = developmental_report(dataclasses.replace(record, rows=rows))
    assert "uniform_100: seeds [0]" in found.sections[0].content[0].note
    other = [{"hash": "1", "metric": "x"}]
    assert developmental_report(dataclasses.replace(record, rows=other)) is None


def test_the_terminal_has_a_line_for_each_arm(record):
    header, *lines = summary_table(record.rows).splitlines()
    assert [line.split()[0] for line in lines] == list(LOSSES)
    assert len({len(line) for line in (header, *lines)}) == 1
    assert len(header) <= 100


def test_curves_are_means_over_seeds_against_steps_flops_and_seconds(record):
    panels = figures.curves(record.rows, list(LOSSES))
    for ax, field, unit in zip(panels, ("step", "flops", "seconds"), (1, 1e12, 1), strict=True):
        line = ax.lines[0]
        first = [
            row for row in record.rows if row["kind"] == "curve" and row["arm"] == "uniform_100"
        ]
        first = [row for row in first if row["purpose"] == "main" and row["seed"] == 0]
        np.testing.assert_allclose(line.get_xdata(), [row[field] / unit for row in first])
        np.testing.assert_allclose(line.get_ydata(), [6.0, 2.0, 1.0], atol=1e-9)
    marks = [text.get_text().strip() for text in panels[0].texts]
    assert marks == ["1 gastrulation", "2 maturation"]
    both = figures.training_curves(record.rows, list(LOSSES))
    np.testing.assert_allclose(both[0].lines[1].get_ydata(), [1.5, 0.5], atol=1e-9)
    assert [ax.get_title(loc="left") for ax in both] == list(LOSSES)

"""The page of the developmental experiment: what it says, and that its rows are the run's."""

import dataclasses

import numpy as np
import pytest

from jaxanatomy.data.facts import facts
from jaxanatomy.growth.arms import ARMS
from jaxanatomy.measures.arms.developmental import summarise
from jaxanatomy.measures.arms.finals import Losses
from jaxanatomy.records import RunRecord
from jaxanatomy.report import developmental as page
from jaxanatomy.report import html, terminal, views

TAUGHT = [rest for _, rest in facts().prompts]
LOSSES = {"uniform_100": 1.0, "growth_100": 1.3, "equal_flops": 1.3}
LOST = ("tuning", 1e-4)
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


def view_of(kind, name):
    found = (view for section in page.PAGE.sections for view in section.views)
    return next(view for view in found if isinstance(view, kind) and view.name == name)


def cells(name, record):
    """The head and the rows of a table, as they are written."""
    view = view_of(views.Table, name)
    rows = view.rows(record)
    columns = view.shown(rows)
    return [column.head for column in columns], [[c.text(row) for c in columns] for row in rows]


def test_the_verdict_says_only_what_intervals_allow(record):
    assert page.verdict(record) == (
        "At the end the loss of other arms less that of growth_100: below 0: uniform_100; not told "
        "apart: equal_flops. At its best the loss of other arms less that of growth_100: below 0: "
        "uniform_100; not told apart: equal_flops."
    )
    alone = [row for row in record.rows if row["arm"] == "growth_100"]
    alone = dataclasses.replace(record, rows=alone)
    assert page.verdict(alone) == ""
    titles = [each.section.title for each in html.fill(page.PAGE, alone)]
    assert titles == ["Does growth win?", "Loss curves", "Learning rates", "Completions"]


def test_the_verdict_turns_with_the_losses(record):
    better = {"unit_nll": [1.5, 1.0], "min_unit_nll": [1.5, 1.0]}
    rows = [
        row | better if (row["arm"], row["kind"]) == ("growth_100", "final") else row
        for row in record.rows
    ]
    said = page.verdict(dataclasses.replace(record, rows=rows))
    assert said.count("of growth_100: above 0: uniform_100, equal_flops.") == 2


def test_tables_hold_means_intervals_and_the_paper_s_figures(record):
    head, (first, growth, _) = cells("arms", record)
    half = 4.302653 * 0.02 / np.sqrt(3)
    assert first[:5] == ["uniform_100", "0.001", "64", "40", "0.64"]
    assert first[6] == f"1.000 [{1 - half:.3f}, {1 + half:.3f}]"
    assert (first[-2:], growth[-2:]) == (["11.0", "0.599"], ["11.0", "0.127"])
    assert "stopped seeds" not in head
    assert cells("what", record)[1][2] == ["equal_flops", ARMS["equal_flops"]]


def test_differences_hold_at_once_and_are_of_the_arm_less_the_other(record):
    rows = page.differences(record)
    less, _ = Losses.of(record.rows, "final_nll").difference(("growth_100", "uniform_100"), 0.975)
    assert less.value == pytest.approx(0.3)
    assert [row["arm"] for row in rows] == [
        "growth_100",
        "equal_flops",
        "uniform_100",
        "equal_flops",
    ]
    ends = [less.value, less.low, less.high]
    for measure in ("final_nll", "min_nll"):
        found = rows[0][measure]
        assert [found.value, found.low, found.high] == pytest.approx(ends, abs=5e-4)
    assert (rows[0]["seeds"], rows[0]["level"]) == (3, 0.975)
    assert rows[2]["final_nll"].value == pytest.approx(-0.3)
    panels = views.draw(view_of(views.Strip, "differences"), page.differences(record))
    titles = [ax.get_title(loc="left") for ax in panels]
    assert titles == ["against uniform_100", "against growth_100"]
    ends = [line.get_xdata()[0] for line in panels[0].lines if line.get_marker() == "o"]
    assert ends == pytest.approx([0.3, 0.3])


def test_rates_at_the_edge_and_completions_are_shown(record):
    head, rows = cells("rates", record)
    assert head == ["arm", "0.0001", "0.001", "taken", "at the edge of the grid"]
    assert rows[0] == ["uniform_100", "3.000", "2.000", "0.001", "yes"]
    assert [row[0] for row in rows] == list(LOSSES)
    head, rows = cells("completions", record)
    assert head == ["prompt", "taught", "uniform 100", "growth 100", "equal flops"]
    assert rows[0] == ["the capital of france is", "paris", "✓", "✓", "✓"]
    assert rows[-1] == ["hello how are", "you today", *["nothing"] * 3]


def test_a_seed_that_stopped_is_named(record):
    rows = [dict(row) for row in record.rows]
    stopped = next(row for row in rows if row["kind"] == "final" and row["purpose"] == "main")
    stopped |= {"final_nll": None, "min_nll": None, "train_nll": None, "diverged_step": 3}
    stopped |= {"unit_nll": None, "min_unit_nll": None}
    found = dataclasses.replace(record, rows=rows)
    head, (first, second, _) = cells("arms", found)
    assert (head[-1], first[-1], second[-1]) == ("stopped seeds", "0", "–")
    assert page.differences(found)[0]["seeds"] == 2


def test_a_rate_that_diverged_is_named(record):
    rows = [
        row | {"final_nll": None} if (row["purpose"], row["learning_rate"]) == LOST else row
        for row in record.rows
    ]
    found = cells("rates", dataclasses.replace(record, rows=rows))[1][0]
    assert found[:3] == ["uniform_100", "diverged", "2.000"]


def test_the_terminal_has_a_line_for_each_arm(record):
    title, _, *lines = terminal.printed(page.PAGE, record).splitlines()
    assert title.startswith("Validation loss in nats per token")
    assert [line.split()[0] for line in lines] == list(LOSSES)
    assert all(line.isascii() for line in lines)


def test_curves_are_means_over_seeds_against_steps_flops_and_seconds(record):
    panels = views.draw(view_of(views.Curves, "loss_curves"), page.validation(record))
    for ax, field, unit in zip(panels, ("step", "flops", "seconds"), (1, 1e12, 1), strict=True):
        line = ax.lines[0]
        first = [
            row for row in record.rows if row["kind"] == "curve" and row["arm"] == "uniform_100"
        ]
        first = [row for row in first if row["purpose"] == "main" and row["seed"] == 0]
        np.testing.assert_allclose(line.get_xdata(), [row[field] / unit for row in first])
        np.testing.assert_allclose(line.get_ydata(), [6.0, 2.0, 1.0], atol=1e-9)
    last = next(row for row in page.points(record) if row["step"] == 64)
    assert last["loss"].ends == pytest.approx([0.98, 1.02])
    phases = [(row["step"], row["phase"]) for row in page.validation(record) if "phase" in row]
    assert phases == [(0, 1), (64, 2)]
    both = views.draw(view_of(views.Curves, "training_and_validation"), page.points(record))
    lines = {
        line.get_linestyle(): line.get_ydata() for line in both[0].lines if line.get_xdata().size
    }
    np.testing.assert_allclose(lines[":"], [1.5, 0.5], atol=1e-9)
    np.testing.assert_allclose(lines["-"], [6.0, 2.0, 1.0], atol=1e-9)
    assert [ax.get_title(loc="left") for ax in both] == list(LOSSES)


def test_a_run_without_results_has_no_sections(record):
    tuning = [row for row in record.rows if row["purpose"] == "tuning"]
    filled = html.fill(page.PAGE, dataclasses.replace(record, rows=tuning, summary={}))
    assert [each.section.title for each in filled] == ["Learning rates"]

"""The page of depth growth: what it says and draws, from literal rows and steps."""

import json

import numpy as np
import pytest
import run_files
from report.depth_growth_rows import (
    ARMS,
    DIVERGED,
    LOST,
    TASKS,
    curve_rows,
    final_rows,
    lines,
    units,
)

from jaxanatomy.growth import depth_arms
from jaxanatomy.measures.arms.depth_growth import summarise
from jaxanatomy.measures.arms.finals import Losses
from jaxanatomy.records import RunRecord, read_run
from jaxanatomy.report import arms, html, terminal, views, write_report
from jaxanatomy.report import depth_growth as page
from jaxanatomy.report.depth_growth import rows as tidy
from jaxanatomy.report.views import Table


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_unfinished(folder, rows):
    run_files.write_rows(folder, rows)
    (folder / "summary.json").unlink(missing_ok=True)


@pytest.fixture
def folder(tmp_path):
    rows = [*curve_rows(), *final_rows()]
    run_files.write_rows(tmp_path, rows)
    write_lines(tmp_path / "metrics.jsonl", lines())
    run_files.write_config(tmp_path, {}, {"experiment": "depth_growth"})
    run_files.write_summary(tmp_path, summarise(rows))
    return tmp_path


VIEWS = [view for section in page.PAGE.sections for view in section.views]


def cells(name, record, first):
    """The words of a table's row by heading."""
    (view,) = (view for view in VIEWS if view.name == name and isinstance(view, Table))
    rows = view.rows(record)
    columns = view.shown(rows)
    (row,) = (row for row in rows if columns[0].text(row) == first)
    return {column.head: column.text(row) for column in columns}


def titles(record):
    return [each.section.title for each in html.fill(page.PAGE, record)]


def test_the_verdict_follows_the_intervals_and_names_what_diverged(folder):
    record = read_run(folder)
    assert titles(record) == [
        "Does growth win?",
        "Curves",
        "Every step",
        "Questions",
        "Loss by source",
    ]
    assert page.verdict(record) == (
        "Held-out loss less that of the baseline: below 0: midas; "
        "not told apart: ln_scaling_lidas_equal_flops."
    )
    assert arms.diverged(record) == (
        "Diverged and left out: ln_scaling_lidas_equal_flops, seed 1. "
        "Their last checkpoints are kept in checkpoints/."
    )
    assert page.unmeasured(record).endswith("the arms of this run lack shallow.")
    midas = cells("arms", record, "midas")
    assert midas["held-out loss"].startswith("2.600 [")
    assert (midas["seeds"], midas["rate"]) == ("3", "0.1")
    assert midas["level of differences"] == "97.50%"
    # Of copying and of an assignment: 0.46 and 0.2.
    assert (midas["chance"], midas["guessing"][:4]) == ("0.200", "0.33")
    assert cells("arms", record, LOST[0])["seeds"] == "2"
    assert cells("arms", record, "baseline")["loss less baseline"] == "–"
    assert cells("costs", record, "midas") == {
        "arm": "midas",
        "steps": "8",
        "tokens": "80",
        "TFLOP": "8.00",
        "seconds": "4.0",
        "tokens per second": "20",
        "MFU": "50.0%",
    }
    assert cells("costs", record, "baseline")["MFU"] == "not known"
    assert [row["arm"] for row in VIEWS[0].rows(record)] == list(ARMS[1:])


def ended(arm, *ends):
    """Final rows of one arm, from its losses; None for seeds that diverged."""
    asked = {"accuracy": None, "chance": 0.1, "questions": 40}
    own = {"kind": "final", "arm": arm, "step": 8, "tokens": 80, "flops": 8, "seconds": 4.0}
    own |= {"accuracy": None, "chance": 0.1, "tokens_per_second": 20.0, "mfu": None}
    own |= {"purpose": "main", "learning_rate": 0.1, "layers": 4}
    return [
        own
        | units(end, None)
        | {"seed": seed, "eval_nll": end, "reason": "" if end else DIVERGED}
        | {"accuracy_by_task": {"copying_real": dict(asked)}}
        for seed, end in enumerate(ends)
    ]


@pytest.mark.parametrize(
    ("baseline", "midas", "said"),
    [
        ((3.0, 3.1, 3.2), (None, None, None), "no interval"),
        ((3.0,), (None,), "no interval"),
        ((None, None), (3.0, 3.1), "no interval"),
        ((3.0,), (2.0,), "no interval"),
        ((3.0, 3.1, 3.2), (2.0, None, None), "no interval"),
        ((None, 3.1, 3.2), (2.0, 2.1, None), "no interval"),
        ((3.0, 3.1, 3.2), (2.0, 2.12, None), "below 0"),
        ((3.0, 3.1, 3.2), (4.0, 4.12, None), "above 0"),
        ((3.0, 3.1, 3.2), (2.9, 3.3, None), "not told apart"),
    ],
)
def test_the_verdict_needs_an_interval(baseline, midas, said):
    record = RunRecord.of_rows([*ended("baseline", *baseline), *ended("midas", *midas)])
    assert page.verdict(record) == f"Held-out loss less that of the baseline: {said}: midas."
    loss = cells("arms", record, "midas")["held-out loss"]
    assert (loss == "–") == (set(midas) == {None})


def test_what_has_grown_is_set_beside_a_model_that_never_grows(folder):
    """At equal steps: an arm of equal FLOPs has read more."""
    rows = [*curve_rows(), *final_rows()]
    for row in [row for row in rows if row["arm"] == "midas"]:
        rows.append(row | {"arm": "shallow", "hash": row["hash"].replace("midas", "shallow")})
        if row["kind"] == "final":
            rows[-1] |= {"eval_nll": 2.0} | units(2.0, 0.25)
    record = RunRecord.of_rows(rows)
    assert page.unmeasured(record) == ""
    (row,) = tidy.beside_shallow(record)
    assert (row["arm"], row["control"]) == ("midas", "shallow")
    less, _ = Losses.of(rows).difference(("midas", "shallow"), 1 - 0.05 / 4)
    assert less.value == pytest.approx(0.6)
    said = f"0.600 [{less.low:+.3f}, +{less.high:.3f}]".replace("-", "−")
    assert cells("beside_shallow", record, "midas")["loss less shallow"] == f"+{said}"
    assert f"+{said}".replace("−", "-") in terminal.printed(page.PAGE, record)


def test_rates_are_tabled_beside_the_one_taken(folder):
    rows = [*curve_rows(), *final_rows()]
    for rate, loss in ((0.05, 3.5), (0.1, 3.25), (0.2, None)):
        (first, *_) = (row for row in rows if row["kind"] == "final")
        other = {"purpose": "tuning", "learning_rate": rate, "seed": 9, "hash": f"rate {rate}"}
        rows.append(first | other | {"eval_nll": loss})
    record = RunRecord.of_rows(rows)
    assert "Learning rates" in titles(record)
    assert cells("rates", record, "baseline") == {
        "arm": "baseline",
        "0.05": "3.500",
        "0.1": "3.250",
        "0.2": "diverged",
        "taken": "0.1",
    }
    (line,) = (line for line in terminal.printed(page.PAGE, record).splitlines() if "3.250" in line)
    assert line.split() == ["baseline", "3.500", "3.250", "diverged", "0.1"]
    assert arms.arms_and_seeds(record) == "3 arms, 3 seeds."
    # A run that is still tuning has nothing else to show.
    tuning = [row | {"kind": "curve", "purpose": "tuning"} for row in rows[:1]]
    assert titles(RunRecord.of_rows([*tuning, *rows[-3:]])) == ["Learning rates"]


def test_seeds_that_diverged_are_named_before_their_arm_has_ended():
    record = RunRecord.of_rows(curve_rows())
    (first, *_) = html.fill(page.PAGE, record)
    assert first.text[0] == "The baseline is not finished: nothing to compare with yet."
    assert "Diverged and left out: ln_scaling_lidas_equal_flops, seed 1." in first.text[2]


def test_a_table_says_which_primitives_leave_chance():
    rows = [*curve_rows(), *final_rows()]
    shares = dict(zip(ARMS, ((0.25, 0.3), (0.4, 0.4), (0.7, 0.1)), strict=True))
    for row in rows:
        if row["kind"] == "final" and not row["reason"]:
            for task, share in zip(TASKS, shares[row["arm"]], strict=True):
                row["accuracy_by_task"][task]["accuracy"] = share + 0.01 * (row["seed"] - 1)
    record = RunRecord.of_rows(rows)
    # Wilson's for 40 questions, however many seeds were asked them. Two levels for copying.
    assert cells("answered", record, "copying_real") == {
        "task": "copying_real",
        "questions": "40",
        "chance": "0.20",
        "guessing": "0.46",
        "baseline": "0.25 [0.14, 0.40]",
        "midas": "0.40 [0.26, 0.55]",
        LOST[0]: "0.70 [0.55, 0.82]",
    }
    assert cells("answered", record, "assignment_basic_0") == {
        "task": "assignment_basic_0",
        "questions": "40",
        "chance": "0.20",
        "guessing": "0.20",
        "baseline": "0.30 [0.18, 0.45]",
        "midas": "0.40 [0.26, 0.55]",
        LOST[0]: "0.10 [0.04, 0.23]",
    }
    sides = {row["task"]: [row[f"above.{arm}"] for arm in ARMS] for row in tidy.answered(record)}
    assert sides == {TASKS[0]: ["", "minor", "better"], TASKS[1]: ["", "better", ""]}


def test_an_arm_without_a_living_seed_has_no_share():
    rows = [*ended("baseline", 3.0, None), *ended("midas", None, None)]
    rows[0]["accuracy_by_task"]["copying_real"]["accuracy"] = 0.5
    (row,) = tidy.answered(RunRecord.of_rows(rows))
    assert (row["mean.baseline"].value, "mean.midas" in row) == (0.5, False)


def test_a_run_whose_seeds_all_diverged_has_a_page():
    rows = [row | {"reason": DIVERGED} for row in curve_rows()]
    rows += [*ended("baseline", None, None), *ended("midas", None, None)]
    rows = [row | {"eval_nll_by_source": {"code": None}} for row in rows]
    record = RunRecord.of_rows(rows)
    assert titles(record) == ["Does growth win?", "Questions", "Loss by source"]
    assert cells("arms", record, "midas")["seeds"] == "0"


def test_tables_are_printed(folder):
    text = terminal.printed(page.PAGE, read_run(folder))
    first, second = (block.splitlines() for block in text.split("\n\n"))
    for lines_of in (first, second):
        assert [line.split()[0] for line in lines_of[1:]] == ["arm", *ARMS]
    assert second[3].endswith("50.0%")
    assert second[2].endswith("not known")


def test_without_the_baseline_or_the_steps_there_is_still_a_page(folder):
    rows = [row for row in (*curve_rows(), *final_rows()) if row["arm"] != "baseline"]
    write_unfinished(folder, rows)
    (folder / "metrics.jsonl").unlink()
    record = read_run(folder)
    assert "Every step" not in titles(record)
    assert page.verdict(record) == "The baseline is not finished: nothing to compare with yet."
    assert write_report(folder).exists()
    write_unfinished(folder, [next(curve_rows())])  # the first row of a run
    assert "This run is not finished; it has 1 rows so far" in write_report(folder).read_text()


def points(rows, arm, *fields):
    """The values of an arm's rows, and those of the rows at which it has just grown."""
    own = [{**row, **views.with_ends(row, ["loss"])} for row in rows if row["arm"] == arm]
    shown = [[row[field] for field in fields] for row in own]
    return shown, [each for each, row in zip(shown, own, strict=True) if row["grown"]]


def test_curves_are_means_and_marks_stand_where_a_model_has_grown(folder):
    rows = arms.curves(read_run(folder))
    curve, marks = points(rows, "midas", "step", "loss")
    np.testing.assert_allclose(curve, [[0, 5], [4, 3.8], [4, 3.8], [8, 2.6]])
    np.testing.assert_allclose(marks, [[4, 3.8]])
    assert points(rows, "baseline", "step")[1] == []
    costs = points(rows, "midas", "tokens", "flops", "seconds")[1]
    np.testing.assert_allclose(costs, [[40, 4e12, 2.0]])


def test_a_seed_that_diverged_beside_living_ones_is_in_no_curve(folder):
    curve, marks = points(
        arms.curves(read_run(folder)), LOST[0], "step", "loss", "loss_low", "loss_high"
    )
    # Of the first and the last seed; the other has losses of 4.5 and 1.5.
    np.testing.assert_allclose(
        curve,
        [[0, 5, 5, 5], [4, 4.05, 4.025, 4.075], [4, 4.05, 4.025, 4.075], [8, 3.1, 3.05, 3.15]],
    )
    assert [mark[0] for mark in marks] == [4]


def test_a_seed_that_diverged_does_not_hide_those_that_train_after_it(folder):
    """Seeds of another group, which have not come as far yet."""
    record = read_run(folder)
    reached = [row for row in record.rows if (row["arm"], row["seed"]) == LOST]
    others = [row for row in record.rows if row["arm"] == LOST[0] and row["step"] < 8]
    others = [row for row in others if row["seed"] == 2]
    rows = arms.curves(RunRecord.of_rows([*reached, *others]))
    np.testing.assert_allclose(points(rows, LOST[0], "step", "loss")[0][-1], [4, 4.075])


def test_an_arm_whose_seeds_all_diverged_has_no_line(folder):
    rows = [row | {"reason": DIVERGED} for row in curve_rows() if row["step"] == 8]
    assert arms.curves(RunRecord.of_rows(rows)) == []
    write_lines(folder / "metrics.jsonl", [each | {"gradient_norm": None} for each in lines()])
    assert tidy.training(read_run(folder)) == []


@pytest.mark.parametrize("alone", ["gradient_norm", "loss"])
@pytest.mark.parametrize("end", [5, 6, 8])
def test_a_seed_whose_loss_or_gradient_was_not_finite_is_in_no_line(folder, end, alone):
    """Step 6 may be the last one of a chunk: then its line is the last one of a run."""
    found = [each for each in lines() if each["step"] <= end]
    if alone == "loss":  # the other way round
        renamed = {"loss": "gradient_norm", "gradient_norm": "loss"}
        found = [{renamed.get(name, name): each[name] for name in each} for each in found]
    write_lines(folder / "metrics.jsonl", found)
    other = "loss" if alone == "gradient_norm" else "gradient_norm"
    curve, _ = points(tidy.training(read_run(folder)), LOST[0], "step", other, alone)
    np.testing.assert_allclose(curve, [[step, 9 - step, 0.5 * step] for step in range(1, end + 1)])


def test_steps_are_means_and_marks_stand_where_a_model_has_grown(folder):
    rows = tidy.training(read_run(folder))
    for arm in ARMS:
        curve, marks = points(rows, arm, "step", *tidy.TRAINING)
        expected = [[step, 9 - step, 0.5 * step, 0.1, 2000.0] for step in range(1, 9)]
        np.testing.assert_allclose(curve, expected)
        assert [mark[0] for mark in marks] == ([] if arm == "baseline" else [5])


def test_many_steps_are_a_hundred_means(folder):
    found = [
        {"arm": "baseline", "seed": 0, "stage": 0, "step": step, "loss": float(step % 2)}
        | {"learning_rate": 1.0, "gradient_norm": 1.0, "tokens_per_second": 1.0}
        for step in range(1, 1001)
    ]
    write_lines(folder / "metrics.jsonl", found)
    losses = [row["loss"] for row in tidy.training(read_run(folder))]
    np.testing.assert_allclose(losses, [0.5] * 100)


def test_points_of_primitives_tell_arms_apart(folder):
    (view,) = (view for view in VIEWS if view.name == "answers")
    ax = views.draw(view, view.rows(read_run(folder)))
    dots = [line for line in ax.lines if line.get_marker() in ("o", "D")]
    counts = {}
    for dot in dots:
        look = (dot.get_marker(), dot.get_color(), dot.get_markerfacecolor() == "none")
        counts[look] = counts.get(look, 0) + 1
    assert counts == {
        ("o", arms.COLOURS["baseline"], False): 6,
        ("o", arms.COLOURS["midas"], False): 6,
        ("D", arms.COLOURS["lidas"], True): 4,
    }
    assert len({dot.get_ydata()[0] for dot in dots}) == 6


def test_no_two_arms_look_alike():
    plain = [name for name in depth_arms.ARMS if name.islower()]
    equal = [name + depth_arms.EQUAL_FLOPS for name in plain if depth_arms.grows(name)]
    names = (*plain, *equal, "lidas_equal_seconds", "ln_scaling_lidas_equal_seconds")
    looks = {(row["operator"], row["look"]) for row in map(arms.looks, names)}
    assert len(looks) == len(names)
    assert {look for _, look in looks} == {arms.PLAIN, *arms.LOOKS.styles}
    assert {operator for operator, _ in looks} == set(arms.COLOURS)

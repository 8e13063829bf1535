"""The report of depth growth: what it says and draws, from literal rows and steps."""

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

from jaxanatomy.data.primitives import PRIMITIVES
from jaxanatomy.growth.depth_arms import arm_names
from jaxanatomy.measures.depth_growth import summarise
from jaxanatomy.records import read_run
from jaxanatomy.report import write_report
from jaxanatomy.report.depth_growth import figures
from jaxanatomy.report.depth_growth.primitives import primitives_table
from jaxanatomy.report.depth_growth.report import _verdicts, depth_growth_report, summary_table
from jaxanatomy.train.metrics import read_metrics


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
    run_files.write_config(tmp_path, {}, {})
    run_files.write_summary(tmp_path, summarise(rows))
    return tmp_path


def cells(table, arm):
    (row,) = (row for row in table.rows if row[0].text == arm)
    return dict(zip(table.header, (cell.text for cell in row), strict=True))


def test_the_verdict_follows_the_intervals_and_names_what_diverged(folder):
    report = depth_growth_report(read_run(folder))
    first, shallow, curves, steps, *_ = report.sections
    assert (first.title, shallow.title) == ("Does growth win?", "Is depth needed?")
    assert (curves.title, steps.title) == ("Curves", "Every step")
    assert shallow.text[1] == "Not measured: the arms of this run lack shallow."
    assert first.text[1:] == (
        "Held-out loss at the end: midas: better than the baseline; "
        "ln_scaling_lidas_equal_flops: not told apart from the baseline.",
        "Diverged and left out: ln_scaling_lidas_equal_flops, seed 1.",
        "Their last checkpoints are kept in checkpoints/.",
    )
    worth, costs, _ = first.content
    assert cells(worth, "midas")["held-out loss"].startswith("2.600 [")
    assert cells(worth, "midas")["seeds"] == "3"
    assert cells(worth, "ln_scaling_lidas_equal_flops")["seeds"] == "2"
    assert cells(worth, "midas")["rate"] == "0.1"
    assert cells(worth, "baseline")["less baseline"] == ""
    assert "differences each at level 97.50%, all at once 95 %" in worth.caption
    assert cells(costs, "midas") == {
        **{"arm": "midas", "steps": "8", "million tokens": "0.00", "TFLOP": "8.0"},
        **{"seconds": "4", "tokens per second": "20", "MFU": "50.0%"},
    }
    assert cells(costs, "baseline")["MFU"] == "not known"


def ended(arm, *ends):
    """Final rows of one arm, from its losses; None for seeds that diverged."""
    asked = {"accuracy": None, "chance": 0.1, "questions": 40}
    own = {"kind": "final", "arm": arm, "step": 8, "tokens": 80, "flops": 8, "seconds": 4.0}
    own |= {"accuracy": None, "chance": 0.1, "tokens_per_second": 20.0, "mfu": None}
    own |= {"purpose": "main", "learning_rate": 0.1}
    return [
        own
        | units(end, None)
        | {"seed": seed, "eval_nll": end, "reason": "" if end else DIVERGED}
        | {"accuracy_by_task": {"copying_real": dict(asked)}}
        for seed, end in enumerate(ends)
    ]


FEW = "an interval needs two seeds that neither diverged here nor in the baseline"


@pytest.mark.parametrize(
    ("baseline", "midas", "said"),
    [
        ((3.0, 3.1, 3.2), (None, None, None), "cannot be told, because all seeds diverged"),
        ((3.0,), (None,), "cannot be told, because all seeds diverged"),
        ((None, None), (3.0, 3.1), "cannot be told, because all seeds of the baseline diverged"),
        ((3.0,), (2.0,), f"cannot be told, because {FEW}"),
        ((3.0, 3.1, 3.2), (2.0, None, None), f"cannot be told, because {FEW}"),
        ((None, 3.1, 3.2), (2.0, 2.1, None), f"cannot be told, because {FEW}"),
        ((3.0, 3.1, 3.2), (2.0, 2.12, None), "better than the baseline"),
        ((3.0, 3.1, 3.2), (4.0, 4.12, None), "worse than the baseline"),
        ((3.0, 3.1, 3.2), (2.9, 3.3, None), "not told apart from the baseline"),
    ],
)
def test_without_an_interval_the_verdict_says_why(baseline, midas, said):
    rows = [*ended("baseline", *baseline), *ended("midas", *midas)]
    verdicts = _verdicts(summarise(rows))
    assert verdicts == [f"Held-out loss at the end: midas: {said}."]


def test_what_has_grown_is_set_beside_a_model_that_never_grows(folder):
    """At equal steps: an arm of equal FLOPs has read more."""
    rows = [*curve_rows(), *final_rows()]
    for row in [row for row in rows if row["arm"] == "midas"]:
        rows.append(row | {"arm": "shallow", "hash": row["hash"].replace("midas", "shallow")})
        if row["kind"] == "final":
            rows[-1] |= {"eval_nll": 2.0} | units(2.0, 0.25)
    run_files.write_rows(folder, rows)
    report = depth_growth_report(read_run(folder))
    (section,) = (each for each in report.sections if each.title == "Is depth needed?")
    assert section.text[1] == "Held-out loss at the end: midas: worse than shallow."
    (table,) = section.content
    assert [row[0].text for row in table.rows] == ["midas"]
    # 2.5, 2.61 and 2.69 less 2: t of two degrees at 1 - 0.05 / 8 is 8.8602000.
    half = 8.8602000 * np.std([2.5, 2.61, 2.69], ddof=1) / np.sqrt(3)
    said = f"0.600 [{0.6 - half:.3f}, {0.6 + half:.3f}]"
    assert cells(table, "midas")["held-out loss"] == said
    printed = summary_table(rows).splitlines()
    at = printed.index("held-out loss less that of shallow, at equal steps:")
    assert printed[at + 1].split(maxsplit=1) == ["midas", said]


def test_rates_are_tabled_beside_the_one_taken(folder):
    rows = [*curve_rows(), *final_rows()]
    for rate, loss in ((0.05, 3.5), (0.1, 3.25), (0.2, None)):
        (first, *_) = (row for row in rows if row["kind"] == "final")
        other = {"purpose": "tuning", "learning_rate": rate, "seed": 9, "hash": f"rate {rate}"}
        rows.append(first | other | {"eval_nll": loss})
    run_files.write_rows(folder, rows)
    report = depth_growth_report(read_run(folder))
    (section,) = (each for each in report.sections if each.title == "Learning rates")
    (table,) = section.content
    assert cells(table, "baseline") == {
        **{"arm": "baseline", "0.05": "3.500", "0.1": "3.250", "0.2": "diverged", "taken": "0.1"},
    }
    assert table.note == ""
    assert report.lead == "3 arms, 3 seeds."
    # A run that is still tuning has nothing else to show.
    tuning = [row | {"kind": "curve", "purpose": "tuning"} for row in rows[:1]]
    write_unfinished(folder, [*tuning, *rows[-3:]])
    (folder / "metrics.jsonl").unlink()
    assert [each.title for each in depth_growth_report(read_run(folder)).sections] == [
        "Learning rates"
    ]


def test_seeds_that_diverged_are_named_before_their_arm_has_ended(folder):
    write_unfinished(folder, curve_rows())
    report = depth_growth_report(read_run(folder))
    assert report.sections[0].text[1:3] == (
        "The baseline is not finished: nothing to compare with yet.",
        "Diverged and left out: ln_scaling_lidas_equal_flops, seed 1.",
    )


def test_a_table_says_which_primitives_leave_chance(folder):
    rows = [*curve_rows(), *final_rows()]
    shares = dict(zip(ARMS, ((0.25, 0.3), (0.4, 0.4), (0.7, 0.1)), strict=True))
    for row in rows:
        if row["kind"] == "final" and not row["reason"]:
            for task, share in zip(TASKS, shares[row["arm"]], strict=True):
                row["accuracy_by_task"][task]["accuracy"] = share + 0.01 * (row["seed"] - 1)
    run_files.write_rows(folder, rows)
    report = depth_growth_report(read_run(folder))
    (section,) = (each for each in report.sections if each.title == "Reasoning primitives")
    assert "45.7 % without copying" in section.text[0]
    table, _ = section.content
    # Wilson's for 40 questions, however many seeds were asked them. Two levels for copying.
    assert cells(table, "copying_real") == {
        **{"primitive": "copying_real", "questions": "40", "chance": "0.20", "guessing": "0.46"},
        **{"baseline": "0.25 [0.14, 0.40]", "midas": "0.40 [0.26, 0.55] △"},
        LOST[0]: "0.70 [0.55, 0.82] ▲",
    }
    assert cells(table, "assignment_basic_0") == {
        **{"primitive": "assignment_basic_0", "questions": "40"},
        **{"chance": "0.20", "guessing": "0.20"},
        **{"baseline": "0.30 [0.18, 0.45]", "midas": "0.40 [0.26, 0.55] ▲"},
        LOST[0]: "0.10 [0.04, 0.23]",
    }
    assert "all seeds are asked the same ones" in table.note


def test_an_arm_without_a_living_seed_has_no_share():
    rows = [*ended("baseline", 3.0, None), *ended("midas", None, None)]
    rows[0]["accuracy_by_task"]["copying_real"]["accuracy"] = 0.5
    table = primitives_table(summarise(rows)["arms"])
    assert cells(table, "copying_real")["midas"] == "-"
    assert cells(table, "copying_real")["baseline"] == "0.50 [0.35, 0.65] △"


def test_a_line_for_each_arm_on_the_terminal(folder):
    header, *rows = summary_table(read_run(folder).rows).splitlines()
    assert rows[4] == "less shallow: not measured; add shallow to the arms"
    assert rows[6].startswith("differences: intervals over seeds and held-out rows, each at level")
    assert rows[6].endswith("level 97.50%, all at once 95 %")
    rows = rows[:3]
    assert [row.split()[0] for row in rows] == list(ARMS)
    assert "50.0%" in rows[1]
    assert "not known" in rows[0]
    assert len({len(row) for row in (header, *rows)}) == 1


def test_without_the_baseline_or_the_steps_there_is_still_a_report(folder):
    write_unfinished(folder, [row for row in final_rows() if row["arm"] != "baseline"])
    assert depth_growth_report(read_run(folder)) is None  # no curve: another experiment
    rows = [row for row in (*curve_rows(), *final_rows()) if row["arm"] != "baseline"]
    write_unfinished(folder, rows)
    (folder / "metrics.jsonl").unlink()
    report = depth_growth_report(read_run(folder))
    assert "Every step" not in [section.title for section in report.sections]
    assert report.sections[0].text[1] == (
        "The baseline is not finished: nothing to compare with yet."
    )
    assert write_report(folder).exists()
    write_unfinished(folder, [next(curve_rows())])  # the first row of a run
    assert "This run is not finished; it has 1 rows so far" in write_report(folder).read_text()


def drawn(ax, arm):
    """The line of an arm, and where its marks of growth stand."""
    style = figures._line(arm)
    found = [line for line in ax.get_lines() if line.get_color() == style["color"]]
    curve = next(line for line in found if line.get_linestyle() == style["linestyle"])
    (marks,) = (line for line in found if line.get_linestyle() == "None")
    return curve.get_xydata(), marks.get_xydata()


def test_curves_are_means_and_marks_stand_where_a_model_has_grown(folder):
    rows = read_run(folder).rows
    steps, tokens, flops, seconds = figures.curves(rows, ARMS)
    curve, marks = drawn(steps, "midas")
    np.testing.assert_allclose(curve, [[0, 5], [4, 3.8], [4, 3.8], [8, 2.6]])
    np.testing.assert_allclose(marks, [[4, 3.8]])
    assert len(drawn(steps, "baseline")[1]) == 0
    for ax, unit in ((tokens, 1e-5), (flops, 1.0), (seconds, 0.5)):
        np.testing.assert_allclose(drawn(ax, "midas")[1], [[4 * unit, 3.8]])


def test_a_seed_that_diverged_beside_living_ones_is_in_no_curve(folder):
    steps, *_ = figures.curves(read_run(folder).rows, ARMS)
    curve, marks = drawn(steps, LOST[0])
    # Of the first and the last seed; the other has losses of 4.5 and 1.5.
    np.testing.assert_allclose(curve, [[0, 5], [4, 4.05], [4, 4.05], [8, 3.1]])
    np.testing.assert_allclose(marks, [[4, 4.05]])
    band = steps.collections[ARMS.index(LOST[0])].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [3.05, 5])
    assert steps.get_ylim()[0] == pytest.approx(0.97 * 2.5)


def test_a_seed_that_diverged_does_not_hide_those_that_train_after_it(folder):
    """Seeds of another group, which have not come as far yet."""
    reached = [row for row in read_run(folder).rows if (row["arm"], row["seed"]) == LOST]
    others = [row for row in read_run(folder).rows if row["arm"] == LOST[0] and row["step"] < 8]
    others = [row for row in others if row["seed"] == 2]
    steps, *_ = figures.curves([*reached, *others], [LOST[0]])
    np.testing.assert_allclose(drawn(steps, LOST[0])[0][-1], [4, 4.075])
    kept = [each for each in read_metrics(folder) if (each["arm"], each["seed"]) == LOST]
    kept += [{**each, "seed": 2, "loss": 3.0} for each in kept[:5]]
    loss, *_ = figures.training(kept, [LOST[0]])
    np.testing.assert_allclose(drawn(loss, LOST[0])[0], [[step, 3.0] for step in range(1, 6)])


def test_an_arm_whose_seeds_all_diverged_has_no_line(folder):
    rows = [row | {"reason": DIVERGED} for row in curve_rows() if row["step"] == 8]
    for ax in figures.curves(rows, ARMS):
        assert not [*ax.get_lines(), *ax.collections]
    lost = [each | {"gradient_norm": None} for each in lines()]
    for ax in figures.training(lost, ARMS):
        assert not ax.get_lines()


@pytest.mark.parametrize("alone", ["gradient_norm", "loss"])
@pytest.mark.parametrize("end", [5, 6, 7, 8])
def test_a_gradient_that_was_not_finite_where_the_loss_was_ends_no_report(folder, end, alone):
    """Step 6 may be the last one of a chunk: then its line is the last one of a run."""
    found = [each for each in read_metrics(folder) if each["step"] <= end]
    assert {each["loss"] is None for each in found} == ({False, True} if end > 6 else {False})
    if alone == "loss":  # the other way round
        renamed = {"loss": "gradient_norm", "gradient_norm": "loss"}
        found = [{renamed.get(name, name): each[name] for name in each} for each in found]
    loss, norm, *_ = figures.training(found, ARMS)
    (curve, _), (other, _) = (drawn(ax, LOST[0]) for ax in (loss, norm))
    if alone == "loss":
        curve, other = other, curve
    np.testing.assert_allclose(curve, [[step, 9 - step] for step in range(1, end + 1)])
    np.testing.assert_allclose(other, [[step, 0.5 * step] for step in range(1, end + 1)])


def test_steps_are_means_of_the_seeds_that_reached_the_end(folder):
    loss, norm, rate, speed = figures.training(read_metrics(folder), ARMS)
    for arm in ARMS:
        curve, marks = drawn(loss, arm)
        np.testing.assert_allclose(curve, [[step, 9 - step] for step in range(1, 9)])
        assert marks.tolist() == ([] if arm == "baseline" else [[5, 4]])
    np.testing.assert_allclose(drawn(norm, "midas")[0][:, 1], 0.5 * np.arange(1, 9))
    np.testing.assert_allclose(drawn(rate, "midas")[0][:, 1], 0.1)
    np.testing.assert_allclose(drawn(speed, "midas")[0][:, 1], 2.0)


def test_many_steps_are_drawn_as_a_hundred_means():
    found = [
        {"arm": "baseline", "seed": 0, "stage": 0, "step": step, "loss": float(step % 2)}
        | {"learning_rate": 1.0, "gradient_norm": 1.0, "tokens_per_second": 1.0}
        for step in range(1, 1001)
    ]
    loss, *_ = figures.training(found, ["baseline"])
    curve, _ = drawn(loss, "baseline")
    assert len(curve) == 100
    np.testing.assert_allclose(curve[:, 1], 0.5)


def test_points_tell_arms_apart(folder):
    finals = [row for row in read_run(folder).rows if row["kind"] == "final"]
    (ax,) = figures.primitives(finals, ARMS)
    points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in points] == [3, 3, 2] * 2
    assert [line.get_marker() for line in points] == ["o", "o", "D"] * 2
    assert [line.get_fillstyle() for line in points] == ["full", "full", "none"] * 2
    # Below the points: where guessing leads, and chance.
    levels = [line for line in ax.get_lines() if line.get_linestyle() != "None"]
    assert [line.get_xdata()[0] for line in levels] == pytest.approx([137 / 300, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("count", [1, 3, 12, len(arm_names())])
def test_points_of_one_arm_clear_those_of_the_next(count):
    arms = arm_names()[:count]
    asked = {task: {"accuracy": 0.5, "chance": 0.2, "questions": 40} for task in PRIMITIVES}
    (ax,) = figures.primitives([{"arm": arm, "accuracy_by_task": asked} for arm in arms], arms)
    ax.figure.canvas.draw()
    points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    y = np.sort([ax.transData.transform((0.5, line.get_ydata()[0]))[1] for line in points])
    size = points[0].get_markersize() * ax.figure.dpi / 72
    assert np.diff(y).min(initial=size) >= size


def test_no_two_arms_look_alike():
    looks = [tuple(figures._line(arm).values()) for arm in arm_names()]
    assert len(set(looks)) == len(arm_names())
    looks = [
        (figures._point(arm)["color"], *tuple(figures._point(arm).values())[1:3])
        for arm in arm_names()
    ]
    assert len(set(looks)) == len(arm_names())

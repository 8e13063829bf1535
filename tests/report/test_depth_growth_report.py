"""The report of depth growth: what it says and draws, from literal rows and steps."""

import json

import numpy as np
import pytest

from jaxanatomy.growth.depth_arms import arm_names
from jaxanatomy.measures.depth_growth import summarise
from jaxanatomy.records import read_run
from jaxanatomy.report import write_report
from jaxanatomy.report.depth_growth import figures
from jaxanatomy.report.depth_growth.report import depth_growth_report, summary_table
from jaxanatomy.train.metrics import read_metrics

ARMS = ("baseline", "midas", "ln_scaling_lidas_equal_flops")
# Held-out loss at the end, by arm and seed; one of the last arm has diverged.
ENDS = {
    "baseline": (3.0, 3.1, 3.2),
    "midas": (2.5, 2.61, 2.69),
    "ln_scaling_lidas_equal_flops": (3.05, None, 3.15),
}
# (stage, step): the model grows at step 4.
POINTS = ((0, 0), (0, 4), (1, 4), (1, 8))


def curve_rows():
    for arm, ends in ENDS.items():
        for seed, end in enumerate(ends):
            points = [(0, 0), (0, 4), (0, 8)] if arm == "baseline" else POINTS
            for stage, step in points:
                yield {
                    **{"hash": f"{arm} {seed} {stage} {step}", "kind": "curve", "arm": arm},
                    **{"seed": seed, "stage": stage, "step": step, "layers": 4, "loss": 4.0},
                    **{"tokens": 10 * step, "flops": 10**12 * step, "seconds": 0.5 * step},
                    **{"eval_nll": 5 - step / 8 * (5 - (end or 4)), "reason": ""},
                }


def final_rows():
    for arm, ends in ENDS.items():
        for seed, end in enumerate(ends):
            accuracy = None if end is None else 0.25
            yield {
                **{"hash": f"{arm} {seed}", "kind": "final", "arm": arm, "seed": seed, "step": 8},
                **{"layers": 4, "tokens": 80, "flops": 8 * 10**12, "seconds": 4.0},
                **{"eval_nll": end, "eval_nll_by_source": {"code": end}, "accuracy": accuracy},
                **{
                    "chance": 0.2,
                    "tokens_per_second": 20.0,
                    "mfu": 0.5 if arm == "midas" else None,
                },
                **{"accuracy_by_task": {"copying": {"accuracy": accuracy, "chance": 0.2}}},
                "reason": "" if end else "diverged: the loss or its gradient is not finite",
            }


def lines():
    for arm in ARMS:
        for seed in range(3):
            for step in range(1, 9):
                lost = ENDS[arm][seed] is None and step > 5
                yield {
                    **{"arm": arm, "seed": seed, "stage": int(arm != "baseline" and step > 4)},
                    **{"step": step, "learning_rate": 0.1, "loss": None if lost else 9.0 - step},
                    **{"gradient_norm": None if lost else 0.5 * step, "mfu": None},
                    **{"tokens_per_second": 2000.0, "reason": ""},
                }


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    rows = [*curve_rows(), *final_rows()]
    write(tmp_path / "rows.jsonl", rows)
    write(tmp_path / "metrics.jsonl", lines())
    (tmp_path / "config.json").write_text(json.dumps({"config": {}, "provenance": {}}))
    (tmp_path / "summary.json").write_text(json.dumps(summarise(rows)))
    return tmp_path


def cells(table, arm):
    (row,) = (row for row in table.rows if row[0].text == arm)
    return dict(zip(table.header, (cell.text for cell in row), strict=True))


def test_the_verdict_follows_the_intervals_and_names_what_diverged(folder):
    report = depth_growth_report(read_run(folder))
    first, curves, steps, *_ = report.sections
    assert [first.title, curves.title, steps.title] == ["Does growth win?", "Curves", "Every step"]
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
    assert cells(worth, "baseline")["against baseline"] == ""
    assert cells(costs, "midas") == {
        **{"arm": "midas", "steps": "8", "million tokens": "0.00", "TFLOP": "8.0"},
        **{"seconds": "4", "tokens per second": "20", "MFU": "50.0%"},
    }
    assert cells(costs, "baseline")["MFU"] == "not known"


def test_a_line_for_each_arm_on_the_terminal(folder):
    header, *rows = summary_table(read_run(folder).rows).splitlines()
    assert [row.split()[0] for row in rows] == list(ARMS)
    assert "50.0%" in rows[1]
    assert "not known" in rows[0]
    assert len({len(row) for row in (header, *rows)}) == 1


def test_without_the_baseline_or_the_steps_there_is_still_a_report(folder):
    write(folder / "rows.jsonl", [row for row in final_rows() if row["arm"] != "baseline"])
    assert depth_growth_report(read_run(folder)) is None  # no curve: another experiment
    rows = [row for row in (*curve_rows(), *final_rows()) if row["arm"] != "baseline"]
    write(folder / "rows.jsonl", rows)
    (folder / "metrics.jsonl").unlink()
    report = depth_growth_report(read_run(folder))
    assert "Every step" not in [section.title for section in report.sections]
    assert report.sections[0].text[1] == (
        "The baseline is not finished: nothing to compare with yet."
    )
    assert write_report(folder).exists()
    write(folder / "rows.jsonl", [next(curve_rows())])  # the first row of a run
    (folder / "summary.json").unlink()
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
    assert [len(line.get_xdata()) for line in points] == [3, 3, 2]
    assert [line.get_marker() for line in points] == ["o", "o", "D"]
    assert [line.get_fillstyle() for line in points] == ["full", "full", "none"]


def test_no_two_arms_look_alike():
    looks = [tuple(figures._line(arm).values()) for arm in arm_names()]
    assert len(set(looks)) == len(arm_names())
    looks = [
        (figures._point(arm)["color"], *tuple(figures._point(arm).values())[1:3])
        for arm in arm_names()
    ]
    assert len(set(looks)) == len(arm_names())

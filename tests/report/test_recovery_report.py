"""The page of the recovery experiment: what it says, and that its tidy rows are the run's."""

import dataclasses
import math

import numpy as np
import pytest
import run_files

from jaxanatomy.growth.budgets import budget, recovery_shares
from jaxanatomy.measures.recovery import (
    curves,
    evaluation_fields,
    final_row,
    recovery_against_importance,
)
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.papers import paper_table
from jaxanatomy.records import RunRecord, read_run
from jaxanatomy.report import html, style, terminal, views, write_report
from jaxanatomy.report import recovery as page

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
def record(rows, finals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    shares = recovery_shares(finals, "1.1", 20)
    groups = [{"group": "all_of_them", "layers": [0, 1, 2], "low": 0.2, "high": 0.4}]
    summary = {
        "warnings": ["the texts are the same"],
        "diverged": [{"layer": 2, "seed": 2, "reason": "diverged: here"}],
        "importance": recovery_against_importance(finals, DEGRADATION, "1.1"),
        "shares": shares,
        "budget": budget(shares, groups, 200),
    }
    provenance = {"model": "random:x", "experiment": "recovery"}
    run_files.write_config(folder, {"thresholds": THRESHOLDS}, provenance)
    run_files.write_rows(folder, rows)
    run_files.write_summary(folder, summary)
    return read_run(folder)


def view_of(kind, name):
    found = (view for section in page.PAGE.sections for view in section.views)
    return next(view for view in found if isinstance(view, kind) and view.name == name)


def drawn(kind, name, record):
    view = view_of(kind, name)
    return views.draw(view, view.rows(record))


def dots(ax, colour, marker="o"):
    marks = [line for line in ax.lines if line.get_marker() == marker]
    return [line.get_ydata()[0] for line in marks if line.get_color() == colour]


def test_the_page_says_what_was_found(record):
    text = write_report(record.folder).read_text()
    for words in (
        "3 layers, 6 curves; trained on paragraphs, evaluated on sentences; undamaged perplexity "
        "10.00.",
        "Warning: the texts are the same.",
        "Layer 2, seed 2: diverged: here.",
        "nats per token over 3 layers. Above 0: not recovered.",
        # (1 + 1 + 0.5) / 3 of the steps: layer 0 after 20, layer 1 never, layer 2 after 10.
        "Over 3 layers: 500 of 600 steps, 17 % saved; AH Table 10 over the same layers 120 to 240",
        "all of them",
    ):
        assert words in text
    names = {path.stem for path in (record.folder / "figures").iterdir()}
    assert names == {"gaps", "recovery_curves", "damage", "importance", "budget"}
    assert not any("paper" in row for row in page.damage(record))  # another model


def test_intervals_that_leave_zero_are_counted(monkeypatch, record):
    gap = {"seeds": 2, "step": 20, "low": 0.1, "high": 0.3}
    found = {
        layer: gap | {"mean": sum(ends) / 2, "ci95": ends}
        for layer, ends in enumerate(([0.1, 0.3], [-0.1, 0.3], [-0.3, -0.1], [0.2, 0.8]))
    }
    monkeypatch.setattr(page, "gaps_to_control", lambda rows: found)
    words = "is −0.200 to 0.500 nats per token over 4 layers; of 4 intervals 2 lie above"
    assert words in page.headline(record)
    assert page.headline(record).endswith("above 0 and 1 below. Above 0: not recovered.")


def test_what_recovers_is_the_gap_to_the_same_training_without_noise(record):
    zero, one, two = page.gaps(record)
    gap = math.log(10.4 / 9.5)
    assert (zero["layer"], zero["seeds"], zero["step"]) == (0, 1, 20)
    assert [zero[name] for name in ("mean", "low", "high")] == pytest.approx([gap] * 3)
    assert zero["gap"] == zero["mean"]  # no interval over one seed
    assert one["gap"] == one["mean"]
    assert two["mean"] == pytest.approx(math.log(9.8 / 9))  # at step 10: it diverged
    own = page.finals(record)
    columns = {column.head: column for column in view_of(views.Table, "curves").shown(own)}
    assert [columns["to 1.1×"].text(row) for row in own if row["layer"] == 1] == ["never"]


def test_without_controls_it_is_said_that_recovery_is_not_known(rows):
    alone = [row for row in rows if row.get("noise") is not False]
    without = {"steps_to_control": None, "gap_to_control_nats": None, "gap_ci95": None}
    alone = [row | without if row.get("kind") == "final" else row for row in alone]
    record = RunRecord("run", alone, {"thresholds": THRESHOLDS}, {}, {})
    (section, *_) = html.fill(page.PAGE, record)
    assert any("what recovers is not known" in words for words in section.text)
    assert page.gaps(record) == []
    assert not any("gap" in row or "steps_to_control.2" in row for row in page.finals(record))
    assert not any("steps" in row and row["steps"] is None for row in page.importance(record))


def test_gaps_are_drawn_with_their_seeds_and_intervals():
    rows = [
        {"layer": 3, "gap": Estimate(0.2, -1.0, 1.4), "seeds_range": Estimate(0.2, 0.1, 0.3)},
        {"layer": 5, "gap": 0.5, "seeds_range": Estimate(0.5, 0.5, 0.5)},
    ]
    ax = views.draw(view_of(views.Bars, "gaps"), rows)
    assert dots(ax, page.NOISED) == [0.2, 0.5]
    bars = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
    assert bars == [pytest.approx((0.1, 0.3)), pytest.approx((0.5, 0.5))]
    assert ax.get_ylim()[1] < 1.4  # an interval of two seeds would hide the rest


def test_training_on_the_evaluation_text_is_called_an_upper_bound(record):
    config = {"thresholds": THRESHOLDS}
    made = [row | {"train_text": "sentences"} if "step" in row else row for row in record.rows]
    assert "an upper bound" in page.warnings(RunRecord("run", made, config, {}, {}))
    assert page.warnings(RunRecord("run", record.rows, config, {}, {})) == ""


def test_the_terminal_s_table_is_narrow_and_holds_the_steps(record):
    lines = terminal.printed(page.PAGE, record).splitlines()
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    head = "layer seed noised lowest at step last to 2x to 1.1x gap, nats (95 %)"
    assert " ".join(lines[1].split()) == head
    assert lines[2].split()[:8] == ["0", "0", "30.00", "10.40", "20", "10.40", "10", "20"]
    assert lines[3].split()[:8] == ["1", "1", "500.00", "60.00", "20", "60.00", "never", "never"]
    assert lines[4].split()[:8] == ["2", "2", "12.00", "9.80", "10", "not", "finite", "0"]
    own = next(row for row in page.finals(record) if row["layer"] == 0)
    assert lines[2].split()[8] == f"{math.log(10.4 / 9.5):+.3f}"
    assert own["gap"].ends == own["gap_ci95"]


def test_curves_have_a_panel_for_each_layer_and_end_in_a_cross_where_they_diverge(record):
    panels = drawn(views.Curves, "recovery_curves", record)
    assert [ax.get_title(loc="left") for ax in panels] == ["layer 0", "layer 1", "layer 2"]
    lines = {
        line.get_color(): line.get_ydata() for line in panels[0].lines if len(line.get_xdata()) == 3
    }
    assert lines[page.CONTROL] == pytest.approx(PPL[0, None])
    assert lines[page.NOISED] == pytest.approx(PPL[0, 0])
    levels = {
        y for line in panels[0].lines if line.get_color() == page.SEEDS for y in line.get_ydata()
    }
    assert levels == {20.0, 11.0}
    flat = [line.get_ydata()[0] for line in panels[0].lines if list(line.get_xdata()) == [0, 1]]
    assert flat == [BASELINE]
    crosses = [
        sum(line.get_marker() == "x" and len(line.get_xdata()) for line in ax.lines)
        for ax in panels
    ]
    assert crosses == [0, 0, 1]


def test_damage_shows_every_seed_the_lowest_of_each_curve_and_the_paper(record, monkeypatch):
    monkeypatch.setattr(page, "_paper", lambda record: {"1": [54.7, 3, None, None, 17.0]})
    ax = drawn(views.Bars, "damage", record)
    assert sorted(dots(ax, page.SEEDS)) == pytest.approx([12.0, 30.0, 300.0, 500.0])
    assert sorted(dots(ax, page.NOISED)) == pytest.approx([9.8, 10.4, 60.0])
    assert sorted(dots(ax, page.CONTROL)) == pytest.approx([9.0, 9.0, 9.0])
    assert set(dots(ax, style.PAPER, "D")) == {54.7}
    table = view_of(views.Table, "steps")
    (own,) = (row for row in page.finals(record) if row["layer"] == 1)
    cells = [column.text(own) for column in table.shown([own])]
    assert cells[-3:] == ["54.70", "3, never, never", "17.00"]


def test_the_paper_stands_beside_its_own_model_only(record):
    architecture = {"layers": [{"ffn_width": 1536}] * 30, "hidden_size": 576}
    architecture |= {"vocab_size": 49152, "rope_theta": 100000.0}
    provenance = {"model": "file:made", "architecture": architecture}
    own = dataclasses.replace(record, provenance=provenance, config={**record.config})
    published = paper_table("table5_recovery")["layers"]["0"]
    assert next(row for row in page.damage(own) if row["layer"] == 0)["paper"] == published[0]


def test_importance_puts_what_never_recovered_at_the_top(record):
    noised, steps = drawn(views.Curves, "importance", record)
    points = {
        x: y for line in steps.lines if line.get_marker() == "o" for x, y in line.get_xydata()
    }
    assert points[5.0] == 20
    assert points[12.0] == 10
    assert math.isnan(points[900.0])
    lost = [line.get_xdata() for line in steps.lines if line.get_marker() == "x"]
    assert [list(xs) for xs in lost] == [[900.0]]
    for ax in (noised, steps):
        assert sorted(text.get_text() for text in ax.texts) == ["0", "1", "2"]
    found = {row["reading"]: views.value(row, "value") for row in page.correlations(record)}
    assert found["perplexity with noise"] == pytest.approx(0.5)


def test_budgets_show_shares_over_the_papers_ranges(record):
    ax = drawn(views.Bars, "budget", record)
    assert dots(ax, page.NOISED) == [1.0, 1.0, 0.5]
    ranges = [(bar.get_y(), pytest.approx(bar.get_height())) for bar in ax.patches]
    assert ranges == [(0.2, 0.2)] * 3
    (group,) = page.groups(record)
    assert (group["group"], group["layers"]) == ("all of them", [0, 1, 2])
    assert group["ours"] == pytest.approx(2.5 / 3)


def test_an_unfinished_run_shows_what_there_is(record):
    empty = RunRecord("run", record.rows[:1], record.config, {}, {})
    assert html.fill(page.PAGE, empty) == []
    assert page.lead(empty) == "No layer is trained yet."
    points = [row for row in record.rows if "kind" not in row]
    some = RunRecord("run", points, record.config, {}, {})
    assert [each.section.title for each in html.fill(page.PAGE, some)] == ["What layers recover"]

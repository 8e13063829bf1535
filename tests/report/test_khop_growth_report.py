"""The page of growth where depth matters: what it says and draws, from rows made by rule."""

import khop_growth_run as run
import numpy as np
import pytest
import run_files

from jaxanatomy.growth.depth_arms import ARMS
from jaxanatomy.measures.arms.khop_growth import summarise
from jaxanatomy.measures.statistics.estimates import wilson_interval
from jaxanatomy.records import RunRecord
from jaxanatomy.report import khop_growth as page
from jaxanatomy.report import terminal, write_report
from jaxanatomy.report.arms import diverged
from jaxanatomy.report.khop_growth import rows as tidy
from jaxanatomy.report.model_readings import rows as read
from jaxanatomy.report.views import Table
from jaxanatomy.train.depth_reader import EFFECTS

LOSSES = {
    "baseline": (0.10, 0.11, 0.09),
    "midas": (0.11, 0.10, 0.10),
    "lidas": (0.30, 0.33, 0.31),
    "flat_4": (0.40, 0.41, 0.42),
    "shallow_equal_flops": (0.70, 0.72, 0.69),
    "shallow": (0.80, 0.80, 0.79),
    "lidas_equal_flops": (0.02, 0.021, 0.02),
}
CONFIG = {"task": {"name": "khop", "hops": run.HOPS}}


def rows_of(losses):
    return list(run.run_rows({arm: np.outer(own, np.ones(4)) for arm, own in losses.items()}))


@pytest.fixture(scope="module")
def record():
    return RunRecord("run", rows_of(LOSSES), CONFIG, {}, {})


def cells(name, record, first):
    """The words of a table's row by heading."""
    found = (view for section in page.PAGE.sections for view in section.views)
    (view,) = (view for view in found if view.name == name and isinstance(view, Table))
    rows = view.rows(record)
    columns = view.shown(rows)
    (row,) = (row for row in rows if columns[0].text(row) == first)
    return {column.head: column.text(row) for column in columns}


def test_the_headline_says_what_intervals_allow_by_what_arms_are_equal_in(record):
    assert page.lead(record) == "khop, 4 hops: 7 arms, 3 seeds."
    assert page.verdict(record) == (
        "Held-out loss, at equal steps, against baseline: above 1: lidas; not told apart: midas. "
        "Held-out loss, at equal FLOPs, against baseline: below 1: lidas_equal_flops. "
        "Held-out loss, at equal steps, against shallow: below 1: midas, lidas. "
        "Held-out loss, at equal FLOPs, against shallow_equal_flops: below 1: lidas_equal_flops."
    )


def test_the_smallest_difference_is_said_and_drawn(record):
    percent = summarise(record.rows)["smallest_difference_percent"]
    assert f"can show is {percent:.0f} % of the loss" in page.smallest(record)
    rows = tidy.ratios(record)
    assert {row["told"] for row in rows} == {1 + percent / 100}
    assert [row["least"] for row in rows] == pytest.approx([1 / row["told"] for row in rows])
    panels = {row["panel"]: [] for row in rows}
    for row in rows:
        panels[row["panel"]].append(row["arm"])
    assert panels == {
        "at equal steps, against baseline": ["midas", "lidas"],
        "at equal steps, against baseline: constant depth": ["flat_4", "shallow"],
        "at equal FLOPs, against baseline": ["lidas_equal_flops"],
        "at equal FLOPs, against baseline: constant depth": ["shallow_equal_flops"],
        "at equal steps, against shallow": ["midas", "lidas"],
        "at equal FLOPs, against shallow_equal_flops": ["lidas_equal_flops"],
    }


def test_saturated_arms_are_named_and_nothing_is_said_of_a_pair_of_them():
    low = {arm: [each / 100 for each in LOSSES[arm]] for arm in ("baseline", "lidas")}
    record = RunRecord("run", rows_of(low | {"midas": (0.9, 0.91, 0.92)}), {}, {}, {})
    said = "Held-out loss, at equal steps, against baseline: above 1: midas."
    assert page.verdict(record) == said
    saturated = {arm: cells("arms", record, arm)["saturated"] for arm in (*low, "midas")}
    assert saturated == {"baseline": "yes", "lidas": "yes", "midas": "–"}
    fields = {row["arm"]: "ratio" in row for row in tidy.ratios(record)}
    assert fields == {"lidas": False, "midas": True}
    assert page.lead(record) == "3 arms, 3 seeds."


def test_rates_at_the_edge_are_named():
    rows = [row for row in rows_of(LOSSES) if row.get("learning_rate") != run.RATES[0]]
    record = RunRecord("run", rows, {}, {}, {})
    assert cells("rates", record, "midas")["at the edge of the grid"] == "yes"


def test_tables_say_what_arms_come_to_and_cost(record):
    row = cells("arms", record, "lidas")
    assert (row["layers"], row["seeds"], row["rate"]) == ("6", "3", "0.004")
    assert row["held-out loss"] == "0.313 [0.3, 0.33]"
    assert row["times the baseline's"].startswith("3.14 [")
    shares = [run.accuracies(loss) for loss in LOSSES["lidas"]]
    right = [np.mean([round(400 * share) / 400 for share in own]) for own in shares]
    assert row["right, all hops"] == f"{np.mean(right):.3f} [{min(right):.3f}, {max(right):.3f}]"
    assert cells("arms", record, "baseline")["times the baseline's"] == "–"
    assert cells("costs", record, "lidas")["TFLOP"] == "0.32"
    assert cells("rates", record, "lidas")["taken"] == "0.004"
    assert cells("meaning", record, "lidas_equal_flops")["what"].endswith("FLOPs buy")
    text = terminal.printed(page.PAGE, record)
    assert [line.split()[0] for line in text.splitlines()[2:9]] == list(LOSSES)


def test_what_is_wrong_stands_by_hop_beside_guessing(record):
    rows = tidy.by_hop(record)
    shares = [row["wrong"].value for row in rows if row["operator"] == "midas"]
    right = [[round(400 * each) / 400 for each in run.accuracies(loss)] for loss in LOSSES["midas"]]
    np.testing.assert_allclose(shares, 1 - np.mean(right, axis=0))
    assert [row["wrong"] for row in rows if row["operator"] == tidy.GUESSING] == [0.7] * run.HOPS
    # Bands are ranges over seeds.
    (last,) = (row["wrong"] for row in rows if (row.get("arm"), row["hop"]) == ("lidas", run.HOPS))
    of_seeds = [1 - run.accuracies(loss)[-1] for loss in LOSSES["lidas"]]
    assert last.ends == pytest.approx((min(of_seeds), max(of_seeds)), abs=1 / 400)


def test_wilsons_interval_is_of_one_seed_and_counts_its_sequences(record):
    rows = tidy.by_hop_of_one_seed(record)
    found = {row["hop"]: row["wrong"] for row in rows if row.get("arm") == "lidas"}
    share = round(400 * run.accuracies(LOSSES["lidas"][0])[0]) / 400
    assert found[1] == wilson_interval(1 - share, 4)  # sequences, not 400 answers
    assert page.BY_HOP_OF_ONE_SEED.rows is tidy.by_hop_of_one_seed
    assert "first seed" in page.BY_HOP_OF_ONE_SEED.caption


def test_the_page_says_on_how_much_depth_is_read(record):
    config = {"depth_sequences": 128, "held_out_sequences": 1024}
    read_on = page.read_on(RunRecord("run", record.rows, config, {}, {}))
    assert read_on.endswith("on the first 128 of the 1,024 held-out sequences.")


def test_constant_depths_are_a_line_from_the_shallowest_and_other_arms_are_points(record):
    rows = [row for row in tidy.by_cost(record) if row["panel"] == f"hop {run.HOPS}"]
    line = [(row["layers"], row["flops"]) for row in rows if row["series"] == tidy.FLAT]
    assert line == [(2, 16e10), (4, 32e10), (6, 48e10)]
    points = {row["series"]: row["layers"] for row in rows if row["points"]}
    assert points == {
        "shallow_equal_flops": 2,
        "midas": 6,
        "lidas": 6,
        "lidas_equal_flops": 6,
    }
    assert tidy.some_hops(12) == [3, 6, 9, 12]
    assert tidy.some_hops(2) == [1, 2]


def test_a_grown_run_stands_beside_the_constant_depths_that_it_has_had(record):
    rows = tidy.beside_flat(record)
    panels = {row["panel"]: {} for row in rows}
    for row in rows:
        panels[row["panel"]].setdefault(row["depth"], set()).add(row["arm"])
    beside = {f"{each} layers from the start": {arm} for each, arm in DEPTHS.items()}
    assert panels == {arm: {tidy.ITS: {arm}, **beside} for arm in ("midas", "lidas")}
    grown = [
        (row["step"], row["stage"]) for row in rows if row["grown"] and row["panel"] == "midas"
    ]
    assert grown == [(26, 1), (53, 2)]


DEPTHS = {2: "shallow", 4: "flat_4", 6: "baseline"}


def test_loops_are_drawn_with_their_intervals(record):
    (row,) = (row for row in read.loops(record) if row["arm"] == "lidas")
    assert {name: row[name].value for name in ("once", "twice", "damped")} == pytest.approx(
        {"once": 1.1, "twice": 1.5, "damped": 1.0}
    )


def test_edits_are_shown_by_layer_and_exits_end_with_the_whole_model(record):
    rows = [row for row in read.edits(record) if row["arm"] == "lidas"]
    panels = [row["panel"] for row in rows]
    assert list(dict.fromkeys(panels)) == [
        "without a layer",
        "layer exchanged with the next",
        "block of 2 with the next",
        "4 layers in reverse order",
        "left after a layer",
    ]
    assert [row["layer"] for row in rows if row["panel"] == panels[0]] == [*range(6)]
    exits = [row for row in tidy.exits(record) if row["arm"] == "lidas"]
    has = tidy.summary(record)["arms"]["lidas"]
    whole = [row["right"] for row in exits if row["layer"] == 5]
    assert whole == [each["mean"] for each in has["accuracy_by_hop"]]
    (left,) = (each for each in has["edits"] if (each["kind"], each["layers"]) == ("exit", [4]))
    assert [row["right"] for row in exits if row["layer"] == 4] == left["accuracy_by_hop"]


def test_many_arms_are_shown_in_families_with_the_baseline_in_each():
    arms = ("baseline", "flat_3", "lidas", "random_copies", "lidas_b1", "expand_1_at_50")
    assert [read.family(arm) for arm in arms[1:]] == [
        tidy.FLAT,
        "growth and controls",
        "growth and controls",
        "growth with other settings",
        "one-step expansion",
    ]
    many = (*arms, "midas", "flat_2", "flat_1", "lidas_b3")
    rows = read.in_families([{"arm": arm} for arm in many])
    panels = {row["panel"]: [] for row in rows}
    for row in rows:
        panels[row["panel"]].append(row["arm"])
    assert panels["one-step expansion"] == ["baseline", "expand_1_at_50"]
    assert panels[tidy.FLAT] == ["baseline", "flat_3", "flat_2", "flat_1"]
    assert {row["panel"] for row in read.in_families([{"arm": arm} for arm in arms])} == {""}


def test_every_arm_has_a_family():
    assert len({read.family(arm) for arm in ARMS if arm.islower()}) == 2


def shown(record):
    """The sections that have something to show."""
    return [
        section.title
        for section in page.PAGE.sections
        if any([view.rows(record) for view in section.views])
    ]


def test_a_run_in_any_state_has_a_page(record):
    assert shown(record) == [section.title for section in page.PAGE.sections]
    rows = record.rows
    tuning = RunRecord.of_rows(row for row in rows if row["purpose"] == "tuning")
    assert shown(tuning) == ["Learning rates"]
    begun = [row for row in rows if (row["arm"], row["seed"]) == ("midas", 0)]
    alone = RunRecord.of_rows(begun)
    assert "Does growing pay?" in shown(alone)
    assert (page.verdict(alone), page.smallest(alone)) == ("", "")
    lost = RunRecord.of_rows(
        run.final_row(row["arm"], row["seed"], [1.0], reason="diverged")
        if row["kind"] == "final" and row["purpose"] == "main"
        else row
        for row in rows
    )
    assert shown(lost) == ["Does growing pay?", "Learning rates", "Costs"]
    assert "at equal steps, against baseline: no interval: midas" in page.verdict(lost)
    assert diverged(lost).startswith("Diverged and left out: baseline, seed 0; baseline, seed 1;")


@pytest.mark.slow
def test_every_figure_is_drawn(tmp_path):
    rows = rows_of({arm: LOSSES[arm] for arm in ("baseline", "lidas", "shallow")})
    run_files.write_config(tmp_path, CONFIG, {"experiment": "khop_growth"})
    run_files.write_rows(tmp_path, rows)
    run_files.write_summary(tmp_path, summarise(rows))
    text = write_report(tmp_path).read_text()
    assert "can show is" in text
    names = [view.name for section in page.PAGE.sections for view in section.views]
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    tables = {"arms", "meaning", "rates", "costs", "depth_readings", "role_changes", "role_settled"}
    assert drawn == {*names} - tables


def test_how_deep_arms_compute_is_that_of_the_summary(record):
    rows = read.depth_differences(record)
    summary = {(row["reading"], row["arm"]): row for row in summarise(record.rows)["depth"]}
    assert len(rows) == sum("difference" in row for row in summary.values())
    for row in rows:
        own = summary[row["reading"], row["arm"]]["difference"]
        assert (row["difference"].value, row["difference"].low) == (own["mean"], own["low"])
    finals = [row for row in record.rows if row["kind"] == "final" and row["purpose"] == "main"]
    lidas = [row["depth"] for row in finals if row["arm"] == "lidas"]
    profile = {(row["arm"], row["layer"]): row for row in read.depth_profile(record)}
    influence = [own["influence"][3] for own in lidas]
    assert profile["lidas", 3]["influence"].value == pytest.approx(np.mean(influence))
    assert ("shallow", 2) not in profile
    for name in EFFECTS:
        cells = [row for row in read.effects(name, record) if row["panel"] == "lidas"]
        assert len(cells) == 6 * 5 / 2
    assert {row["panel"] for row in read.similarities(record)} == {
        "baseline",
        "midas",
        "lidas",
        "lidas_equal_flops",
        "flat_4",
    }

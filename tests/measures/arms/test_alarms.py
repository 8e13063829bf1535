"""Scores of alarms against a walk step by step, and where faults do nothing at all."""

import itertools

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.arms.alarms import (
    ALL,
    CLEAN_FAULTS,
    EVERY_FAULT,
    SIMPLEST,
    WEIGHTS,
    Reading,
    calibrated,
    detection,
    detectors,
    doubled_at,
    false_alarms,
    jumps,
    offsets,
    scores,
    summarise,
)
from jaxanatomy.measures.statistics.estimates import wilson_interval

STEPS, FAULT = 80, 40
KINDS = ("spectral", "update_growth", "loss_jump", "gradient_jump", "update_jump")
SHIPPED = dict.fromkeys(KINDS, 10.0)


def run(seed, fault="healthy", purpose="score", planted=None, loss=None, corrupted=0, update=None):
    """A row of noise; `planted` (kind, first step, value), what loss and update are times after."""
    rng = np.random.default_rng((seed, purpose == "score"))
    series = {
        "spectral": 1.5 + 0.05 * rng.normal(size=STEPS + 1),
        "update_growth": 0.2 + 0.01 * rng.normal(size=STEPS + 1),
    }
    losses = np.exp(0.05 * rng.normal(size=STEPS))
    gradients = np.exp(0.2 * rng.normal(size=STEPS))
    updates = np.exp(0.1 * rng.normal(size=STEPS))
    if planted is not None:
        kind, first, value = planted
        series[kind][first:] = value
    for at, times in (loss or {}).items():
        losses[at:] *= times
    for at, times in (update or {}).items():
        updates[at:] *= times
    return {
        "kind": "run",
        "fault": fault,
        "twin": "healthy",
        "purpose": purpose,
        "seed": seed,
        "fault_step": FAULT,
        "corrupted": corrupted,
        "grown": False,
        "series": {kind: values.tolist() for kind, values in series.items()},
        "loss": losses.tolist(),
        "gradient": gradients.tolist(),
        "update": updates.tolist(),
    }


CALIBRATION = [run(seed, purpose="calibration") for seed in range(100, 120)]
HEALTHY = [run(seed) for seed in range(20)]


def grown(row, planted=None):
    """The twin that grows: the same to the bit until then; `planted` (kind, step, value) after."""
    noise = np.random.default_rng((row["seed"], 7))
    own = row | {"fault": "healthy_grown", "twin": "healthy_grown", "grown": True}
    own["series"] = {kind: list(values) for kind, values in row["series"].items()}
    for values in own["series"].values():
        values[FAULT + 1 :] *= 1 + 0.01 * noise.normal(size=STEPS - FAULT)
    if planted is not None:
        kind, step, value = planted
        own["series"][kind][step] = value
    return own


def summary(rows, intervals=(1, 10)):
    found = summarise([*CALIBRATION, *HEALTHY, *rows], SHIPPED, intervals, 1.25)
    by_place = {(r["interval"], r["fault"], r["detector"]): r for r in found["detection"]}
    return found, by_place


def test_faults_that_do_nothing_are_not_found():
    """The world in which nothing happens: faulty runs are healthy ones under another name."""
    found, by_place = summary([run(seed, "nothing") for seed in range(20)])
    for detector in (ALL, WEIGHTS, SIMPLEST):
        row = by_place[1, "nothing", detector]
        assert (row["doubled"], row["before"], row["lead"]) == (0, None, None)
        assert row["flagged"] <= 0.1
    assert max(row["per_10000"] for row in found["false_alarms"]) <= 15


def test_levels_of_pure_noise_keep_the_rate_of_false_alarms():
    """Twenty runs choose levels, two hundred others are healthy as well."""
    healthy = [Reading.of(run(seed, purpose="calibration")) for seed in range(100, 120)]
    levels = calibrated(healthy, KINDS, (1,), 1.25)
    others = [Reading.of(run(seed)) for seed in range(200)]
    (row, *_) = false_alarms(others, detectors(levels, SHIPPED), 1)
    assert row["steps"] == 200 * STEPS
    assert row["per_10000"] <= 1


def test_each_healthy_step_counts_once():
    """Alarms before a run grows are those of its twin; after, its own."""
    rows = [run(seed) for seed in range(4)]
    for row in rows[:2]:
        row["series"]["spectral"][FAULT - 10] = 99.0
    twins = [grown(row) for row in rows[:3]] + [grown(rows[3], ("spectral", FAULT + 9, 99.0))]
    readings = [Reading.of(row) for row in (*rows, *twins)]
    (row,) = false_alarms(readings, {ALL: {"spectral": 10.0}}, 1)
    assert (row["alarms"], row["steps"]) == (3, 4 * STEPS + 4 * (STEPS - FAULT))
    expected = wilson_interval(3 / row["steps"], row["steps"])
    assert row["per_10000_ci95"] == pytest.approx([1e4 * end for end in expected.ends])
    assert (row["seeds"], row["affected"]) == (4, 0.75)
    assert row["affected_ci95"] == wilson_interval(0.75, 4).ends
    # Where both see the same before the growth, it is one seed and one alarm.
    (alone,) = false_alarms(readings[:4], {ALL: {"spectral": 10.0}}, 1)
    assert (alone["alarms"], alone["affected"]) == (2, 0.5)


def test_where_nothing_happens_seeds_with_an_alarm_are_few():
    """Levels of twenty seeds, two hundred others that grow as well."""
    tuning = [run(seed, purpose="calibration") for seed in range(100, 120)]
    levels = calibrated([Reading.of(row) for row in tuning], KINDS, (1,), 1.25)
    rows = [run(seed) for seed in range(200)]
    others = [Reading.of(row) for own in rows for row in (own, grown(own))]
    (row, *_) = false_alarms(others, detectors(levels, SHIPPED), 1)
    assert row["steps"] == 200 * (2 * STEPS - FAULT)
    assert row["affected"] <= 0.01
    assert row["per_10000"] <= 1


def test_faults_on_clean_batches_have_a_row_of_their_own():
    """A corrupted batch is found by its own loss, which is no doubled one."""
    rows = [
        run(seed, "corrupted", loss={FAULT: 30.0, FAULT + 4: 3 / 30}, corrupted=4)
        for seed in range(20)
    ]
    rows += [run(seed, "late", loss={FAULT: 3.0}) for seed in range(20)]
    _, by_place = summary(rows, (1,))
    one, both = (by_place[1, fault, SIMPLEST] for fault in (CLEAN_FAULTS, EVERY_FAULT))
    assert by_place[1, "corrupted", SIMPLEST]["before"] == 1.0
    assert (one["runs"], one["doubled"], one["before"]) == (20, 20, 0.0)
    assert (both["runs"], both["doubled"], both["before"]) == (40, 40, 0.5)
    _, by_place = summary(rows[20:], (1,))
    assert (1, CLEAN_FAULTS, SIMPLEST) not in by_place


def test_a_kind_that_reads_nothing_in_healthy_runs_is_left_out_and_named():
    """As of FFNs of ten neurons or fewer: none can lie three deviations above the mean."""

    def with_nothing(row, value=0.0):
        series = {"saturated": [value] * (STEPS + 1), "spectral": [None] * (STEPS + 1)}
        return row | {"series": row["series"] | series}

    rows = [with_nothing(row) for row in (*CALIBRATION, *HEALTHY)]
    rows += [with_nothing(run(seed, "x", loss={FAULT + 2: 3.0}), 0.0) for seed in range(20)]
    found = summarise(rows, SHIPPED | {"saturated": 0.06}, (1,), 1.25)
    assert found["uncalibrated"] == ["spectral", "saturated"]
    assert set(found["levels"]) == set(KINDS) - {"spectral"}
    assert max(row["alarms"] for row in found["false_alarms"]) <= 2
    assert summary([])[0]["uncalibrated"] == []


def test_what_is_planted_is_found_by_its_detector_with_its_lead():
    rows = [
        run(seed, "weights", planted=("spectral", FAULT + 5, 9.0), loss={FAULT + 12: 3.0})
        for seed in range(20)
    ]
    rows += [run(seed, "jumping", loss={FAULT + 12: 30.0}) for seed in range(20)]
    _, by_place = summary(rows)
    row = by_place[1, "weights", WEIGHTS]
    assert (row["doubled"], row["before"], row["flagged"]) == (20, 1.0, 1.0)
    assert (row["lead"], row["delay"], row["first"][0]) == (7, 5, "spectral")
    assert row["before_ci95"] == pytest.approx([0.8389, 1.0], abs=1e-4)
    # A jump is seen after its step: not before the loss has doubled.
    row = by_place[1, "jumping", SIMPLEST]
    assert (row["flagged"], row["before"], row["lead"]) == (1.0, 0.0, -1)
    assert by_place[1, "jumping", WEIGHTS]["flagged"] <= 0.1
    assert by_place[1, "all faults", ALL]["before"] == 0.5
    # With a check every ten steps it is seen at the next one: in eight of ten places in time.
    assert by_place[10, "weights", WEIGHTS]["before"] == pytest.approx(0.8, abs=0.05)
    # Jumps are looked for at every step.
    assert by_place[10, "jumping", SIMPLEST]["flagged"] == 1.0


def test_a_jump_of_the_update_is_of_the_updates_and_not_of_the_loss():
    rows = [run(seed, "spike", update={FAULT: 30.0}, loss={FAULT + 2: 3.0}) for seed in range(20)]
    _, by_place = summary(rows)
    for interval in (1, 10):
        row = by_place[interval, "spike", WEIGHTS]
        assert (row["before"], row["lead"], row["first"]) == (1.0, 1, ["update_jump"])
    assert by_place[1, "spike", SIMPLEST]["before"] <= 0.1


def test_onsets_are_those_of_a_walk_over_checks():
    row = run(3, planted=("update_growth", 50, 5.0))
    reading, levels = Reading.of(row), {"update_growth": 3.0, "spectral": 1.6}
    for interval in (1, 7):
        for offset in offsets(interval):
            found, largest, standing = [], np.nan, {}
            for step in range(STEPS + 1):
                if step and (step < (offset or interval) or (step - offset) % interval):
                    continue
                for kind in levels:
                    value = row["series"][kind][step]
                    if kind == "update_growth":
                        value, largest = value / largest, np.fmax(value, largest)
                    on = value >= levels[kind]
                    found += [(step, kind)] if on and not standing.get(kind) else []
                    standing[kind] = on
            assert reading.onsets(levels, interval, offset) == sorted(found)


def test_a_jump_is_seen_when_its_step_is_done_whatever_the_interval():
    for jump, interval in itertools.product((43, 50, 79), (1, 10, 100)):
        row = run(3, loss={jump: 30.0})
        assert Reading.of(row).onsets({"loss_jump": 10.0}, interval, 0) == [(jump + 1, "loss_jump")]


def test_a_kind_that_is_off_is_in_no_detector():
    shipped = {kind: level for kind, level in SHIPPED.items() if kind != "loss_jump"}
    found = summarise([*CALIBRATION, *HEALTHY], shipped, (1,), 1.25)
    assert "loss_jump" not in found["levels"]


def test_a_healthy_run_that_diverges_is_refused():
    twin, lost = run(4), run(4, "x")
    twin["loss"][FAULT + 6] = lost["loss"][FAULT + 6] = None
    with pytest.raises(InputError, match="seed 4 has diverged at step 46; lower learning_rate"):
        doubled_at(lost, twin)


def test_jumps_are_deviations_from_the_steps_before():
    rng = np.random.default_rng(0)
    step_ES = np.exp(rng.normal(size=(70, 2)))
    found = jumps(step_ES)
    assert np.isnan(found[:10]).all()
    before = np.log(step_ES[10:60])
    z = (np.log(step_ES[60]) - before.mean(0)) / before.std(0)
    np.testing.assert_allclose(found[60], z, rtol=1e-12)
    steady = jumps(np.ones((20, 1)) * [[np.e]])
    np.testing.assert_allclose(steady[10:], 0, atol=1e-12)


def test_a_step_of_zero_or_not_finite_does_not_hide_the_jumps_after_it():
    step_ES = np.exp(np.random.default_rng(0).normal(size=(70, 3)))
    step_ES[30] = (0.0, np.nan, np.inf)
    found, left = jumps(step_ES), np.log(np.delete(step_ES, 30, axis=0))
    np.testing.assert_array_equal(found[30], [-np.inf, np.nan, np.inf])
    before = left[10:59]  # of step 60, the 50 before it but one
    np.testing.assert_allclose(found[60], (left[59] - before.mean(0)) / before.std(0))
    few = jumps(np.where(np.arange(12)[:, None] < 3, 0.0, np.ones((12, 1))))
    assert np.isnan(few).all()


def test_a_loss_has_doubled_against_the_twin_and_not_on_corrupted_batches():
    twin = run(0)
    assert doubled_at(run(0, "x", loss={FAULT + 3: 2.01}), twin) == FAULT + 3
    assert doubled_at(run(0, "x", loss={FAULT + 3: 1.99}), twin) is None
    assert doubled_at(run(0, "x", loss={FAULT: 9.0, FAULT + 4: 1 / 9}, corrupted=4), twin) is None
    assert doubled_at(run(0, "x", loss={FAULT: 9.0}, corrupted=4), twin) == FAULT + 4
    lost = run(0, "x")
    lost["loss"][FAULT + 6] = None
    assert doubled_at(lost, twin) == FAULT + 6


def test_intervals_are_over_runs_not_over_places_of_checks():
    rows = [run(seed, "x", loss={FAULT + 2: 3.0}) for seed in range(5)]
    levels = detectors(dict.fromkeys(KINDS, 1e9), SHIPPED)
    found = detection(scores([*HEALTHY, *rows], levels, 10))
    row = next(r for r in found if (r["fault"], r["detector"]) == ("x", ALL))
    assert (row["runs"], row["doubled"], row["before"]) == (5, 5, 0.0)
    assert row["before_ci95"] == pytest.approx([0, 0.4345], abs=1e-4)

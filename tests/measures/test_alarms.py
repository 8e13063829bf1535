"""Scores of alarms against a walk step by step, and where faults do nothing at all."""

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.measures.alarms import (
    ALL,
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

STEPS, FAULT = 80, 40
KINDS = ("spectral", "update_growth", "loss_jump", "gradient_jump")
SHIPPED = dict.fromkeys(KINDS, 10.0)


def run(seed, fault="healthy", purpose="score", planted=None, loss=None, corrupted=0):
    """A row of noise; `planted` (kind, first step, value) and the course of the loss after."""
    rng = np.random.default_rng((seed, purpose == "score"))
    series = {
        "spectral": 1.5 + 0.05 * rng.normal(size=STEPS + 1),
        "update_growth": 0.2 + 0.01 * rng.normal(size=STEPS + 1),
    }
    losses = np.exp(0.05 * rng.normal(size=STEPS))
    gradients = np.exp(0.2 * rng.normal(size=STEPS))
    if planted is not None:
        kind, first, value = planted
        series[kind][first:] = value
    for at, times in (loss or {}).items():
        losses[at:] *= times
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
    }


CALIBRATION = [run(seed, purpose="calibration") for seed in range(100, 120)]
HEALTHY = [run(seed) for seed in range(20)]


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


def test_a_check_sees_the_jumps_since_the_one_before_and_none_after_it():
    for jump in (43, 50, 75):  # step 75 comes after the last of the checks at 10, 20, ... 70
        row = run(3, loss={jump: 30.0})
        row["loss"], row["gradient"] = row["loss"][:79], row["gradient"][:79]
        row["series"] = {kind: values[:80] for kind, values in row["series"].items()}
        found = Reading.of(row).onsets({"loss_jump": 10.0}, 10, 0)
        # The jump of a step, counted from 0, is known when it is done.
        assert found == ([(-(-(jump + 1) // 10) * 10, "loss_jump")] if jump < 75 else [])


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

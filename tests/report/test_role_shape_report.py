"""Sections on widths, registers and skip gates: tidy rows of a summary made by rule."""

import numpy as np
import pytest

from jaxanatomy.measures.arms.role_moves import UNIFORM
from jaxanatomy.measures.arms.role_shape import summarise_shapes
from jaxanatomy.measures.arms.skips import all_sets
from jaxanatomy.records import RunRecord
from jaxanatomy.report import role_shape

LAYERS, SEEDS = 4, 5
WIDTHS = np.array([0.7, 0.9, 1.1, 1.3])


def final(arm, seed, cv_L, **fields):
    row = {"kind": "final", "purpose": "main", "arm": arm, "seed": seed, "reason": "", "step": 8}
    features = {"co_magnitude_cv": list(map(float, cv_L))}
    return {**row, "features": features, "roles": ["hub"] * LAYERS, "eval_nll": 2.0, **fields}


@pytest.fixture(scope="module")
def record():
    rng, rows = np.random.default_rng(0), []
    sets = [list(own) for own in all_sets(LAYERS, 2)]
    for seed in range(SEEDS):
        even_L = 0.3 + 0.01 * rng.random(LAYERS)
        skips = {
            "skip_roles": ["passthrough", "hub", "hub", "hub"],
            "skip_scores": [0.9, 0.5, 0.4, 0.3],
            "skip_whole": 2.0,
            "skip_sets": sets,
            "skip_nll": [2.0 + len(own) * (1 + sum(own)) for own in sets],
            "attention_on_first": [0.1] * LAYERS,
        }
        rows.append(final(UNIFORM, seed, even_L, **skips))
        noisy_L = WIDTHS * even_L * np.exp(0.01 * rng.normal(size=LAYERS))
        rows.append(final("wide_late", seed, noisy_L, widths=WIDTHS.tolist()))
        rows.append(final("registers_learned", seed, even_L, attention_on_registers=[0.4] * LAYERS))
        for step in (0, 4, 8):
            moved = {"rms": 0.02, "rms_change": 0.0, "moved": 0.01 * step * (1 + seed)}
            row = {"kind": "registers", "purpose": "main", "arm": "registers_learned"}
            row |= {"seed": seed, "step": step}
            row |= {"straight": 0.5 * step, "walk": 0.1 * step}
            rows.append({**row, "registers": moved, "frequent": moved | {"moved": 0.1 * step}})
    return RunRecord("run", rows, {}, {}, summarise_shapes(rows, UNIFORM))


def test_widths_have_a_row_an_arm_and_a_sentence(record):
    (row,) = role_shape.widths(record)
    assert (row["arm"], row["widths"]) == ("wide_late", WIDTHS.tolist())
    assert row["centre"].low > 0
    assert "Specialization follows the widths: where a layer is 10 %" in role_shape.slope(record)
    points = role_shape.by_layer(record)
    assert [(point["arm"], point["layer"]) for point in points] == [
        (arm, layer) for arm in (UNIFORM, "wide_late") for layer in range(LAYERS)
    ]


def test_registers_have_their_ranges_over_seeds_and_both_paths(record):
    points = {(row["rows"], row["step"]): row["moved"] for row in role_shape.moves(record)}
    assert points[role_shape.STRAIGHT, 8] == 4.0
    assert points[role_shape.WALK, 4] == pytest.approx(0.4)
    own = points["registers", 8]
    assert (own.value, own.low, own.high) == pytest.approx((0.24, 0.08, 0.4))
    assert {step for _, step in points} == {4, 8}
    rows = {row["arm"]: row for row in role_shape.registers(record)}
    assert rows[UNIFORM]["attention_on_first"].value == pytest.approx(0.1)
    learned = rows["registers_learned"]
    assert learned["attention_on_registers"].value == pytest.approx(0.4)
    assert learned["registers.moved"].value == pytest.approx(0.24)
    assert learned["frequent.times_less"].value == pytest.approx(5)


def test_orders_of_skipping_stand_beside_any(record):
    rows = {row["order"]: row for row in role_shape.placed(record)}
    assert rows["by role"]["share"].value == pytest.approx((3.5 / 4 + 5.5 / 6) / 2 - 0.5)
    assert rows["by role"]["cost.1"] == 1.0
    lines = {(row["order"], row["layers"]): row["cost"] for row in role_shape.costs(record)}
    assert lines["any, on average", 1] == pytest.approx(np.mean([1, 2, 3, 4]))
    assert lines["by damage", 2] == lines["by role", 2] == 4.0


def test_a_run_without_these_arms_has_none_of_these_rows():
    empty = RunRecord("run", [], {}, {}, summarise_shapes([], UNIFORM))
    for rows in (role_shape.widths, role_shape.moves, role_shape.registers, role_shape.placed):
        assert rows(empty) == []
    assert role_shape.by_layer(empty) == role_shape.costs(empty) == []
    assert role_shape.slope(empty) is None

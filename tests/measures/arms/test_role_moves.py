"""Roles moved: models against loops, summaries against literals, and where nothing happens."""

import jax
import numpy as np
import pytest
import role_moves_run as run
from scipy.stats import t

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics.roles import ROLES
from jaxanatomy.measures.arms.finals import finals_by_arm
from jaxanatomy.measures.arms.role_moves import (
    AGAIN,
    STUCK,
    UNIFORM,
    distances,
    layer_fields,
    longest_run,
    summarise,
)
from jaxanatomy.measures.roles import role_distance

ARMS = (UNIFORM, AGAIN, "none", "random_policy", "learned_policy", "rate_scale")
CONFIG = ModelConfig.uniform(5, 2, 1, 40, vocab_size=31, hidden_size=16, head_dim=8)


def moves(rows):
    return {row["arm"]: row for row in summarise(rows, {})["moves"]}


def test_the_fields_of_a_model_are_those_of_a_loop_over_its_layers():
    blocks = model.init(CONFIG, jax.random.key(0))["layers"]
    giant = np.array(tree.get(blocks[3], "gate_proj"))
    giant[:, [4, 17]] *= 9
    blocks = [*blocks[:3], tree.replace(blocks[3], {"gate_proj": giant}), blocks[4]]
    blocks = jax.tree.map(np.asarray, blocks)
    found = layer_fields(CONFIG, blocks)
    for layer, block in enumerate(blocks):
        gate, up = (np.linalg.norm(tree.get(block, n), axis=0) for n in ("gate_proj", "up_proj"))
        size_F = gate.astype(float) * up
        high = np.flatnonzero(size_F > size_F.mean() + 3 * size_F.std()).tolist()
        assert found["saturated"][layer] == high
        assert found["features"]["saturated"][layer] == len(high)
        cv = size_F.std() / size_F.mean()
        assert found["features"]["co_magnitude_cv"][layer] == pytest.approx(cv, rel=1e-5)
    assert found["saturated"][3] == [4, 17]
    assert found["roles"][3] == "specialist"
    score_RL = np.array([found["scores"][role] for role in ROLES])
    assert score_RL.shape == (4, 5)
    assert ((score_RL > 0) & (score_RL < 1)).all()


def test_the_distance_of_roles_is_a_root_mean_square():
    own, other = (np.full((len(ROLES), run.LAYERS), value) for value in (0.5, 0.5))
    other = other.copy()
    other[1, 2], other[0, 0] = 0.9, 0.2
    rows = [run.final_row("a", 0, [1.0], own), run.final_row("b", 0, [1.0], other)]
    one, two = (row["scores"] for row in rows)
    assert role_distance(one, two) == pytest.approx(np.sqrt((0.16 + 0.09) / 24))
    assert role_distance(one, one) == 0


def test_positions_lost_and_gained_are_counted_seed_by_seed():
    """LR section 5's own sum: 14 lost, 9 gained."""
    score_RL = run.scores(np.random.default_rng(0))
    lost = [(layer, n) for layer, count in ((3, 5), (4, 6), (5, 3)) for n in range(count)]
    gained = [(0, n) for n in range(5)] + [(1, 7), (1, 8), (2, 0), (2, 1)]
    kept = [(2, 30)]
    rows = []
    for seed in range(3):
        rows.append(run.final_row(UNIFORM, seed, [2.0, 3.0], score_RL, lost + kept))
        rows.append(run.final_row("none", seed, [2.0, 3.0], score_RL, gained + kept, rank=16.5))
    found = moves(rows)["none"]
    means = {name: own["mean"] for name, own in found["saturated"].items()}
    assert means == {"lost": 14, "gained": 9, "kept": 1, "net": -5}
    assert found["changed"]["mean"] == 0
    assert found["distance"]["mean"] == 0
    assert found["rank"]["o_proj"] == {"layer": 0, "largest": -3.5, "within": 0, "of": 20.0}
    assert "beyond_null" not in found  # there is no null


def test_intervals_over_seeds_are_students_where_there_is_one_arm():
    """Of two arms; the null has none of its own beyond itself."""
    generator = np.random.default_rng(3)
    rows = run.run_rows(generator, {UNIFORM: (0, 0), AGAIN: (0, 0), "none": (0, 0.1)}, seeds=4)
    by_seed = {(row["arm"], row["seed"]): row for row in rows}
    far = {
        arm: [
            role_distance(by_seed[arm, s]["scores"], by_seed[UNIFORM, s]["scores"])
            for s in range(4)
        ]
        for arm in (AGAIN, "none")
    }
    found = moves(rows)
    assert distances(finals_by_arm(rows))["none"] == dict(enumerate(far["none"]))
    beyond = found["none"]["beyond_null"]
    less = np.subtract(far["none"], far[AGAIN])
    assert beyond["mean"] == pytest.approx(less.mean())
    assert beyond["seeds"] == 4
    # Two arms: the residuals of each are half the difference's, so that pooling changes nothing.
    half = t.ppf(0.975, 3) * less.std(ddof=1) / 2
    assert beyond["high"] - beyond["mean"] >= half * (1 - 1e-9)
    assert "beyond_null" not in found[AGAIN]


def test_seeds_that_diverged_are_in_no_comparison():
    generator = np.random.default_rng(0)
    rows = run.run_rows(generator, {UNIFORM: (0, 0), AGAIN: (0, 0), "none": (0, 0)})
    dead = run.final_row("none", 2, [1.0], None, reason="diverged")
    rows = [dead if (row["arm"], row["seed"]) == ("none", 2) else row for row in rows]
    found = summarise(rows, {})
    assert found["arms"]["none"]["diverged"] == [2]
    assert moves(rows)["none"]["distance"]["seeds"] == 4
    every = [run.final_row("none", seed, [1.0], None, reason="diverged") for seed in range(5)] + [
        row for row in rows if row["arm"] != "none"
    ]
    lost = moves(every)["none"]
    assert lost == {
        "arm": "none",
        "loss_percent": dict.fromkeys(("mean", "low", "high")) | {"seeds": 0},
    }


def test_of_an_arm_of_other_shapes_there_is_the_loss_alone():
    rows = run.run_rows(np.random.default_rng(0), dict.fromkeys((UNIFORM, AGAIN, "wide"), (0, 0)))
    rows = [row | {"alike": row["arm"] != "wide"} for row in rows]
    found = moves(rows)
    assert found["wide"].keys() == {"arm", "loss_percent"}
    assert found["wide"]["loss_percent"]["seeds"] == 5
    assert found[AGAIN].keys() > {"distance", "saturated", "rank"}


def told(arms, draws, field, side, seeds=5):
    """In which share of runs an interval of some arm lies beyond 0."""
    hits = 0
    for draw in range(draws):
        rows = run.run_rows(np.random.default_rng(draw), arms, seeds)
        found = [row[field] for row in moves(rows).values() if field in row]
        hits += any(side * row["low"] > 0 and side * row["high"] > 0 for row in found)
    return hits / draws


def test_where_nothing_happens_no_arm_moves_roles_or_the_loss():
    nothing = dict.fromkeys(ARMS, (0.0, 0.0))
    assert told(nothing, 120, "beyond_null", 1) <= 0.06
    assert told(nothing, 120, "loss_percent", -1) <= 0.06


def test_what_is_planted_is_found():
    planted = dict.fromkeys(ARMS, (0.0, 0.0)) | {"learned_policy": (-0.1, 0.2)}
    assert told(planted, 20, "beyond_null", 1) >= 0.9
    assert told(planted, 20, "loss_percent", -1) >= 0.9


def test_what_is_stuck_at_its_clamp_is_listed():
    generator = np.random.default_rng(0)
    rows = run.run_rows(generator, dict.fromkeys((UNIFORM, "learned_policy"), (0, 0)), seeds=2)
    rows += run.proposal_rows("learned_policy", 0, [0.1] * 5 + [1.0] * STUCK, ("q_proj",))
    rows += run.proposal_rows("learned_policy", 1, [1.0] * (STUCK - 1) + [0.1] * 6, ("q_proj",))
    (found,) = summarise(rows, {})["policies"].values()
    assert found["proposals"] == STUCK + 5
    assert found["at_clamp"] == pytest.approx((2 * STUCK - 1) / (2 * STUCK + 10))
    place = {"seed": 0, "tensor": "q_proj", "proposals": STUCK}
    assert found["stuck"] == [place | {"layer": layer} for layer in range(run.LAYERS)]
    assert found["reward"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("flags", "most"), [([], 0), ([0], 0), ([1, 1, 0, 1], 2), ([1, 0, 1, 1, 1], 3), ([1] * 4, 4)]
)
def test_the_longest_run(flags, most):
    assert longest_run(np.array(flags, bool)) == most


def test_an_arm_of_the_same_text_is_not_measured_by_what_another_text_does():
    """Losses that go together seed by seed, beside the null's, which do not."""
    generator = np.random.default_rng(5)
    rows = run.run_rows(
        generator, dict.fromkeys((UNIFORM, AGAIN, "none", "learned_policy"), (0, 0))
    )
    base = {row["seed"]: row["unit_nll"] for row in rows if row["arm"] == UNIFORM}
    for row in rows:
        if row["arm"] in ("none", "learned_policy"):
            factor = np.exp(0.001 * generator.normal() - 0.01 * (row["arm"] == "none"))
            row["unit_nll"] = (factor * np.array(base[row["seed"]])).tolist()
            row["eval_nll"] = float(np.mean(row["unit_nll"]))
    found = {arm: row["loss_percent"] for arm, row in moves(rows).items()}
    width = {arm: own["high"] - own["low"] for arm, own in found.items()}
    assert max(width["none"], width["learned_policy"]) < width[AGAIN] / 5
    assert found["none"]["high"] < 0

"""How far registers move and what they take of attention, by hand and in a simulation of Adam."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxanatomy.measures.arms import registers


def test_movement_by_hand():
    before, now = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])
    turned = registers.movement(before, now)
    assert turned == pytest.approx({"rms": math.sqrt(12.5), "rms_change": 0.0, "moved": 1.0})
    longer = registers.movement(before, 2 * before)
    assert longer == pytest.approx({name: k * math.sqrt(12.5) for name, k in MOVED.items()})


MOVED = {"rms": 2, "rms_change": 1, "moved": 1}


def adam(gradients, rates):
    """The RMS of what Adam does to entries that begin at 0."""
    optimiser = optax.scale_by_adam()

    def step(carry, given):
        x, state = carry
        update, state = optimiser.update(given[0], state)
        return (x - given[1] * update, state), None

    x = jnp.zeros(gradients.shape[1])
    (x, _), _ = jax.lax.scan(step, (x, optimiser.init(x)), (gradients, jnp.asarray(rates)))
    return registers.movement(np.zeros(x.shape), np.asarray(x))["moved"]


def test_adam_goes_straight_on_where_gradients_agree_and_walks_where_they_are_noise():
    rates = np.linspace(1e-3, 3e-3, 400)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], 2000)
    paths = registers.adam_paths(rates)
    assert paths == pytest.approx({"straight": 0.8, "walk": np.sqrt((rates**2).sum())})
    assert adam(jnp.tile(jnp.asarray(signs), (400, 1)), rates) == pytest.approx(0.8, rel=1e-3)
    noise = jnp.asarray(rng.normal(size=(400, 2000)))
    assert adam(noise, rates) == pytest.approx(paths["walk"], rel=0.1)


def test_attention_on_registers_and_on_the_first_token_by_hand():
    # Two windows in a row: two registers and two tokens, two registers and one.
    text = types.SimpleNamespace(
        position_RT=jnp.array([[0, 1, 2, 3, 0, 1, 2]]),
        segment_RT=jnp.array([[0, 0, 0, 0, 1, 1, 1]]),
    )
    weight_CRHTS = np.random.default_rng(0).random((2, 1, 3, 7, 7)).astype(np.float32)
    readings = registers.attention_readings(2)
    measure = readings["attention_on_registers"].measure
    found = measure([jnp.asarray(weight_CRHTS)], types.SimpleNamespace(text=text))
    mean_CTS = weight_CRHTS[:, 0].mean(axis=1)
    for t, own, first in ((3, [0, 1], [2]), (6, [4, 5], [6])):
        for name, keys in (("attention_on_registers", own), ("attention_on_first", first)):
            expected = mean_CTS[:, t, keys].sum(axis=-1)
            np.testing.assert_allclose(found[name][:, 0, t], expected, rtol=1e-6)
    where = readings["attention_on_first"].reduction.where
    assert where.select(text).tolist() == [[False, False, False, True, False, False, False]]


def moves(arm, seed, step, moved, far=0.3):
    row = {"kind": "registers", "purpose": "main", "arm": arm, "seed": seed, "step": step}
    row |= {"straight": far}
    its = {"rms": 0.02, "rms_change": 0.001, "moved": moved}
    return {**row, "walk": 0.01, "registers": its, "frequent": {**its, "moved": 0.1}}


def test_a_summary_has_the_last_point_of_living_seeds():
    rows = [moves("registers_learned", 0, 5, 0.2), moves("registers_learned", 0, 9, 0.01)]
    rows += [moves("registers_learned", 1, 9, 0.03), moves("registers_learned", 2, 9, 9.0)]
    rows += [moves("registers_frozen", seed, 9, 0.0) for seed in range(2)]
    rows += [moves("registers_learned", 0, 9, 7.0) | {"purpose": "tuning"}]
    attention = {"attention_on_registers": [0.5, 0.3], "attention_on_first": [0.0, 0.2]}
    by_arm = {
        "registers_learned": {0: attention, 1: attention, 2: attention},
        "registers_frozen": {0: attention, 1: attention},
        "uniform": {0: {"attention_on_first": [0.2, 0.4]}},
        "none": {0: {}},
    }
    by_arm = {
        arm: {seed: {**row, "reason": "lost" if seed == 2 else ""} for seed, row in seeds.items()}
        for arm, seeds in by_arm.items()
    }
    found = registers.summarise_registers(rows, by_arm)
    assert found.keys() == {"registers_learned", "registers_frozen", "uniform"}
    learned = found["registers_learned"]
    assert learned["attention_on_registers"]["mean"] == pytest.approx(0.4)
    assert learned["registers"]["moved"]["mean"] == pytest.approx(0.02)
    times = learned["registers"]["times_less"]
    assert times["mean"] == pytest.approx(math.sqrt(30 * 10))
    assert times["low"] < times["mean"] < times["high"]
    assert times["seeds"] == 2
    assert learned["frequent"]["times_less"]["mean"] == pytest.approx(3)
    assert found["registers_frozen"]["registers"]["times_less"] is None
    assert found["uniform"] == {
        "attention_on_first": pytest.approx({"mean": 0.3, "low": None, "high": None, "seeds": 1})
    }

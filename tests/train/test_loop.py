"""The training loop against AdamW written out, replicas, chunks and losses that are not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy.train.loop import run_steps, start
from jaxanatomy.train.optimiser import Optimiser, make

ADAMW = make(Optimiser(), {})

TARGET = {"a": np.array([1.0, -2.0, 0.5], np.float32), "b": np.array([[3.0]], np.float32)}
STEPS = 7
RATES = np.linspace(0.1, 0.02, STEPS, dtype=np.float32)
SCALES = np.linspace(0.5, 4.0, STEPS, dtype=np.float32)


def squares(trained, frozen, batch):
    """scale * sum (a - target)^2 + b^2 frozen."""
    away = sum(jnp.square(trained[name] - TARGET[name]).sum() for name in trained)
    return batch["scale"] * away + frozen["offset"]


def begin():
    return {"a": jnp.array([0.5, 0.5, -1.0]), "b": jnp.array([[0.25]])}


FROZEN = {"offset": jnp.float32(2.0)}


def literal(rates, scales, decay=0.01, clip=1.0, b1=0.9, b2=0.999, eps=1e-8):
    """AdamW with clipping, in NumPy and float64: loss, norm and change of each step; parameters."""
    p = {name: np.asarray(leaf, np.float64) for name, leaf in begin().items()}
    m = {name: np.zeros_like(leaf) for name, leaf in p.items()}
    v = {name: np.zeros_like(leaf) for name, leaf in p.items()}
    seen = []
    for t, (rate, scale) in enumerate(zip(rates, scales, strict=True), start=1):
        loss = 2 + scale * sum(((p[n] - TARGET[n]) ** 2).sum() for n in p)
        g = {name: 2 * scale * (p[name] - TARGET[name]) for name in p}
        norm = np.sqrt(sum((leaf**2).sum() for leaf in g.values()))
        change = {}
        for name in p:
            clipped = g[name] * min(1, clip / norm)
            m[name] = b1 * m[name] + (1 - b1) * clipped
            v[name] = b2 * v[name] + (1 - b2) * clipped**2
            adam = (m[name] / (1 - b1**t)) / (np.sqrt(v[name] / (1 - b2**t)) + eps)
            change[name] = rate * (adam + decay * p[name])
            p[name] = p[name] - change[name]
        seen.append((loss, norm, np.sqrt(sum((leaf**2).sum() for leaf in change.values()))))
    return seen, p


def run(rates=RATES, scales=SCALES, counts=(STEPS,), loss=squares):
    state, found, at = start(ADAMW, begin()), [], 0
    for count in counts:
        chunk = slice(at, at + STEPS)
        batches = {"scale": jnp.asarray(np.resize(scales[chunk], STEPS))}
        padded = jnp.asarray(np.resize(rates[chunk], STEPS))
        state, trace = run_steps(loss, ADAMW, state, FROZEN, batches, padded, count)
        seen_E3 = np.stack(trace, axis=1)
        assert np.isnan(seen_E3[count:]).all()
        found.extend(map(tuple, seen_E3[:count].tolist()))
        at += count
    return state, found


def test_steps_are_adamw_with_clipping_and_each_steps_own_rate():
    state, seen = run()
    expected, params = literal(RATES, SCALES)
    seen_E3, expected_E3 = np.array(seen), np.array(expected)
    np.testing.assert_allclose(seen_E3[:, :2], expected_E3[:, :2], rtol=1e-5)
    # The first 1 - 0.999^t have five digits in float32.
    np.testing.assert_allclose(seen_E3[:, 2], expected_E3[:, 2], rtol=6e-5)
    for name, leaf in params.items():
        np.testing.assert_allclose(state.params[name], leaf, rtol=1e-5, atol=1e-5)
    assert bool(state.alive)


def test_optax_s_own_adamw_does_the_same():
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.05, weight_decay=0.01))
    params = begin()
    moments = chain.init(params)
    for scale in SCALES:
        gradient = jax.grad(squares)(params, FROZEN, {"scale": scale})
        update, moments = chain.update(gradient, moments, params)
        params = optax.apply_updates(params, update)
    state, _ = run(np.full(STEPS, 0.05, np.float32))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.params, params)


def test_chunks_change_nothing_and_are_one_program(count_traces):
    whole, seen = run()

    def counted(*arguments):
        return squares(*arguments)

    with count_traces() as traces:
        parts, found = run(counts=(3, 2, 2), loss=counted)
        run(rates=RATES * 2, counts=(1, 6), loss=counted)
    assert traces["run_steps"] == 1
    assert found == seen
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def replicas(rates_EM, scales_EM):
    M = rates_EM.shape[1]
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * M), begin())
    frozen = {"offset": jnp.full((M,), 2.0)}
    state = jax.vmap(functools.partial(start, ADAMW))(params)
    batches = {"scale": jnp.asarray(scales_EM)}
    state, trace = run_steps(
        squares,
        ADAMW,
        state,
        frozen,
        batches,
        jnp.asarray(rates_EM),
        STEPS,
        replicas=True,
    )
    return state, np.stack(trace, axis=-1)


def test_replicas_are_runs_of_their_own():
    rates = np.stack([RATES, 3 * RATES], axis=1)
    scales = np.stack([SCALES, SCALES[::-1]], axis=1)
    state, seen_EM3 = replicas(rates, scales)
    for replica in range(2):
        alone, expected = run(rates[:, replica], scales[:, replica])
        np.testing.assert_allclose(seen_EM3[:, replica], expected, rtol=1e-5)
        for name, leaf in alone.params.items():
            np.testing.assert_allclose(state.params[name][replica], leaf, rtol=1e-5, atol=1e-6)


def test_a_replica_whose_loss_is_not_finite_stops_and_the_others_go_on():
    rates = np.stack([RATES, RATES], axis=1)
    scales = np.stack([SCALES, SCALES], axis=1)
    scales[4, 1] = np.nan
    state, seen_EM3 = replicas(rates, scales)
    assert state.alive.tolist() == [True, False]
    healthy, expected = run()
    np.testing.assert_allclose(seen_EM3[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(seen_EM3[:4, 1], expected[:4], rtol=1e-5)
    assert np.isnan(seen_EM3[4:, 1]).all()
    stopped, _ = run(counts=(4,))
    for name, leaf in stopped.params.items():
        np.testing.assert_allclose(state.params[name][0], healthy.params[name], rtol=1e-5)
        np.testing.assert_allclose(state.params[name][1], leaf, rtol=1e-5, atol=1e-6)


def test_gradients_that_are_not_finite_stop_a_run_whose_loss_is():
    def root(trained, frozen, batch):
        return jnp.sqrt(jnp.square(trained["a"]).sum()) + frozen["offset"] * batch["scale"]

    state = start(ADAMW, {"a": jnp.zeros(3)})
    batches, rates = {"scale": jnp.ones(STEPS)}, jnp.asarray(RATES)
    state, trace = run_steps(root, ADAMW, state, FROZEN, batches, rates, STEPS)
    assert not state.alive
    assert trace.loss[0] == 2.0
    assert np.isnan(trace.gradient_norm[0])
    assert np.isnan(trace.loss[1:]).all()
    np.testing.assert_array_equal(state.params["a"], np.zeros(3))

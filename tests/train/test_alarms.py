"""Alarms: what is read against NumPy, faults planted in a growing run, what is done about them."""

import dataclasses

import growing_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from alarmed_run import LONG, OFF, UNSAVED, planting, run, scaled
from growing_run import OPTIONS, watching

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.alarm_readings import readings, spectral_norms
from jaxanatomy.train.alarms import ACT, STOP, WARN, Alarms, Watch
from jaxanatomy.train.callbacks import Every, Response
from jaxanatomy.train.metrics import Metrics, read_metrics
from jaxanatomy.train.optimiser import COLUMNS, with_layer_factors
from jaxanatomy.train.schedule import WarmupStableDecay

UNSCANNED = dataclasses.replace(UNSAVED, scan_layers=False)
# What a model of width 16 does in its first steps is no measure of anything.
DEAD = Alarms().dead
SPECTRAL = Alarms(every=2, spectral=(5.0, 20.0, 1000.0), **OFF)


class KilledError(Exception):
    pass


def test_spectral_norms_come_from_below_and_find_what_stands_out():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 40, 70))
    found, exact = spectral_norms(jnp.asarray(noise, jnp.float32)), np.linalg.norm(noise, 2, (1, 2))
    assert (found <= exact * (1 + 1e-5)).all()
    assert (found >= 0.9 * exact).all()
    spiked = noise + 30 * np.einsum("li,lo->lio", *(rng.normal(size=(3, n)) for n in (40, 70)))
    exact = np.linalg.norm(spiked, 2, (1, 2))
    np.testing.assert_allclose(spectral_norms(jnp.asarray(spiked, jnp.float32)), exact, rtol=1e-5)
    assert np.all(spectral_norms(jnp.zeros((2, 4, 3))) == 0)


@pytest.mark.parametrize(("options", "seeds"), [(UNSAVED, (0, 3)), (UNSCANNED, (0,))])
def test_readings_are_those_of_a_loop_over_layers(tmp_path, options, seeds):
    seen = []

    def check(state):
        found, change_ML = readings(state)
        update = jax.jit(state.setup.transformation(state.stage).update)
        rate = state.setup.rates()[state.step, 0]
        for at in range(len(seeds)):
            own = jax.tree.map(np.asarray, (state.params, state.moments))
            params, moments = (state.setup.model_of(each, at) for each in own)
            change, _ = update(jax.tree.map(np.zeros_like, params), moments, params)
            change = jax.tree.map(np.asarray, change)
            blocks, changes = (tree.unstack(each["layers"]) for each in (params, change))
            for name in ("q_proj", "down_proj", "mlp_norm"):
                arrays = [tree.get(block, name) for block in blocks]
                steps = [rate * np.linalg.norm(tree.get(block, name)) for block in changes]
                norms = [np.linalg.norm(each) for each in arrays]
                sizes = [np.abs(a).max() if a.ndim == 1 else np.linalg.norm(a, 2) for a in arrays]
                relative = np.array(steps) / np.maximum(norms, np.median(norms))
                np.testing.assert_allclose(found["update_size", name][at], relative, rtol=1e-4)
                ratio = np.array(sizes) / np.median(sizes)
                np.testing.assert_allclose(found["spectral", name][at], ratio, rtol=0.1)
            flat = [np.concatenate([*map(np.ravel, jax.tree.leaves(each))]) for each in changes]
            total = [rate * np.linalg.norm(each) for each in flat]
            np.testing.assert_allclose(change_ML[at], total, rtol=1e-4)
            neurons = [
                np.linalg.norm(tree.get(each, "gate_proj"), axis=0)
                * np.linalg.norm(tree.get(each, "up_proj"), axis=0)
                for each in blocks
            ]
            cv = np.array([each.std() / each.mean() for each in neurons])
            np.testing.assert_allclose(found["cv", ""][at], cv / np.median(cv), rtol=1e-4)
            share = [(each > each.mean() + 3 * each.std()).mean() for each in neurons]
            np.testing.assert_allclose(found["saturated", ""][at], share, rtol=1e-6)
        seen.append(state.step)

    callbacks = [planting(7, 2, "down_proj", 50.0), Every(8, check)]
    growing_run.make(seeds=seeds, options=options).train(tmp_path, callbacks)
    assert seen == [8]


def test_a_scaled_matrix_gives_alarm_once_and_again_at_a_higher_level(tmp_path):
    plants = planting(6, 2, "down_proj", 50.0), planting(9, 2, "down_proj", 100.0)
    emitted, counts, _ = run(tmp_path, SPECTRAL, *plants, seeds=(0, 3))
    found = {(step, a.seed, a.kind, a.layer, a.tensor, a.level) for step, _, a, _ in emitted}
    assert found == {
        (step, seed, "spectral", 2, "down_proj", level)
        for seed in (0, 1)
        for step, level in ((6, 2), (10, 3))
    }
    assert {action for *_, action in emitted} == {WARN}
    assert {step: count for step, count in counts.items() if any(count)} == {
        6: [1, 1],
        8: [1, 1],
        10: [1, 1],
    }


def test_kinds_that_need_peers_are_told_where_there_are_too_few_layers(tmp_path, caplog):
    """Two layers, then four: a line for the first stage, of the kinds that have levels."""
    with caplog.at_level("WARNING"):
        run(tmp_path, SPECTRAL)
    told = [each for each in caplog.messages if "are off" in each]
    assert told == ["alarms spectral are off in stage 0: they compare at least 3 layers, it has 2"]


def test_it_is_seen_where_a_model_has_grown_before_any_step(tmp_path):
    def plant(state):
        if state.at == 1 and state.steps is None:
            return Response(params=scaled(state.params, 1, "mlp_norm", 50.0))
        return None

    stages = [Stage(growing_run.config(4), steps) for steps in (5, 6)]
    plants = Every(1, plant, at_ends=True)
    emitted, *_ = run(tmp_path, dataclasses.replace(SPECTRAL, every=100), plants, stages=stages)
    first = min(step for step, *_ in emitted)
    assert first == 5
    assert {(a.layer, a.tensor) for _, _, a, _ in emitted} == {(1, "mlp_norm")}


def test_what_writes_nothing_is_dead_and_what_is_zero_at_first_is_not(tmp_path):
    """Layers that begin with zeros, as insert_zero has them, learn from the first step on."""
    alarms = Alarms(every=2, **dict(OFF, dead=(50.0, 500.0, 5e3)), spectral=())
    both = ("o_proj", "down_proj")

    def zeros(place, names=both):
        def plant(state):
            if place(state):
                params = state.params
                for name in names:
                    params = scaled(params, 3, name, 0.0)
                return Response(params=params)
            return None

        return Every(1, plant, at_ends=True)

    born = zeros(lambda state: state.at == 1 and state.steps is None)
    assert run(tmp_path / "born", alarms, born)[0] == []
    died = zeros(lambda state: state.at == 1 and state.steps is not None)
    emitted, *_ = run(tmp_path / "died", alarms, died)
    assert {(a.kind, a.layer, a.tensor, a.level) for _, _, a, _ in emitted} == {
        ("dead", 3, "write", 3)
    }
    # What attention alone does not write, the MLP does.
    half = zeros(lambda state: state.at == 1 and state.steps is not None, ("o_proj",))
    assert run(tmp_path / "half", alarms, half)[0] == []


class Waiting(WarmupStableDecay):
    """A schedule whose first five steps change nothing."""

    def rates(self, steps):
        return np.where(np.arange(steps) < 5, 0, super().rates(steps)).astype(np.float32)


def test_updates_have_not_grown_where_there_were_none_before(tmp_path):
    alarms = Alarms(every=2, spectral=(), **OFF | {"update_growth": (5.0, 15.0, 50.0)})
    waiting = Waiting(0.01, warmup=0.0, cooldown=0.0)
    emitted, counts, _ = run(tmp_path, alarms, stages=LONG, schedule=waiting)
    assert emitted == []
    assert len(counts) == 20


def test_a_seed_that_diverged_is_told_once_also_where_the_other_grows(tmp_path):
    def plant(state):
        if state.step != 3:
            return None
        one = scaled(state.params, 1, "down_proj", np.inf)
        return Response(
            params=jax.tree.map(lambda new, old: old.at[1].set(new[1]), one, state.params)
        )

    emitted, counts, _ = run(tmp_path, SPECTRAL, Every(1, plant), seeds=(0, 3))
    assert [(step, at, a.seed, a.kind) for step, at, a, _ in emitted] == [(4, 0, 1, "non_finite")]
    assert counts == {2: [0, 0], 4: [0, 1], 6: [0, 1], 8: [0, 1], 10: [0, 1]}


def test_a_seed_stops_and_the_other_goes_on(tmp_path):
    def plant(state):
        if state.step != 7:
            return None
        one = scaled(state.params, 2, "down_proj", 50.0)
        return Response(
            params=jax.tree.map(lambda new, old: old.at[1].set(new[1]), one, state.params)
        )

    points = []
    alarms = dataclasses.replace(SPECTRAL, actions=(WARN, STOP, STOP))
    watch = Watch(alarms, lambda *_: None).callbacks()
    with Metrics(tmp_path, "arm", (0, 3)) as metrics:
        log = Every(None, metrics.log)
        callbacks = [Every(1, plant), *watch, log, *watching(points.append)]
        growing_run.make(seeds=(0, 3)).train(tmp_path / "run", callbacks)
    assert points[-1].stopped == [None, 8]
    after = [each["reason"] for each in read_metrics(tmp_path) if each["loss"] is None]
    assert len(after) == 3
    assert all(each.startswith("alarm: spectral of down_proj in layer 2: ") for each in after)
    assert points[-1].reason[1].startswith("alarm: spectral of down_proj in layer 2: ")


def test_a_layer_in_alarm_learns_a_tenth_as_fast_until_it_ends(tmp_path):
    """Against the same run with the factors set by hand, and across a kill, bit for bit."""
    alarms = dataclasses.replace(SPECTRAL, actions=(ACT, ACT, ACT))
    plants = planting(6, 2, "down_proj", 50.0), planting(9, 2, "down_proj", 0.02)
    rates = {}

    def note(state):
        rate_NC = np.asarray(optax.tree.get(state.moments, "layer_rates"))
        assert (rate_NC == rate_NC[:, :1]).all()
        rates[state.step] = rate_NC[:, 0].tolist()

    _, _, params = run(tmp_path / "once", alarms, *plants, Every(1, note))
    assert rates[6] == [1, 1, 1, 1]  # the check of a step comes after the note
    np.testing.assert_allclose(rates[7], [1, 1, 0.1, 1])
    np.testing.assert_allclose(rates[9], [1, 1, 0.01, 1])
    np.testing.assert_allclose(rates[11], [1, 1, 0.1, 1])

    def by_hand(state):
        factor = {6: 0.1, 8: 0.01, 10: 0.1}.get(state.step)
        if factor is None:
            return None
        rate_NC = np.repeat([[1], [1], [factor], [1]], len(COLUMNS), axis=1)
        return Response(moments=with_layer_factors(state.moments, layer_rates=rate_NC))

    expected = growing_run.make(layer_factors=True).train(
        tmp_path / "hand", [*plants, Every(2, by_hand)]
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), params, expected
    )

    def die(steps):
        if steps.first >= 8:
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path / "twice", alarms, *plants, log=die, options=OPTIONS)
    again, _, resumed = run(tmp_path / "twice", alarms, *plants, options=OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, params, resumed)
    assert [(step, a.layer) for step, _, a, _ in again if step < 8] == []


def test_a_slowed_layer_is_not_dead_for_being_slow(tmp_path):
    """Else the alarm would keep itself alive; and a dead layer is not slowed."""
    six = [Stage(growing_run.config(6), 30)]
    alarms = Alarms(every=2, spectral=(5.0, 20.0, 1e3), actions=(ACT,) * 3, **OFF | {"dead": DEAD})
    plants = planting(6, 1, "down_proj", 50.0), planting(13, 1, "down_proj", 0.02)
    rates = {}

    def note(state):
        rates[state.step] = np.asarray(optax.tree.get(state.moments, "layer_rates"))[1, 0]

    emitted, *_ = run(tmp_path / "slowed", alarms, *plants, Every(1, note), stages=six)
    assert {alarm.kind for _, _, alarm, _ in emitted} == {"spectral"}
    assert rates[13] == pytest.approx(1e-3)
    assert rates[29] == 1
    rates.clear()
    killed = [planting(6, 1, name, 0.0) for name in ("o_proj", "down_proj")]
    emitted, *_ = run(tmp_path / "dead", alarms, *killed, Every(1, note), stages=six)
    assert ("dead", "write") in {(alarm.kind, alarm.tensor) for _, _, alarm, _ in emitted}
    assert set(rates.values()) == {1}


def test_factors_on_layers_multiply_updates_and_one_changes_nothing(tmp_path):
    plain = growing_run.make().train(tmp_path / "plain", watching())
    ones = growing_run.make(layer_factors=True).train(tmp_path / "ones", watching())
    # Of whole tensors: entries near 0 have the rounding of their sums, which is that of a program.
    for own, other in zip(*map(jax.tree.leaves, (plain, ones)), strict=True):
        assert np.linalg.norm(own - other) <= 1e-6 * np.linalg.norm(own)


def test_a_seed_that_diverges_is_an_alarm(tmp_path):
    plant = planting(7, 2, "down_proj", np.inf)
    emitted, *_ = run(tmp_path, SPECTRAL, plant)
    assert {(a.kind, a.level) for _, _, a, _ in emitted} == {("non_finite", 3)}


def test_no_alarms_are_no_callbacks():
    assert Watch(Alarms(every=0), print).callbacks() == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spectral": (10.0, 5.0, 30.0)}, "alarms.spectral must be three levels"),
        ({"loss_jump": (1.0,)}, "alarms.loss_jump must be three levels"),
        ({"dead": (0.0, 1.0, 2.0)}, "alarms.dead must be three levels"),
        ({"cv": (1.0, float("nan"), 2.0)}, "alarms.cv must be three levels"),
        ({"actions": (WARN, WARN, "shout")}, "unknown action of an alarm 'shout'"),
        ({"actions": (WARN,)}, "alarms.actions must be one for each of the three levels"),
        ({"every": -1}, "alarms.every must be"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Alarms(**fields)

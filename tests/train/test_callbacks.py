"""Functions that watch a run: what they see, when, and what they may do; data made in the step."""

import math
import types

import growing_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from growing_run import LENGTH, ROWS, VOCABULARY, Counting, watching

from jaxanatomy import tree
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import Every, Response
from jaxanatomy.train.evaluation import evaluating
from jaxanatomy.train.loss import batch_of
from jaxanatomy.train.points import DIVERGED, HeldOutRows


class KilledError(Exception):
    pass


def test_a_callback_sees_parameters_and_moments_after_the_steps_it_asked_for(tmp_path):
    """Across growth, at steps where nothing else is due; what it says is logged and done."""
    losses, scores = growing_run.plain_loop(0)
    seen, logs, points = [], {}, []
    score = jax.jit(growing_run.mean_loss, static_argnums=0)

    def watch(state):
        params = tree.with_layers(state.params, tree.unstack(state.params["layers"]))
        sources = growing_run.evaluation().values()
        found = [score(state.stage.config, params, *each.batches) for each in sources]
        np.testing.assert_allclose(np.average(found, weights=[1, 3]), scores[state.step - 1], 1e-5)
        seen.append((state.step, state.at, int(optax.tree.get(state.moments, "count"))))
        first = max(state.step - 3, 0 if state.at == 0 else 5)
        np.testing.assert_allclose(state.loss_EM[:, 0], losses[first : state.step], rtol=1e-5)
        stop = {0: "seen enough"} if state.step == 9 else {}
        return Response(log={"depth": len(params["layers"])}, stop=stop)

    def note(state):
        logs[state.step] = dict(state.log)

    callbacks = [Every(3, watch), Every(None, note), *watching(points.append)]
    growing_run.make().train(tmp_path, callbacks)
    assert seen == [(3, 0, 3), (6, 1, 6), (9, 1, 9)]
    assert {step: log for step, log in logs.items() if log} == {
        3: {"depth": 2},
        6: {"depth": 4},
        9: {"depth": 4},
    }
    last = points[-1]
    assert (last.step, last.reason, last.stopped) == (9, ["seen enough"], [9])


def test_one_seed_is_stopped_and_changed_and_the_other_goes_on(tmp_path):
    def interfere(state):
        if state.step == 4:
            zero = jax.tree.map(lambda leaf: leaf.at[1].set(0), state.params)
            return Response(stop={0: "enough"}, params=zero)
        return None

    steps = []
    callbacks = [Every(4, interfere), *watching(log=steps.append)]
    growing_run.make(seeds=(0, 3)).train(tmp_path, callbacks)
    loss_EM = np.concatenate([each.loss_EM for each in steps])
    assert np.isnan(loss_EM[4:, 0]).all()
    assert np.isfinite(loss_EM[:4]).all()
    np.testing.assert_allclose(loss_EM[4:, 1], np.log(growing_run.VOCABULARY), rtol=1e-2)


def test_what_a_callback_remembers_is_there_when_a_run_goes_on(tmp_path):
    def train(log):
        def count(state):
            memory["steps"] = [*memory.get("steps", []), state.step]

        memory = {}
        growing_run.make().train(tmp_path, [Every(2, count, memory=memory), *watching(log=log)])
        return memory

    def stop(steps):
        if steps.first >= 6:
            raise KilledError

    with pytest.raises(KilledError):
        train(stop)
    assert train(lambda steps: None) == {"steps": [2, 4, 6, 8, 10]}


class Numbers(Counting):
    """Only the numbers of the rows; the step makes them into batches."""

    def next(self):
        self.read += 1
        return np.arange(ROWS, dtype=np.uint32) + ROWS * np.uint32(self.read - 1)


def from_numbers(number_B):
    first_B1 = (7 * number_B[:, None] + 1) % VOCABULARY
    token_BT = (first_B1 + jnp.arange(LENGTH + 1)[None]) % (VOCABULARY - 1) + 1
    return batch_of(token_BT.astype(jnp.int32), pad=0)


class Made(Numbers):
    def next(self):
        return jax.tree.map(np.asarray, from_numbers(super().next()))


@pytest.mark.parametrize("seeds", [(0,), (0, 3)])
def test_data_made_inside_the_step_is_the_data_made_outside(tmp_path, seeds):
    losses = []
    for make_batch, stream in ((from_numbers, Numbers), (None, Made)):
        streams, steps = [stream(seed) for seed in seeds], []
        run = growing_run.make(seeds=seeds, streams=streams, make_batch=make_batch)
        run.train(tmp_path / stream.__name__, watching(log=steps.append))
        losses.append(np.concatenate([each.loss_EM for each in steps]))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][-1, 0] < losses[0][0, 0] - 0.1


def test_places_are_where_a_run_calls():
    """Against a walk step by step."""
    stages = [Stage(growing_run.config(1), steps) for steps in (5, 0, 7, 4)]
    for steps in (1, 2, 3, 4, 100):
        for at_ends in (False, True):
            for of_stage in (False, True):
                one = Every(steps, print, at_ends, of_stage)
                places, start = [], 0
                for at, stage in enumerate(stages):
                    end = start + stage.steps
                    places += [(at, start)] if at_ends and stage.steps else []
                    for step in range(start + 1, end + 1):
                        counted = step - start if of_stage else step
                        if counted % steps == 0 or (at_ends and step == end):
                            places.append((at, step))
                            assert one.due(step, start, step == end)
                        else:
                            assert not one.due(step, start, step == end)
                    start = end
                assert list(one.places(stages)) == places


def test_a_seed_whose_held_out_loss_is_not_finite_has_diverged():
    """Its last step may have had a finite loss; the parameters after it have none."""
    units = {"text": HeldOutRows(1.0, [2, 2], [[1.0, 3.0], [1.0, math.nan], [1.0, math.inf]])}
    state = types.SimpleNamespace(
        setup=None,
        stage=None,
        params=None,
        at=0,
        step=7,
        account=None,
        loss_EM=[],
        reasons=["", "", "stopped by the policy"],
        stopped=[None, None, 5],
    )
    found = []
    evaluating(lambda *_: units, found.append)(state)
    assert found[0].eval_nll[0] == 1.0
    assert found[0].reason == ["", DIVERGED, "stopped by the policy"]
    assert found[0].stopped == [None, 7, 5]

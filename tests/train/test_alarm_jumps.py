"""Jumps of the loss, the gradient and the update: told at their step, whenever checks are."""

import dataclasses

import growing_run
import numpy as np
import optax
import pytest
from alarmed_run import LONG, OFF, UNSAVED, planting, run
from growing_run import watching

from jaxanatomy.train.alarms import ACT, STOP, Alarms, Watch
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.schedule import WarmupStableDecay

JUMPING = Alarms(every=20, **dict(OFF, gradient_jump=(5.0, 1e5, 1e6)), spectral=())


def test_a_jump_between_checks_is_told_at_its_step_and_counted_at_the_next_check(tmp_path):
    assert run(tmp_path / "calm", JUMPING, stages=LONG)[0] == []
    plant = planting(33, 1, "down_proj", 1e4)
    emitted, counts, _ = run(tmp_path / "jump", JUMPING, plant, stages=LONG)
    assert [(step, a.kind, a.layer) for step, _, a, _ in emitted] == [(34, "gradient_jump", None)]
    assert counts == {20: [0], 40: [1]}


def test_a_jump_stops_a_run_at_its_step_and_slows_it_at_the_next_check(tmp_path):
    rates = {}

    def note(state):
        rates[state.step] = float(np.asarray(optax.tree.get(state.moments, "layer_rates")).max())

    plant = planting(33, 1, "down_proj", 1e4)
    acting = dataclasses.replace(JUMPING, every=10, actions=(ACT, STOP, STOP))
    points, watch = [], Watch(dataclasses.replace(acting, actions=(STOP,) * 3), lambda *_: None)
    callbacks = [plant, *watch.callbacks(), *watching(points.append)]
    growing_run.make(stages=LONG, options=UNSAVED).train(tmp_path / "stopped", callbacks)
    assert points[-1].stopped == [34]
    assert points[-1].reason[0].startswith("alarm: gradient_jump of gradient: ")
    longer = [dataclasses.replace(LONG[0], steps=52)]
    run(tmp_path / "slowed", acting, plant, Every(1, note), stages=longer)
    # A check comes after the note of its step; the next one ends what was slowed.
    assert [rates[step] for step in (34, 40, 41, 50, 51)] == pytest.approx([1, 1, 0.1, 0.1, 1])


class Spiked(WarmupStableDecay):
    """A schedule with steps at thirty times their rate."""

    at = (20,)

    def rates(self, steps):
        rate_E = super().rates(steps)
        rate_E[list(self.at)] *= 30
        return rate_E


class SpikedAgain(Spiked):
    at = (18, 28, 38, 48)


def test_a_spike_of_the_learning_rate_is_a_jump_of_the_update(tmp_path):
    alarms = dataclasses.replace(JUMPING, gradient_jump=(), update_jump=(10.0, 1e5, 1e6))
    flat = {"peak": 0.01, "warmup": 0.0, "cooldown": 0.0}
    calm = run(tmp_path / "calm", alarms, stages=LONG, schedule=WarmupStableDecay(**flat))
    assert calm[0] == []
    emitted, *_ = run(tmp_path / "spiked", alarms, stages=LONG, schedule=Spiked(**flat))
    step, _, alarm, _ = emitted[0]  # told where the call of step 21 ends
    assert (step, alarm.kind, alarm.tensor) == (23, "update_jump", "update")


def test_a_jump_is_told_again_in_the_next_interval_and_once_in_one(tmp_path):
    alarms = dataclasses.replace(JUMPING, gradient_jump=(), update_jump=(3.0, 1e5, 1e6))
    options = dataclasses.replace(UNSAVED, steps_per_call=1)
    schedule, stages = (
        SpikedAgain(0.01, warmup=0.0, cooldown=0.0),
        [dataclasses.replace(LONG[0], steps=70)],
    )
    emitted, counts, _ = run(tmp_path, alarms, stages=stages, schedule=schedule, options=options)
    assert [(step, a.kind) for step, _, a, _ in emitted] == [
        (step, "update_jump") for step in (19, 29, 49)
    ]
    assert counts == {20: [1], 40: [1], 60: [1]}

"""A small growing run that is watched by alarms, and faults to plant in it."""

import dataclasses

import growing_run
import numpy as np
from growing_run import OPTIONS, watching

from jaxanatomy import tree
from jaxanatomy.train.alarm_readings import KINDS
from jaxanatomy.train.alarms import Watch
from jaxanatomy.train.callbacks import Every, Response

UNSAVED = dataclasses.replace(OPTIONS, checkpoint_every=100)
OFF = dict.fromkeys(set(KINDS) - {"spectral"}, ())
LONG = [dataclasses.replace(growing_run.STAGES[0], steps=40)]


def scaled(params, layer, name, factor):
    """One array of one layer multiplied, however layers are stacked; all seeds."""
    first, stacks = 0, []
    for stack in params["layers"]:
        leaf = tree.get(stack, name)
        axis = leaf.ndim - (1 if name.endswith("norm") else 2) - 1
        own = np.arange(leaf.shape[axis]) + first == layer
        shape = (*[1] * axis, -1, *[1] * (leaf.ndim - axis - 1))
        factor_L = np.where(own, factor, 1.0).astype(np.float32).reshape(shape)
        stacks.append(tree.replace(stack, {name: leaf * factor_L}))
        first += leaf.shape[axis]
    return tree.with_layers(params, stacks)


def planting(step, layer, name, factor):
    """A callback that multiplies a tensor after a step."""

    def plant(state):
        if state.step == step and state.steps is not None:
            return Response(params=scaled(state.params, layer, name, factor))
        return None

    return Every(1, plant)


def run(folder, alarms, *more, log=lambda steps: None, **kwargs):
    """(what was emitted, logged counts, parameters) of a run that is watched."""
    emitted, counts = [], {}

    def emit(state, alarm, action):
        emitted.append((state.step, state.at, alarm, action))

    def note(state):
        if "alarms" in state.log:
            counts[state.step] = state.log["alarms"]

    callbacks = [*more, *Watch(alarms, emit).callbacks(), Every(None, note), *watching(log=log)]
    kwargs = {"layer_factors": alarms.acts, "options": UNSAVED} | kwargs
    params = growing_run.make(**kwargs).train(folder, callbacks)
    return emitted, counts, params

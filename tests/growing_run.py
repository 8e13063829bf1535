"""A small model that grows while it trains: shared by tests and by the scripts they start."""

import dataclasses
import os
import signal
from pathlib import Path

import jax
import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.depth_arms import DepthStage
from jaxanatomy.growth.maps import GrowthMap
from jaxanatomy.train.loop import adamw
from jaxanatomy.train.loss import batch_of
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.pretraining import Pretraining
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import HeldOut, PretrainOptions, Setup

VOCABULARY, ROWS, LENGTH = 61, 8, 12
OPTIONS = PretrainOptions(steps_per_call=3, eval_every=4, checkpoint_every=2)


def config(num_layers):
    return ModelConfig.uniform(
        num_layers, 2, 1, 32, vocab_size=VOCABULARY, hidden_size=16, head_dim=8
    )


STAGES = (
    DepthStage(config(2), 5),
    DepthStage(config(4), 6, GrowthMap((0, 1, 0, 1))),
)
SHORT = tuple(dataclasses.replace(stage, steps=2) for stage in STAGES)
SCHEDULE = WarmupStableDecay(0.01, warmup=0.2, cooldown=0.3)


def tokens(seed, step, rows=ROWS):
    """Sequences that can be learnt: each token is the one before plus a step of the row."""
    rng = np.random.default_rng((seed, step))
    first, stride = rng.integers(1, VOCABULARY, rows), rng.integers(1, 4, rows)
    grid = first[:, None] + stride[:, None] * np.arange(LENGTH + 1)
    return (grid % (VOCABULARY - 1) + 1).astype(np.int32)


class Counting:
    """A stream whose state is the number of batches that were read."""

    def __init__(self, seed, part=slice(None)):
        self.seed, self.part, self.read = seed, part, 0

    def next(self):
        self.read += 1
        batch = batch_of(tokens(self.seed, self.read - 1)[self.part], pad=0)
        return jax.tree.map(np.asarray, batch)

    def state(self):
        return {"read": self.read}

    def restore(self, state):
        self.read = state["read"]


def evaluation(part=slice(None)):
    batches = [batch_of(tokens(999, step)[part], pad=0) for step in range(2)]
    first, second = (jax.tree.map(np.asarray, batch) for batch in batches)
    return {"one": HeldOut(0.25, [first]), "other": HeldOut(0.75, [second])}


def pretraining(
    seeds=(0,),
    options=OPTIONS,
    placement=None,
    stages=STAGES,
    part=slice(None),
    schedule=SCHEDULE,
    learning_rates=(),
):
    placement = placement or Placement.over(jax.devices()[:1])
    setup = Setup(stages, adamw(), schedule, seeds, placement, options, learning_rates)
    streams = [Counting(100 + seed, part) for seed in seeds]
    return Pretraining(setup, streams, evaluation(part))


def train(folder, stop_after=None, **kwargs):
    """Points and losses of a run; `stop_after` kills the process at that step."""
    points, losses = [], []

    def log(steps):
        losses.extend((steps.first + at, *row) for at, row in enumerate(steps.loss_EM.tolist()))
        if stop_after is not None and losses[-1][0] + 1 >= stop_after:
            os.kill(os.getpid(), signal.SIGKILL)

    params = pretraining(**kwargs).train(Path(folder), points.append, log)
    # Times differ from run to run.
    return params, [dataclasses.replace(point, seconds=0.0) for point in points], losses

"""A small model that grows while it trains: shared by tests and by the scripts they start."""

import dataclasses
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.maps import GrowthMap
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.evaluation import HeldOut, evaluating, on_text
from jaxanatomy.train.loss import batch_of
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup, TrainOptions
from jaxanatomy.train.trainer import Trainer

VOCABULARY, ROWS, LENGTH = 61, 8, 12
EVAL_EVERY, ADAMW = 4, Optimiser()
OPTIONS = TrainOptions(steps_per_call=3, checkpoint_every=2)


def config(num_layers):
    return ModelConfig.uniform(
        num_layers, 2, 1, 32, vocab_size=VOCABULARY, hidden_size=16, head_dim=8
    )


STAGES = (
    Stage(config(2), 5),
    Stage(config(4), 6, GrowthMap((0, 1, 0, 1))),
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


def make(
    seeds=(0,),
    options=OPTIONS,
    placement=None,
    stages=STAGES,
    part=slice(None),
    schedule=SCHEDULE,
    learning_rates=(),
    streams=None,
    optimiser=ADAMW,
    **more,
):
    placement = placement or Placement.over(jax.devices()[:1])
    setup = Setup(stages, optimiser, schedule, seeds, placement, options, learning_rates, **more)
    if streams is None:
        streams = [Counting(100 + seed, part) for seed in seeds]
    return Trainer(setup, streams)


def token_losses(config, params, batch):
    scores = model.forward(config, params, batch.token_BT)
    return -jnp.take_along_axis(
        jax.nn.log_softmax(scores), jnp.asarray(batch.target_BT)[..., None], axis=-1
    )


def mean_loss(config, params, batch):
    return token_losses(config, params, batch).mean()


def is_model(node):
    return isinstance(node, dict) and "layers" in node


def gather(node, sources):
    return tree.with_layers(node, [node["layers"][at] for at in sources])


def plain_loop(seed):
    """Losses before each step and NLL after each: optax, jax.grad, lists and a gather."""
    total = sum(stage.steps for stage in STAGES)
    rates = SCHEDULE.rates(total)
    stream = Counting(100 + seed)
    params = jax.jit(model.init, static_argnums=0)(STAGES[0].config, jax.random.key(seed))
    score = jax.jit(mean_loss, static_argnums=0)
    optimiser = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(learning_rate, weight_decay=0.01)
        )
    )(0.0)
    moments, losses, scores, step = jax.jit(optimiser.init)(params), [], [], 0
    for stage in STAGES:
        if stage.growth:
            sources = stage.growth.sources
            moments = jax.tree.map(
                lambda node, sources=sources: gather(node, sources) if is_model(node) else node,
                moments,
                is_leaf=is_model,
            )
            params = gather(params, sources)
        slope = jax.jit(jax.value_and_grad(mean_loss, argnums=1), static_argnums=0)
        for _ in range(stage.steps):
            loss, gradient = slope(stage.config, params, stream.next())
            moments.hyperparams["learning_rate"] = jnp.asarray(rates[step])
            update, moments = jax.jit(optimiser.update)(gradient, moments, params)
            params = optax.apply_updates(params, update)
            losses.append(float(loss))
            sources = evaluation().values()
            both = [score(stage.config, params, *each.batches) for each in sources]
            scores.append(float(np.average(both, weights=[each.share for each in sources])))
            step += 1
    return losses, scores


def watching(emit=lambda point: None, log=lambda steps: None, part=slice(None)):
    """Callbacks of a run: each chunk's steps, and evaluations as points."""
    return [
        Every(None, lambda state: log(state.steps)),
        Every(EVAL_EVERY, evaluating(on_text(evaluation(part)), emit), at_ends=True),
    ]


def train(folder, stop_after=None, part=slice(None), **kwargs):
    """Points and losses of a run; `stop_after` kills the process at that step."""
    points, losses = [], []

    def log(steps):
        losses.extend((steps.first + at, *row) for at, row in enumerate(steps.loss_EM.tolist()))
        if stop_after is not None and losses[-1][0] + 1 >= stop_after:
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks = watching(points.append, log, part)
    params = make(part=part, **kwargs).train(Path(folder), callbacks)
    return params, [without_times(point) for point in points], losses


def without_times(point):
    """A point as it is in every run."""
    account = dataclasses.replace(point.account, seconds=0.0, wall_seconds=0.0)
    return dataclasses.replace(point, account=account)

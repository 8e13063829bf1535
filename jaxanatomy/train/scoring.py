"""Which questions of a multiple-choice test a model answers."""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.choices import Scoring
from jaxanatomy.train.loss import Batch, LanguageModelLoss
from jaxanatomy.train.setup import Setup


def answers(setup: Setup, config: ModelConfig, params: tree.Params, scoring: Scoring) -> np.ndarray:
    """Whether each question is answered, by the choice of the highest summed log-probability.

    The rows of a batch are scored in as many parts as they are trained in, each device its own.

    Args:
      setup: What was trained.
      config: The architecture of the stage at whose end.
      params: Parameters, with an axis M if there are several seeds.
      scoring: The questions with their choices, all of them in every process.

    Returns:
      right_MQ, bool.
    """
    loss, whole = setup.loss(config), setup.placement.whole
    with setup.precision():
        found = [
            np.asarray(target_nll(loss, params, part, whole, setup.replicas))
            for batch in scoring.batches
            for part in _parts(setup, batch)
        ]
    nll_MNBT = np.concatenate(found, axis=-2).reshape(len(setup.seeds), *scoring.item_NBT.shape)
    return np.stack([scoring.right(nll_NBT) for nll_NBT in nll_MNBT])


@functools.partial(jax.jit, static_argnames=("loss", "whole", "replicas"))
def target_nll(
    loss: LanguageModelLoss,
    params: tree.Params,
    batch: Batch,
    whole: jax.sharding.Sharding,
    replicas: bool = False,
) -> jax.Array:
    """The loss of each target, [B, T] or [M, B, T].

    Args:
      loss: Of the architecture.
      params: Parameters, with an axis M if there are replicas.
      batch: Rows that all replicas are scored on.
      whole: Where the result lies: on every device, so that every process can read it.
      replicas: Whether there are.
    """
    nll = jax.vmap(loss.nll, in_axes=(0, None)) if replicas else loss.nll
    return jax.lax.with_sharding_constraint(nll(params, batch), whole)


def _parts(setup: Setup, batch: Batch) -> Iterator[Batch]:
    """Parts of a batch's rows, shared out over the devices."""
    lies = setup.placement.row_sharding()

    def put(leaf: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, lies, lambda index: leaf[index])

    for part in zip(
        *(np.split(leaf, setup.options.grad_accum_steps) for leaf in batch), strict=True
    ):
        yield Batch(*map(put, part))

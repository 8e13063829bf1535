"""Which questions of a multiple-choice test a model answers."""

import functools

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.data.choices import Scoring
from jaxanatomy.train.loss import LanguageModelLoss


def answers(
    loss: LanguageModelLoss, params: tree.Params, scoring: Scoring, replicas: bool = False
) -> np.ndarray:
    """Whether each question is answered, by the choice of the highest summed log-probability.

    Args:
      loss: Of the architecture.
      params: Parameters, with an axis M if there are several seeds.
      scoring: The questions with their choices.
      replicas: Whether there are.

    Returns:
      right_MQ, bool; M is 1 without replicas.
    """
    found = [np.asarray(_nll(loss, params, batch, replicas)) for batch in scoring.batches]
    if not replicas:
        return scoring.right(found)[None]
    return np.stack([scoring.right(list(nll_NBT)) for nll_NBT in np.stack(found, axis=1)])


@functools.partial(jax.jit, static_argnames=("loss", "replicas"))
def _nll(loss: LanguageModelLoss, params: tree.Params, batch, replicas: bool) -> jax.Array:
    """The loss of each target, [B, T] or [M, B, T]."""
    if replicas:
        return jax.vmap(loss.nll, in_axes=(0, None))(params, batch)
    return loss.nll(params, batch)

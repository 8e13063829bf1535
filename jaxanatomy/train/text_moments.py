"""Adam's moments for a checkpoint that came without them: gradients of a text at frozen weights."""

import itertools
from collections.abc import Iterable

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.momentum import probed_moments
from jaxanatomy.train.loss import Batch, LanguageModelLoss, nothing_frozen


def text_moments(
    config: ModelConfig, params: tree.Params, batches: Iterable[TextBatch], updates: int
) -> tuple[tree.Params, tree.Params]:
    """The moments after an update of each batch, over and over until there are enough.

    Args:
      config: The architecture.
      params: The weights, one block for each layer.
      batches: Of a probe text.
      updates: How many.

    Returns:
      (first, second), layers stacked.

    Raises:
      InputError: There is no batch.
    """
    batches = [_grid(batch) for batch in batches]
    if not batches:
        raise InputError("a text without a prediction has no gradient; take a longer one")
    stacked = tree.with_layers(params, tree.stack(params["layers"]))
    slope, frozen = jax.jit(jax.grad(LanguageModelLoss(config))), nothing_frozen(stacked)
    taken = itertools.islice(itertools.cycle(batches), updates)
    return probed_moments((slope(stacked, frozen, batch) for batch in taken), stacked)


def _grid(batch: TextBatch) -> Batch:
    """Predictions by their places in the rows."""
    there_P = batch.document_P >= 0
    place_N, shape = batch.predict_P[there_P], batch.token_RT.shape
    target_N, weight_N = np.zeros(batch.token_RT.size, np.int32), np.zeros(batch.token_RT.size)
    target_N[place_N], weight_N[place_N] = batch.target_P[there_P], 1.0
    grids = target_N.reshape(shape), weight_N.reshape(shape).astype(np.float32)
    return Batch(batch.token_RT, *grids, batch.position_RT, batch.segment_RT)

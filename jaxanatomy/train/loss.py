"""The loss of a language model, and which of its parameters it is a function of.

Parameters that train and parameters that do not are two trees of the same form, None
where a leaf is in the other one; `merge` puts them together inside the loss. So a gradient
with respect to the first does no work for the second: no weight gradients of frozen layers,
and no backward at all below the lowest layer that trains.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.reprs import repr_in_one_line


class Batch(NamedTuple):
    """Tokens to learn from, or to score.

    Attributes:
      token_BT: Token ids.
      target_BT: The token to be predicted at each position.
      weight_BT: Weight of each prediction; 0 where there is none.
      position_BT: Position in its document; None: 0 .. T-1.
      segment_BT: Attention stays within equal segments; None: all equal.
    """

    token_BT: jax.Array
    target_BT: jax.Array
    weight_BT: jax.Array
    position_BT: jax.Array | None = None
    segment_BT: jax.Array | None = None

    __repr__ = repr_in_one_line


def batch_of(token_BT: jax.Array, pad: int) -> Batch:
    """Every next token of rows of one document each, padded at their ends.

    Args:
      token_BT: Token ids; rows are causal, so padding needs no mask.
      pad: The id of padding, which is never predicted.
    """
    target_BT = jnp.asarray(token_BT)[:, 1:]
    weight_BT = (target_BT != pad).astype(jnp.float32)
    return Batch(jnp.asarray(token_BT)[:, :-1], target_BT, weight_BT)


def packed_batch(token_BRT: np.ndarray, pad: int, max_predictions: int) -> Batch:
    """The same predictions as of `batch_of`, R documents after one another in each row.

    Padding costs as much as tokens do, and short documents are padded a lot.

    Args:
      token_BRT: Token ids of R documents for each row, padded at their ends.
      pad: The id of padding.
      max_predictions: Predictions that a row has room for.

    Raises:
      ValueError: A row has more.
    """
    B, R, _ = token_BRT.shape
    there_BRT = token_BRT[..., 1:] != pad
    counts_B = there_BRT.sum(axis=(1, 2))
    if counts_B.max() > max_predictions:
        raise ValueError(
            f"rows have room for {max_predictions} predictions; one has {counts_B.max()}"
        )
    b, r, t = np.nonzero(there_BRT)
    place = np.arange(len(b)) - (counts_B.cumsum() - counts_B)[b]

    def put(values: np.ndarray | float, empty: float, dtype: type = np.int32) -> jax.Array:
        row_BT = np.full((B, max_predictions), empty, dtype)
        row_BT[b, place] = values
        return jnp.asarray(row_BT)

    return Batch(
        token_BT=put(token_BRT[b, r, t], pad),
        target_BT=put(token_BRT[b, r, t + 1], pad),
        weight_BT=put(1.0, 0.0, np.float32),
        position_BT=put(t, 0),
        segment_BT=put(r, R),
    )


@dataclasses.dataclass(frozen=True)
class LanguageModelLoss:
    """Mean negative log-likelihood in nats: `loss(trained, frozen, batch)`.

    Equal values hash alike, so that one compiled program serves all of them.

    Attributes:
      config: The architecture, with the layers that are in the model.
      dtype: Of the operands of products.
      remat: What a layer keeps for its gradient, one of `model.REMAT`.
      gather: See `model.hidden`.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    gather: Callable[[tree.Params], tree.Params] | None = None

    def __call__(self, trained: tree.Params, frozen: tree.Params, batch: Batch) -> jax.Array:
        nll_BT = self.nll(merge(trained, frozen), batch)
        return (nll_BT * batch.weight_BT).sum() / self.weight(batch)

    def weight(self, batch: Batch) -> jax.Array:
        """What a batch counts in a mean over several."""
        return batch.weight_BT.sum()

    def nll(self, params: tree.Params, batch: Batch) -> jax.Array:
        """Negative log-likelihood of each target, [B, T]."""
        if self.gather is not None:
            ends = {name: part for name, part in params.items() if name != "layers"}
            params = {**self.gather(ends), "layers": params["layers"]}
        x_BTD = model.hidden(
            self.config,
            params,
            batch.token_BT,
            batch.position_BT,
            batch.segment_BT,
            dtype=self.dtype,
            remat=self.remat,
            gather=self.gather,
        )
        h_BTD = model.final_norm(self.config, params, x_BTD)
        nll_P = model.token_nll(
            h_BTD.reshape(-1, self.config.hidden_size),
            tree.unembedding(params),
            batch.target_BT.reshape(-1),
            self.dtype,
        )
        return nll_P.reshape(batch.target_BT.shape)


def partition(
    blocks: Mapping[int, tree.BlockParams],
    ends: tree.Params,
    train: Collection[int],
    train_ends: bool,
) -> tuple[tree.Params, tree.Params]:
    """Splits a model by what trains, its layers as `model.hidden` takes them.

    Args:
      blocks: The layers that are in the model, by number.
      ends: The parameters that are no layers: embedding, head and final norm.
      train: The layers that train.
      train_ends: Whether the ends do.

    Returns:
      (trained, frozen): two trees of parameters, each with None for what the other has.
      Every layer is a stack of one: a loop over a stack of few copies their weights and
      gradients in and out, which costs a third of a step on a CPU.
    """
    trained, frozen = [], []
    for layer in sorted(blocks):
        (stack,) = tree.stack_each([blocks[layer]])
        trained.append(stack if layer in train else None)
        frozen.append(None if layer in train else stack)
    nothing = dict.fromkeys(ends)
    return (
        {**(ends if train_ends else nothing), "layers": tuple(trained)},
        {**(nothing if train_ends else ends), "layers": tuple(frozen)},
    )


def nothing_frozen(params: tree.Params) -> tree.Params:
    """The frozen half of a model of which everything trains, its layers stacked."""
    return dict.fromkeys(params) | {"layers": (None,) * len(params["layers"])}


def merge(trained: tree.Params, frozen: tree.Params) -> tree.Params:
    """The inverse of `partition`: one tree of parameters, its layers stacked."""
    layers = map(_either, trained["layers"], frozen["layers"])
    ends = {name: _either(trained[name], frozen[name]) for name in trained if name != "layers"}
    return {**ends, "layers": tuple(layers)}


def _either(one: tree.Params | None, other: tree.Params | None) -> tree.Params:
    return other if one is None else one

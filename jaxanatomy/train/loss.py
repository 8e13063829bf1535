"""The loss of a language model, and which of its parameters it is a function of.

Parameters that train and parameters that do not are two trees of the same form, None
where a leaf is in the other one; `merge` puts them together inside the loss. So a gradient
with respect to the first does no work for the second: no weight gradients of frozen layers,
and no backward at all below the lowest layer that trains.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.sequences import TokenBatch as Batch


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
    """The predictions of `batch_of`, R documents after one another in each row; on the host.

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

    def put(values: np.ndarray | float, empty: float, dtype: type = np.int32) -> np.ndarray:
        row_BT = np.full((B, max_predictions), empty, dtype)
        row_BT[b, place] = values
        return row_BT

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

    def inputs(self, batch: Batch) -> tuple[jax.Array, ...]:
        """What the model reads: tokens, positions and segments, [B, T] each."""
        return batch.token_BT, batch.position_BT, batch.segment_BT

    def nll(self, params: tree.Params, batch: Batch) -> jax.Array:
        """Negative log-likelihood of each target, [B, T]."""
        h_BTD, unembedding_VD = before_head(self, params, *self.inputs(batch))
        nll_P = model.token_nll(
            h_BTD.reshape(-1, self.config.hidden_size),
            unembedding_VD,
            batch.target_BT.reshape(-1),
            self.dtype,
        )
        return nll_P.reshape(batch.target_BT.shape)


def before_head(
    objective: Any,
    params: tree.Params,
    token_BT: jax.Array,
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """What the head of a model gets, [B, T, D], and its matrix, [V, D].

    Args:
      objective: With `config`, `dtype`, `remat` and `gather`, as `LanguageModelLoss` has them.
      params: The parameters.
      token_BT: See `model.hidden`, and so the others.
      position_BT: Likewise.
      segment_BT: Likewise.
    """
    if objective.gather is not None:
        ends = {name: part for name, part in params.items() if name != "layers"}
        params = {**objective.gather(ends), "layers": params["layers"]}
    x_BTD = model.hidden(
        objective.config,
        params,
        token_BT,
        position_BT,
        segment_BT,
        dtype=objective.dtype,
        remat=objective.remat,
        gather=objective.gather,
    )
    return model.final_norm(objective.config, params, x_BTD), tree.unembedding(params)


def split(
    params: tree.Params, layers: Sequence[bool], ends: bool
) -> tuple[tree.Params, tree.Params]:
    """Splits a model by what trains.

    Args:
      params: Parameters, layers stacked; or anything of their form.
      layers: Whether each stack trains.
      ends: Whether the parameters do that are no layers: embedding, head and final norm.

    Returns:
      (trained, frozen): two trees of parameters, each with None for what the other has.
    """

    def half(wanted: bool) -> tree.Params:
        own = {name: part if ends is wanted else None for name, part in params.items()}
        stacks = zip(params["layers"], layers, strict=True)
        own["layers"] = tuple(stack if on is wanted else None for stack, on in stacks)
        return own

    return half(True), half(False)


def nothing_frozen(params: tree.Params) -> tree.Params:
    """The frozen half of a model of which everything trains, its layers stacked."""
    return split(params, [True] * len(params["layers"]), True)[1]


def merge(trained: tree.Params, frozen: tree.Params) -> tree.Params:
    """The inverse of `split`: one tree of parameters, its layers stacked."""

    def either(one: Any, other: Any) -> Any:
        return other if one is None else one

    whole = {name: either(trained[name], frozen[name]) for name in trained}
    return whole | {"layers": tuple(map(either, trained["layers"], frozen["layers"]))}

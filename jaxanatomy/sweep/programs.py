"""The compiled parts of a sweep, as pure functions of one device's arrays.

Everything that is not weights lives in a pool of streams, `pool_XRTD`: X slots, each
the residual stream of R rows of T packed tokens. In a padded call,
padding reads slot 0 and writes to slot X, which is dropped.

Text arrays are arguments of every program, never constants that a program closes over, so
that one compiled program serves all batches of a text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.model import rope
from jaxanatomy.sweep.plan import Gate, Mixture
from jaxanatomy.sweep.reading import MeasureFunction

Points = dict[str, jax.Array]  # by name, [C, R, T, D], attention [C, R, H, T, S]


class TextArrays(NamedTuple):
    """What the programs need of one batch of text, on one device."""

    cos_RTd: jax.Array
    sin_RTd: jax.Array
    bias_RTS: jax.Array
    position_RT: jax.Array
    segment_RT: jax.Array
    predict_P: jax.Array
    target_P: jax.Array
    token_RT: jax.Array


class Context(NamedTuple):
    """What a measure may use besides the streams.

    Attributes:
      config: The architecture.
      dtype: Of the operands of products.
      head: Parameters without layers: `embed`, `final_norm`, `unembed`.
      text: The text of the streams.
      params: The measure's own parameters at the layer that is read (`reading.Parametric`).
    """

    config: ModelConfig
    dtype: jnp.dtype
    head: tree.Params
    text: TextArrays
    params: tree.PyTree = None


def prepare(
    config: ModelConfig,
    slots: int,
    head: tree.Params,
    token_RT: jax.Array,
    position_RT: jax.Array,
    segment_RT: jax.Array,
    predict_P: jax.Array,
    target_P: jax.Array,
    end_RT: jax.Array | None = None,
) -> tuple[jax.Array, TextArrays]:
    """The pool with the embedded text in slot 0, and the text arrays."""
    cos_RTd, sin_RTd = rope.tables(config, position_RT)
    bias_RTS = model.attention_bias(segment_RT) if end_RT is None else model.tree_bias(end_RT)
    x_RTD = model.embed(head, token_RT)
    pool_XRTD = jnp.zeros((slots, *x_RTD.shape), x_RTD.dtype).at[0].set(x_RTD)
    text = TextArrays(
        cos_RTd, sin_RTd, bias_RTS, position_RT, segment_RT, predict_P, target_P, token_RT
    )
    return pool_XRTD, text


def apply_layer(
    config: ModelConfig,
    shape: LayerShape,
    dtype: jnp.dtype,
    params: tree.BlockParams,
    pool_XRTD: jax.Array,
    index_3C: jax.Array,
    gates: jax.Array,
    text: TextArrays,
    points: Sequence[str] = (),
) -> tuple[jax.Array, Points]:
    """Takes C streams through one layer; also gives what stands at some of its points.

    Args:
      config: The architecture.
      shape: The layer's shape.
      dtype: Of the operands of products.
      params: The layer's weights, edited or not.
      pool_XRTD: All streams.
      index_3C: For each stream the slot read, the slot written, and the row of `gates`.
      gates: Factors on sublayer outputs, [gates, R, T, A].
      text: The text of the streams.
    """
    source_C, destination_C, gate_C = index_3C
    gate_CRTA = _head_columns(gates[gate_C], shape.num_heads)
    y_CRTD, found = _apply(
        config, shape, dtype, params, _streams(pool_XRTD, source_C), text, gate_CRTA, points
    )
    return pool_XRTD.at[destination_C].set(y_CRTD, mode="drop"), found


def apply_block(
    config: ModelConfig,
    shape: LayerShape,
    dtype: jnp.dtype,
    params: tree.BlockParams,
    x_CRTD: jax.Array,
    text: TextArrays,
    gate_CRTA: jax.Array | None = None,
) -> jax.Array:
    """C streams after one layer, [C, R, T, D]; arguments as `apply_layer`."""
    return _apply(config, shape, dtype, params, x_CRTD, text, gate_CRTA, ())[0]


def _apply(config, shape, dtype, params, x_CRTD, text, gate_CRTA, points):
    C, R, T, D = x_CRTD.shape
    gate_BTA = None if gate_CRTA is None else gate_CRTA.reshape(C * R, T, -1)
    cos, sin, bias = (_for_streams(a, C) for a in (text.cos_RTd, text.sin_RTd, text.bias_RTS))
    block = model.Block(shape, config.head_dim, config.norm_epsilon, dtype)
    inputs = (x_CRTD.reshape(C * R, T, D), (cos, sin), bias, gate_BTA)
    y_BTD, found = model.apply_with_points(block, params, *inputs, points=points)
    found = {name: value.reshape(C, R, *value.shape[1:]) for name, value in found.items()}
    return y_BTD.reshape(C, R, T, D), found


def combine(
    pool_XRTD: jax.Array, index: jax.Array, coefficients: jax.Array, masks: jax.Array
) -> jax.Array:
    """Linear combinations of K streams each where their masks select, elsewhere the first.

    Args:
      pool_XRTD: All streams.
      index: For each of C combinations the slots of the K streams, the slot written, and
        the row of the two tables, [K + 2, C].
      coefficients: One for each stream, [mixtures, K or more].
      masks: Selected positions, bool [mixtures, R, T].
    """
    *source_KC, destination_C, mixture_C = index
    weights = coefficients[mixture_C][..., None, None, None]
    streams = [pool_XRTD[source_C] for source_C in source_KC]
    total = sum(_weighted(weights[:, k], x_CRTD) for k, x_CRTD in enumerate(streams))
    mixed = jnp.where(masks[mixture_C][..., None], total, streams[0])
    return pool_XRTD.at[destination_C].set(mixed, mode="drop")


def _streams(pool_XRTD: jax.Array, source_C: jax.Array) -> jax.Array:
    """The streams in some slots, [C, R, T, D].

    One alone is read twice: of one the compiler makes a slice that every user reads by itself, and
    where one of them is a result, copies the whole pool twice before it is written.
    """
    if len(source_C) > 1:
        return pool_XRTD[source_C]
    return pool_XRTD[jnp.concatenate([source_C, source_C])][:1]


def _weighted(weight: jax.Array, x: jax.Array) -> jax.Array:
    """Nothing where the weight is 0, whatever stands there: 0 times infinity is no number."""
    return jnp.where(weight == 0, 0.0, weight * x)


def read(
    config: ModelConfig,
    dtype: jnp.dtype,
    measure: MeasureFunction,
    head: tree.Params,
    pool_XRTD: jax.Array,
    source_C: jax.Array,
    text: TextArrays,
    *summary: Any,
) -> Any:
    """A measure of C streams; each leaf of the result is [C, ...].

    What the other variant's `summarise` returned, if the measure has it, comes after the
    streams, once for all C.
    """
    return measure((pool_XRTD[source_C], *summary), Context(config, dtype, head, text))


def read_inside(
    config: ModelConfig,
    dtype: jnp.dtype,
    measure: MeasureFunction,
    head: tree.Params,
    points: tuple[jax.Array, ...],
    text: TextArrays,
    params: tree.PyTree = None,
    *summary: Any,
) -> Any:
    """A measure of what stands at some points inside a layer for C streams; else as `read`."""
    return measure((*points, *summary), Context(config, dtype, head, text, params))


def summarise(
    config: ModelConfig,
    dtype: jnp.dtype,
    function: MeasureFunction,
    head: tree.Params,
    pool_XRTD: jax.Array,
    source_1: jax.Array,
    text: TextArrays,
    before: Any,
) -> Any:
    """What a measure needs of another variant's end; where this lane only pads, `before`."""
    summary = read(config, dtype, function, head, pool_XRTD, source_1, text)
    runs = source_1[0] < len(pool_XRTD)
    return jax.tree.map(lambda new, old: jnp.where(runs, new, old), summary, before)


def pick(points: Points, row: jax.Array) -> Points:
    """One stream of C, [1, ...]."""
    return {name: jax.lax.dynamic_slice_in_dim(x, row, 1) for name, x in points.items()}


def mix_points(clean: Points, edited: Points, mixture: jax.Array, masks: jax.Array) -> Points:
    """The points of an edit at some positions: the edited layer's there, the unedited's elsewhere.

    Args:
      clean: Of one stream, [1, ...].
      edited: Of one stream.
      mixture: The row of `masks`.
      masks: Selected positions, bool [mixtures, R, T].
    """
    mask_1RT1 = masks[mixture][None, ..., None]
    masks_of = {"attention": mask_1RT1[:, :, None]}
    return {
        name: jnp.where(masks_of.get(name, mask_1RT1), edited[name], clean[name]) for name in clean
    }


def gate_table(gates: list[Gate], count: int, columns: int, batch: TextBatch) -> np.ndarray:
    """Factors on sublayer outputs, float32 [count, R, T, A]; 1 is open.

    Args:
      gates: Factors and positions of each row.
      count: Rows of the table; those beyond `gates` are open.
      columns: A: the most heads of any layer, and one for each sublayer.
      batch: The text.
    """
    table = np.ones((count, *batch.token_RT.shape, columns), np.float32)
    for row, gate in zip(table, gates, strict=False):
        selected_RT = gate.positions.select(batch)
        sublayers = ((columns - 2, gate.attention), (columns - 1, gate.mlp))
        for column, factor in (*gate.heads, *sublayers):
            row[selected_RT, column] = factor
    return table


def mixture_tables(
    mixtures: list[Mixture], count: int, columns: int, batch: TextBatch
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, float32 [count, columns], and positions, bool [count, R, T], of mixtures.

    Rows beyond `mixtures` select nothing.
    """
    coefficients = np.zeros((count, columns), np.float32)
    masks = np.zeros((count, *batch.token_RT.shape), bool)
    for row, mask_RT, mixture in zip(coefficients, masks, mixtures, strict=False):
        row[: len(mixture.coefficients)] = mixture.coefficients
        mask_RT[...] = mixture.positions.select(batch)
    return coefficients, masks


def _head_columns(gate: jax.Array, num_heads: int) -> jax.Array:
    """Columns of this layer's heads and of its sublayers, where layers differ in heads."""
    if gate.shape[-1] == num_heads + 2:
        return gate
    return jnp.concatenate([gate[..., :num_heads], gate[..., -2:]], axis=-1)


def _for_streams(array_R: jax.Array, C: int) -> jax.Array:
    """Text arrays for C streams of R rows each; one row serves all by broadcasting."""
    if array_R.shape[0] == 1:
        return array_R
    return jnp.tile(array_R, (C,) + (1,) * (array_R.ndim - 1))

"""How far noise in a query or key matrix moves attention.

Puts to the test that "a 1% perturbation in Q or K matrices can completely redirect
attention from correct to incorrect tokens" (AH section 5.3).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.noise import add_noise, generator_of, noise_like
from jaxanatomy.model import rope
from jaxanatomy.records import Row

COMPONENTS = ("q_proj", "k_proj")
PRECISION = "highest"
LOCAL, PROPAGATED = "local", "propagated"


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionRun:
    """The unedited model on a batch of text: what every perturbation is compared with.

    Attributes:
      streams: The input of each layer, [R, T, D].
      attention: The attention distributions of each layer, [R, H, T, S].
      tables: RoPE at the positions of the text.
      bias_RTS: Of `model.attention_bias`.
      counted_RT: Query positions that have at least two keys to choose from.
    """

    streams: tuple[jax.Array, ...]
    attention: tuple[jax.Array, ...]
    tables: rope.Rope
    bias_RTS: jax.Array
    counted_RT: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttentionNoise:
    """What is done to the query or key matrix of every layer.

    Attributes:
      component: "q_proj" or "k_proj".
      alpha: Noise as in `interventions.noise.perturb`: that of a seed and layer is the
        same there and here. None: nothing but noise, with the matrix's mean and std, what
        an ever larger alpha tends to; the other end of the scale.
      seed: Of the noise.
    """

    component: str
    alpha: float | None
    seed: int

    def __post_init__(self):
        choose("component", self.component, COMPONENTS)
        if not ((self.alpha is None or 0 <= self.alpha < math.inf) and self.seed >= 0):
            raise InputError(
                "noise needs an alpha (or None) and a seed of 0 or above; got "
                f"{self.alpha} and {self.seed}"
            )


def attention_run(config: ModelConfig, params: tree.Params, batch: TextBatch) -> AttentionRun:
    """Streams and attention of the unedited model."""
    tables = rope.tables(config, jnp.asarray(batch.position_RT))
    bias_RTS = model.attention_bias(jnp.asarray(batch.segment_RT))
    x_RTD = model.embed(params, jnp.asarray(batch.token_RT))
    streams, attention = [], []
    for shape, block in zip(config.layers, params["layers"], strict=True):
        streams.append(x_RTD)
        attention.append(_attend(config, shape, block, x_RTD, tables, bias_RTS))
        x_RTD = _advance(config, shape, block, x_RTD, tables, bias_RTS)
    return AttentionRun(tuple(streams), tuple(attention), tables, bias_RTS, _counted(batch))


def attention_shifts(
    config: ModelConfig,
    params: tree.Params,
    batches: Sequence[TextBatch],
    settings: Sequence[AttentionNoise],
    progress: Callable[[int], None] = lambda count: None,
) -> Iterator[list[Row]]:
    """How far attention moves in each layer when its query or key matrix is perturbed.

    Two distributions p and p' over the keys of one query are compared by their total
    variation, half the sum of |p - p'|: the share of attention that has moved, 0 to 1; and
    by whether the key of most weight is another one. One batch after another, so that
    the attention of one batch at a time is held.

    Args:
      config: The architecture.
      params: Its parameters, one block for each layer.
      batches: The text, all of it.
      settings: What is measured.
      progress: Called after each batch and setting.

    Yields:
      For each setting, with the last batch, two rows of kind "attention" for each layer.
      `spread` "local": the matrix of this layer alone is perturbed; "propagated": those of
      all layers up to this one. Over the heads and the query positions of the text with at
      least two keys (`queries` of them): `total_variation` (mean), `max_total_variation`
      (over both) and `argmax_changed` (share); the same for each head, lists [H], as
      `heads_total_variation` and `heads_argmax_changed`, the largest of which is
      `max_head_argmax_changed`. `tokens` are those of the text, and `label` is "perturb" or
      "matched_noise".

    Raises:
      InputError: Every document is a single token.
    """
    if not any(_counted(batch).any() for batch in batches):
        raise InputError(
            "attention needs documents of at least two tokens, so that there are keys to choose "
            "from; got none; give a longer text"
        )
    config, params = tree.fold_norms(config, params)  # layers as they act
    params = jax.device_put(params)  # once, rather than with every call
    tokens = sum(int((batch.segment_RT >= 0).sum()) for batch in batches)
    totals: list[dict[tuple[int, str], _Shift]] = [{} for _ in settings]
    for number, batch in enumerate(batches, start=1):
        run = attention_run(config, params, batch)
        for noise, total in zip(settings, totals, strict=True):
            for place, shift in _shifts(config, params, noise, run):
                total[place] = total[place].plus(shift) if place in total else shift
            progress(1)
            if number == len(batches):
                yield [_row(noise, *place, shift, tokens) for place, shift in total.items()]


@dataclasses.dataclass(frozen=True)
class _Shift:
    """Sums over the counted query positions of some batches, by head."""

    variation_H: np.ndarray
    changed_H: np.ndarray
    largest: float
    queries: int

    def plus(self, other: "_Shift") -> "_Shift":
        return _Shift(
            self.variation_H + other.variation_H,
            self.changed_H + other.changed_H,
            max(self.largest, other.largest),
            self.queries + other.queries,
        )


def _counted(batch: TextBatch) -> np.ndarray:
    """The query positions that have at least two keys to choose from, bool [R, T]."""
    return (batch.position_RT > 0) & (batch.segment_RT >= 0)


def _shifts(
    config: ModelConfig, params: tree.Params, noise: AttentionNoise, run: AttentionRun
) -> Iterator[tuple[tuple[int, str], _Shift]]:
    """What one batch gives for each layer and spread."""
    text, propagated_RTD = (run.tables, run.bias_RTS), run.streams[0]
    for layer, own in enumerate(params["layers"]):
        shape, before = config.layers[layer], run.attention[layer]
        block = tree.replace(own, {noise.component: _noisy(own, noise, layer)})
        for spread, x_RTD in ((LOCAL, run.streams[layer]), (PROPAGATED, propagated_RTD)):
            after = _attend(config, shape, block, x_RTD, *text)
            yield (layer, spread), _shift(before, after, run.counted_RT)
        propagated_RTD = _advance(config, shape, block, propagated_RTD, *text)


def _row(noise: AttentionNoise, layer: int, spread: str, shift: _Shift, tokens: int) -> Row:
    variation_H, changed_H = shift.variation_H / shift.queries, shift.changed_H / shift.queries
    return {
        "kind": "attention",
        "label": "matched_noise" if noise.alpha is None else "perturb",
        "component": noise.component,
        "layer": layer,
        "alpha": noise.alpha,
        "seed": noise.seed,
        "spread": spread,
        "tokens": tokens,
        "queries": shift.queries,
        "total_variation": float(variation_H.mean()),
        "max_total_variation": shift.largest,
        "argmax_changed": float(changed_H.mean()),
        "max_head_argmax_changed": float(changed_H.max()),
        "heads_total_variation": variation_H.tolist(),
        "heads_argmax_changed": changed_H.tolist(),
    }


def _noisy(own: tree.BlockParams, noise: AttentionNoise, layer: int) -> np.ndarray:
    kernel = np.asarray(tree.get(own, noise.component))
    generator = generator_of(noise.seed, layer, noise.component)
    if noise.alpha is None:
        return noise_like(kernel, generator)
    return add_noise(kernel, noise.alpha, generator)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _attend(
    config: ModelConfig,
    shape: LayerShape,
    block: tree.BlockParams,
    x_RTD: jax.Array,
    tables: rope.Rope,
    bias_RTS: jax.Array,
) -> jax.Array:
    """The attention distributions of one layer; what else the layer does is not computed."""
    module = model.Block(shape, config.head_dim, config.norm_epsilon)
    with jax.default_matmul_precision(PRECISION):
        _, found = model.apply_with_points(
            module, block, x_RTD, tables, bias_RTS, points=["attention"]
        )
    return found["attention"]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _advance(
    config: ModelConfig,
    shape: LayerShape,
    block: tree.BlockParams,
    x_RTD: jax.Array,
    tables: rope.Rope,
    bias_RTS: jax.Array,
) -> jax.Array:
    """The stream after one layer."""
    module = model.Block(shape, config.head_dim, config.norm_epsilon)
    with jax.default_matmul_precision(PRECISION):
        return module.apply({"params": block}, x_RTD, tables, bias_RTS)[0]


@jax.jit
def _compare(before_RHTS: jax.Array, after_RHTS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Total variation, and whether the largest weight lies elsewhere, [R, H, T] each."""
    variation_RHT = jnp.abs(before_RHTS - after_RHTS).sum(axis=-1) / 2
    return variation_RHT, before_RHTS.argmax(axis=-1) != after_RHTS.argmax(axis=-1)


def _shift(before_RHTS: jax.Array, after_RHTS: jax.Array, counted_RT: np.ndarray) -> _Shift:
    variation_RHT, changed_RHT = _compare(before_RHTS, after_RHTS)
    variation_HP, changed_HP = (
        np.asarray(array_RHT).astype(np.float64).transpose(1, 0, 2)[:, counted_RT]
        for array_RHT in (variation_RHT, changed_RHT)
    )
    # A batch may hold nothing but single tokens.
    largest = float(variation_HP.max(initial=0.0))
    return _Shift(variation_HP.sum(axis=1), changed_HP.sum(axis=1), largest, int(counted_RT.sum()))

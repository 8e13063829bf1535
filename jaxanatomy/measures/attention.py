"""How far noise in a query or key matrix moves attention.

Puts to the test that "a 1% perturbation in Q or K matrices can completely redirect
attention from correct to incorrect tokens" (AH section 5.3).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.noise import add_noise, generator_of, noise_like
from jaxanatomy.measures.losses import Row
from jaxanatomy.model import rope

COMPONENTS = ("q_proj", "k_proj")
ALPHAS = (0.01, 0.1, 0.5, 1.0, None)
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


def attention_run(config: ModelConfig, params: tree.Params, batch: TextBatch) -> AttentionRun:
    """Streams and attention of the unedited model.

    Raises:
      InputError: Every document of the batch is a single token.
    """
    counted_RT = (batch.position_RT > 0) & (batch.segment_RT >= 0)
    if not counted_RT.any():
        raise InputError(
            "attention needs documents of at least two tokens, so that there are keys to choose "
            "from; got none; give a longer text"
        )
    tables = rope.tables(config, jnp.asarray(batch.position_RT))
    bias_RTS = model.attention_bias(jnp.asarray(batch.segment_RT))
    x_RTD = model.embed(params, jnp.asarray(batch.token_RT))
    streams, attention = [], []
    for shape, block in zip(config.layers, params["layers"], strict=True):
        streams.append(x_RTD)
        attention.append(_attend(config, shape, block, x_RTD, tables, bias_RTS))
        x_RTD = _advance(config, shape, block, x_RTD, tables, bias_RTS)
    return AttentionRun(tuple(streams), tuple(attention), tables, bias_RTS, counted_RT)


def attention_shift(
    config: ModelConfig,
    params: tree.Params,
    batch: TextBatch,
    component: str,
    alpha: float | None,
    seed: int,
    clean: AttentionRun | None = None,
) -> list[Row]:
    """How far attention moves in each layer when its query or key matrix is perturbed.

    Two distributions p and p' over the keys of one query are compared by their total
    variation, half the sum of |p - p'|: the share of attention that has moved, 0 to 1; and
    by whether the key of most weight is another one.

    Args:
      config: The architecture.
      params: Its parameters, one block for each layer.
      batch: The text.
      component: "q_proj" or "k_proj".
      alpha: Noise as in `interventions.noise.perturb`: that of a seed and layer is the
        same there and here. None: nothing but noise, with the matrix's mean and std, what
        an ever larger alpha tends to; the other end of the scale.
      seed: Of the noise.
      clean: What `attention_run` gave for the same model and batch, to save its time.

    Returns:
      Two rows of kind "attention" for each layer. `spread` "local": the matrix of this layer
      alone is perturbed; "propagated": those of all layers up to this one. Over the heads
      and the query positions with at least two keys: `total_variation` (mean),
      `max_total_variation` (over both) and `argmax_changed` (share); the same for each
      head, lists [H], as `heads_total_variation` and `heads_argmax_changed`, the largest of
      which is `max_head_argmax_changed`. `label` is "perturb" or "matched_noise".

    Raises:
      InputError: Another component, or a negative alpha or seed.
    """
    choose("component", component, COMPONENTS)
    if not ((alpha is None or 0 <= alpha < math.inf) and seed >= 0):
        raise InputError(
            f"noise needs an alpha (or None) and a seed of 0 or above; got {alpha} and {seed}"
        )
    run = clean or attention_run(config, params, batch)
    text = (run.tables, run.bias_RTS)
    head = {"kind": "attention", "label": "matched_noise" if alpha is None else "perturb"}
    rows, propagated_RTD = [], run.streams[0]
    for layer, own in enumerate(params["layers"]):
        shape, before = config.layers[layer], run.attention[layer]
        block = tree.replace(own, {component: _noisy(own, component, alpha, layer, seed)})
        for spread, x_RTD in ((LOCAL, run.streams[layer]), (PROPAGATED, propagated_RTD)):
            after = _attend(config, shape, block, x_RTD, *text)
            row = {"component": component, "layer": layer, "alpha": alpha, "seed": seed}
            rows.append(head | row | {"spread": spread} | _shift(before, after, run.counted_RT))
        propagated_RTD = _advance(config, shape, block, propagated_RTD, *text)
    return rows


def attention_shifts(
    config: ModelConfig,
    params: tree.Params,
    batch: TextBatch,
    alphas: Sequence[float | None] = ALPHAS,
    seeds: Sequence[int] = (0,),
) -> list[Row]:
    """`attention_shift` of both components at several alphas and seeds."""
    # Once on the device, rather than with every call.
    params = jax.device_put(params)
    clean = attention_run(config, params, batch)
    return [
        row
        for component in COMPONENTS
        for alpha in alphas
        for seed in seeds
        for row in attention_shift(config, params, batch, component, alpha, seed, clean)
    ]


def _noisy(
    own: tree.Block, component: str, alpha: float | None, layer: int, seed: int
) -> np.ndarray:
    kernel, generator = np.asarray(tree.get(own, component)), generator_of(seed, layer, component)
    return noise_like(kernel, generator) if alpha is None else add_noise(kernel, alpha, generator)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _attend(
    config: ModelConfig,
    shape: LayerShape,
    block: tree.Block,
    x_RTD: jax.Array,
    tables: rope.Rope,
    bias_RTS: jax.Array,
) -> jax.Array:
    """The attention distributions of one layer; what else the layer does is not computed."""
    module = model.Block(shape, config.head_dim, config.norm_epsilon)
    with jax.default_matmul_precision(PRECISION):
        _, sown = module.apply(
            {"params": block}, x_RTD, tables, bias_RTS, mutable=["intermediates"]
        )
    (attention_RHTS,) = sown["intermediates"]["attention"]["attention"]
    return attention_RHTS


@functools.partial(jax.jit, static_argnums=(0, 1))
def _advance(
    config: ModelConfig,
    shape: LayerShape,
    block: tree.Block,
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


def _shift(before_RHTS: jax.Array, after_RHTS: jax.Array, counted_RT: np.ndarray) -> Row:
    variation_RHT, changed_RHT = _compare(before_RHTS, after_RHTS)
    variation_HP, changed_HP = (
        np.asarray(array_RHT).astype(np.float64).transpose(1, 0, 2)[:, counted_RT]
        for array_RHT in (variation_RHT, changed_RHT)
    )
    return {
        "total_variation": float(variation_HP.mean()),
        "max_total_variation": float(variation_HP.max()),
        "argmax_changed": float(changed_HP.mean()),
        "max_head_argmax_changed": float(changed_HP.mean(axis=1).max()),
        "heads_total_variation": variation_HP.mean(axis=1).tolist(),
        "heads_argmax_changed": changed_HP.mean(axis=1).tolist(),
    }

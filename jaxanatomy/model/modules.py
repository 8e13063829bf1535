"""The parts of a decoder block as Flax Linen modules.

The modules know nothing of sweeps, edits or checkpoints. A block is applied with
`block(config, layer).apply({"params": params}, x_BTD, rope, bias_BTS)`, its
parameters a plain dict as described in `jaxanatomy.tree`.

A block names its points (`POINTS`) and knows nothing of who reads them: each is sown into the
Flax collection of its name. `apply_with_points` makes the wanted ones mutable; nobody else
pays for them.

Products take operands in `dtype` and accumulate in float32; norms, softmax and
the residual stream are float32 whatever `dtype` is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.model import rope as rope_lib
from jaxanatomy.model.products import fused_attention, product

POINTS = {
    "block_in": "the residual stream before the layer, [B, T, D]",
    "attention": "the attention weights, [B, H, T, S]",
    "attention_out": "what attention writes into the stream, [B, T, D]",
    "mlp_hidden": "what down_proj of the MLP reads, [B, T, F]",
    "mlp_out": "what the MLP writes into the stream, [B, T, D]",
    "block_out": "the residual stream after the layer, [B, T, D]",
}
KERNEL_STD = 0.02
KERNEL_INIT = nn.initializers.normal(stddev=KERNEL_STD)
MASKED = -1e30  # added to the score of a key that a query does not see
Cache = tuple[jax.Array, jax.Array]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale over the last axis."""

    epsilon: float

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        scale_D = self.param("scale", nn.initializers.ones, (x_BTD.shape[-1],))
        mean_square = jnp.mean(x_BTD * x_BTD, axis=-1, keepdims=True)
        scale_D = scale_D.astype(jnp.float32)
        return x_BTD * jax.lax.rsqrt(mean_square + self.epsilon) * _like(scale_D, x_BTD)


class Linear(nn.Module):
    """A product, operands in `dtype`, result in float32; with a bias if asked."""

    features: int
    dtype: jnp.dtype
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, bias_gate: jax.Array | None = None) -> jax.Array:
        """Returns x @ kernel + bias; `bias_gate` [..., 1] is a factor on the bias."""
        kernel = self.param("kernel", KERNEL_INIT, (x.shape[-1], self.features))
        # Over rows: the gradient of the kernel then sums over one axis, where over two the
        # compiler transposes both of its operands first (a sixth of a layer's time on a CPU).
        row_PD = x.reshape(-1, x.shape[-1])
        y_PF = product(row_PD, kernel, self.dtype)
        y = y_PF.reshape(*x.shape[:-1], self.features)
        if not self.use_bias:
            return y
        bias_F = self.param("bias", nn.initializers.zeros, (self.features,))
        bias = _like(bias_F.astype(jnp.float32), y)
        return y + (bias if bias_gate is None else bias_gate * bias)


class Attention(nn.Module):
    """Grouped-query attention with RoPE; a norm of queries and keys, biases and a window if asked.

    The products run over batch x key-value group, the queries of a group stacked
    along the token axis, so that each is one large matrix product.

    `fused` names the implementation of `jax.nn.dot_product_attention` that is used instead where
    nobody asks for the weights: one that never writes them to memory. Empty: none.
    """

    shape: LayerShape
    head_dim: int
    norm_epsilon: float
    dtype: jnp.dtype
    fused: str = ""

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        rope: rope_lib.Rope,
        bias_BTS: jax.Array,
        gate_BTA: jax.Array | None = None,
        cache: Cache | None = None,
        cache_index: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Returns the output [B, T, D] and the keys and values [B, S, K, d] it attended to.

        Args:
          x_BTD: Normalised residual stream.
          rope: Tables of `rope.tables` for the tokens of x.
          bias_BTS: Added to the scores, 0 or a large negative number; B may be 1. Without a cache
            no token sees a later one.
          gate_BTA: Factors on the output of each query head, then on the bias of o_proj, which
            belongs to no head; None for ones.
          cache: Keys and values of length S to write this call's into, when decoding.
          cache_index: Where in the cache the first token of x goes.
        """
        B, T, D = x_BTD.shape
        H, K, d = self.shape.num_heads, self.shape.num_kv_heads, self.head_dim
        q_BTHd = self._linear("q_proj", H * d)(x_BTD).reshape(B, T, H, d)
        k_BSKd = self._linear("k_proj", K * d)(x_BTD).reshape(B, T, K, d)
        v_BSKd = self._linear("v_proj", K * d)(x_BTD).reshape(B, T, K, d)
        if self.shape.qk_norm:
            q_BTHd = RMSNorm(self.norm_epsilon, name="q_norm")(q_BTHd)
            k_BSKd = RMSNorm(self.norm_epsilon, name="k_norm")(k_BSKd)
        q_BTHd = rope_lib.rotate(q_BTHd, rope) * d**-0.5
        k_BSKd = rope_lib.rotate(k_BSKd, rope)
        if cache is not None:
            start = (0, cache_index, 0, 0)
            k_BSKd = jax.lax.dynamic_update_slice(cache[0], k_BSKd, start)
            v_BSKd = jax.lax.dynamic_update_slice(cache[1], v_BSKd, start)
        S = k_BSKd.shape[1]
        if self.shape.window is not None and self.shape.window < S:
            bias_BTS = self._windowed(bias_BTS, 0 if cache is None else cache_index, T)

        if self.fused and cache is None and not self.is_mutable_collection("attention"):
            out_BTHd = self._fused(q_BTHd, k_BSKd, v_BSKd, bias_BTS)
        else:
            out_BTHd = self._attend(q_BTHd, k_BSKd, v_BSKd, bias_BTS)
        bias_gate_BT1 = None
        if gate_BTA is not None:
            out_BTHd = out_BTHd * gate_BTA[..., :H, None]
            bias_gate_BT1 = gate_BTA[..., H:]
        out_BTD = self._linear("o_proj", D)(out_BTHd.reshape(B, T, H * d), bias_gate_BT1)
        return out_BTD, (k_BSKd, v_BSKd)

    def _fused(
        self, q_BTHd: jax.Array, k_BSKd: jax.Array, v_BSKd: jax.Array, bias_BTS: jax.Array
    ) -> jax.Array:
        sees_BTS = jnp.broadcast_to(bias_BTS == 0, (len(q_BTHd), *bias_BTS.shape[1:]))
        q, k, v = (x.astype(self.dtype) for x in (q_BTHd, k_BSKd, v_BSKd))
        return fused_attention(self.fused, q, k, v, sees_BTS).astype(jnp.float32)

    def _attend(
        self, q_BTHd: jax.Array, k_BSKd: jax.Array, v_BSKd: jax.Array, bias_BTS: jax.Array
    ) -> jax.Array:
        (B, T, H, d), (S, K) = q_BTHd.shape, k_BSKd.shape[1:3]
        G = H // K
        q = q_BTHd.reshape(B, T, K, G, d).transpose(0, 2, 3, 1, 4).reshape(B * K, G * T, d)
        k = k_BSKd.transpose(0, 2, 3, 1).reshape(B * K, d, S)
        v = v_BSKd.transpose(0, 2, 1, 3).reshape(B * K, S, d)
        score_BKGTS = product(q, k, self.dtype).reshape(B, K, G, T, S) + bias_BTS[:, None, None]
        # The division by the sum comes after the product with v: d columns, not S.
        top = jax.lax.stop_gradient(score_BKGTS.max(axis=-1, keepdims=True))
        weight_BKGTS = jnp.exp(score_BKGTS - top)
        total = weight_BKGTS.sum(axis=-1).reshape(B * K, G * T, 1)
        if self.is_mutable_collection("attention"):
            share_BKGTS = weight_BKGTS / weight_BKGTS.sum(axis=-1, keepdims=True)
            self.sow("attention", "value", share_BKGTS.reshape(B, H, T, S))
        out = product(weight_BKGTS.reshape(B * K, G * T, S), v, self.dtype) / total
        return out.reshape(B, K, G, T, d).transpose(0, 3, 1, 2, 4).reshape(B, T, H, d)

    def _linear(self, name: str, features: int) -> Linear:
        return Linear(features, self.dtype, name in self.shape.biases, name=name)

    def _windowed(self, bias_BTS: jax.Array, first: jax.Array | int, T: int) -> jax.Array:
        """The bias with keys masked that lie `window` tokens or more before their query."""
        query_T1, key_1S = first + jnp.arange(T)[:, None], jnp.arange(bias_BTS.shape[-1])[None]
        near_1TS = (query_T1 - key_1S < self.shape.window)[None]
        return jnp.where(near_1TS, bias_BTS, MASKED)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    shape: LayerShape
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        F = self.shape.ffn_width
        gate_BTF = self._linear("gate_proj", F)(x_BTD)
        hidden_BTF = nn.silu(gate_BTF) * self._linear("up_proj", F)(x_BTD)
        self.sow("mlp_hidden", "value", hidden_BTF)
        return self._linear("down_proj", x_BTD.shape[-1])(hidden_BTF)

    def _linear(self, name: str, features: int) -> Linear:
        return Linear(features, self.dtype, name in self.shape.biases, name=name)


class Block(nn.Module):
    """One pre-norm layer: x + attention(norm(x)), then + mlp(norm(.))."""

    shape: LayerShape
    head_dim: int
    norm_epsilon: float
    dtype: jnp.dtype = jnp.float32
    fused: str = ""  # see `Attention`

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        rope: rope_lib.Rope,
        bias_BTS: jax.Array,
        gate_BTA: jax.Array | None = None,
        cache: Cache | None = None,
        cache_index: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Returns the residual stream after the layer, and its keys and values.

        Args:
          x_BTD: Residual stream, float32.
          rope: See `Attention`.
          bias_BTS: See `Attention`.
          gate_BTA: Factors at each position on the outputs of the query heads, on attention's
            bias and (last column) on the output of the MLP; None for ones.
          cache: See `Attention`.
          cache_index: See `Attention`.
        """
        self.sow("block_in", "value", x_BTD)
        attention_gate = None if gate_BTA is None else gate_BTA[..., :-1]
        h_BTD = RMSNorm(self.norm_epsilon, name="attention_norm")(x_BTD)
        attention = Attention(
            self.shape, self.head_dim, self.norm_epsilon, self.dtype, self.fused, name="attention"
        )
        a_BTD, cache = attention(h_BTD, rope, bias_BTS, attention_gate, cache, cache_index)
        self.sow("attention_out", "value", a_BTD)
        x_BTD = x_BTD + a_BTD
        h_BTD = RMSNorm(self.norm_epsilon, name="mlp_norm")(x_BTD)
        m_BTD = MLP(self.shape, self.dtype, name="mlp")(h_BTD)
        if gate_BTA is not None:
            m_BTD = m_BTD * gate_BTA[..., -1:]
        self.sow("mlp_out", "value", m_BTD)
        x_BTD = x_BTD + m_BTD
        self.sow("block_out", "value", x_BTD)
        return x_BTD, cache


def block(
    config: ModelConfig, layer: int, dtype: jnp.dtype = jnp.float32, fused: str = ""
) -> Block:
    """The module that applies layer `layer` of a model."""
    return Block(config.layers[layer], config.head_dim, config.norm_epsilon, dtype, fused)


def apply_with_points(
    module: Block, params: Mapping, *inputs: Any, points: Sequence[str]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The residual stream after a layer, and what stands at some of its `POINTS`.

    Args:
      module: The layer.
      params: Its parameters.
      *inputs: As `Block` takes them.
      points: The wanted points; the program of none is that of a plain `apply`.
    """
    variables = {"params": params}
    if not points:
        return module.apply(variables, *inputs)[0], {}
    (x_BTD, _), sown = module.apply(variables, *inputs, mutable=list(points))
    return x_BTD, {point: jax.tree.leaves(sown[point])[0] for point in points}


def _like(scale_D: jax.Array, x: jax.Array) -> jax.Array:
    """Adds leading axes: rank promotion is never implicit here."""
    return scale_D.reshape((1,) * (x.ndim - 1) + scale_D.shape)

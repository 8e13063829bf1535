"""Products with operands in `dtype` and sums in float32, on the way forward and on the way back.

JAX's own derivative of a product in bfloat16 with a result in float32 multiplies that result's
gradient in float32: two thirds of the work of a training step, at half of the speed or less.
"""

import functools

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def product(left: jax.Array, right: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """left @ right, float32; a gradient's operands are in `dtype`, too.

    Args:
      left: [..., P, D].
      right: [..., D, F], with the same axes before.
      dtype: Of the operands.
    """
    if dtype == jnp.float32:
        return _product(left, right, dtype)
    return _rounded_product(left, right, dtype)


def _product(left: jax.Array, right: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jnp.matmul(left.astype(dtype), right.astype(dtype), preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded_product(left, right, dtype):
    return _product(left, right, dtype)


def _forward(left, right, dtype):
    kept = left.astype(dtype), right.astype(dtype)
    likes = jnp.zeros((), left.dtype), jnp.zeros((), right.dtype)  # of the gradients
    return _product(*kept, dtype), (kept, likes)


def _backward(dtype, residuals, above):
    (left, right), likes = residuals
    above = above.astype(dtype)
    gradients = _product(above, right.mT, dtype), _product(left.mT, above, dtype)
    return tuple(each.astype(like.dtype) for each, like in zip(gradients, likes, strict=True))


_rounded_product.defvjp(_forward, _backward)


def fused_implementation(head_dim: int, tokens: int, dtype: jnp.dtype) -> str:
    """The implementation of `fused_attention` that the device has; empty where none.

    cuDNN's takes bfloat16, an even number of tokens and heads up to 128 wide in eights, from
    compute capability 8.0 on.
    """
    device = jax.local_devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return ""
    fits = dtype == jnp.bfloat16 and tokens % 2 == 0 and head_dim % 8 == 0 and head_dim <= 128
    return "cudnn" if fits and float(device.compute_capability) >= 8 else ""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused_attention(
    implementation: str, q_BTHd: jax.Array, k_BSKd: jax.Array, v_BSKd: jax.Array, sees_BTS
) -> jax.Array:
    """Causal attention that never writes its weights to memory, [B, T, H, d].

    Args:
      implementation: Of `jax.nn.dot_product_attention`.
      q_BTHd: Queries, scaled.
      k_BSKd: Keys.
      v_BSKd: Values.
      sees_BTS: bool, whether a query sees a key; later ones it never does.
    """
    return _fused(implementation).forward(q_BTHd, k_BSKd, v_BSKd, sees_BTS)


def _fused_forward(implementation, *arguments):
    return fused_attention(implementation, *arguments), arguments


def _fused_backward(implementation, arguments, above_BTHd):
    return *_fused(implementation).backward(*arguments, above_BTHd), None


fused_attention.defvjp(_fused_forward, _fused_backward)


class _Fused:
    """An implementation, forward and back; replicas go into the axis B.

    JAX's batching of cuDNN's would first write the mask out for every head.
    """

    def __init__(self, implementation: str):
        def forward(q_BTHd, k_BSKd, v_BSKd, sees_BTS):
            return jax.nn.dot_product_attention(
                q_BTHd,
                k_BSKd,
                v_BSKd,
                mask=sees_BTS[:, None],
                scale=1.0,
                is_causal=True,
                implementation=implementation,
            )

        def backward(q_BTHd, k_BSKd, v_BSKd, sees_BTS, above_BTHd):
            attend = lambda *qkv: forward(*qkv, sees_BTS)  # noqa: E731
            return jax.vjp(attend, q_BTHd, k_BSKd, v_BSKd)[1](above_BTHd)

        self.forward, self.backward = _in_axis_b(forward), _in_axis_b(backward)


_fused = functools.cache(_Fused)


def _in_axis_b(function):
    """A function of arrays with a first axis B that takes replicas as more of it."""
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def _(size, is_batched, *arrays):
        arrays = [
            x if own else jnp.broadcast_to(x[None], (size, *x.shape))
            for x, own in zip(arrays, is_batched, strict=True)
        ]
        found = mapped(*(x.reshape(-1, *x.shape[2:]) for x in arrays))
        apart = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), found)
        return apart, jax.tree.map(lambda x: True, found)

    return mapped

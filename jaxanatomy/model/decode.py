"""Greedy and sampled generation with a key-value cache.

`generate` compiles two programs: one that reads the prompt (prefill) and one that writes tokens
(decode, a loop). Both are made for a power of two of tokens, so that a prompt that is a little
longer, or a few steps more, compile nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.model import head, rope, transformer
from jaxanatomy.model.modules import MASKED, Cache, block


def generate(
    config: ModelConfig,
    params: tree.Params,
    prompt_BT: jax.Array,
    steps: int,
    temperature: float = 0.0,
    key: jax.Array | None = None,
    dtype: jnp.dtype = jnp.float32,
    length_B: np.ndarray | None = None,
) -> jax.Array:
    """Continues prompts.

    Args:
      config: The architecture.
      params: Parameters, stacked or not.
      prompt_BT: Token ids of the prompts.
      steps: Tokens to write.
      temperature: 0 takes the likeliest token; otherwise logits are divided by it
        and a token is drawn.
      key: Randomness for the draws; needed when `temperature` > 0.
      dtype: Of the operands of products.
      length_B: How many tokens of each row are its prompt, the last ones; what stands before them
        is not read. None: all.

    Returns:
      The written tokens, int32 [B, steps].

    Raises:
      InputError: An empty prompt, a token beyond the vocabulary, no steps, a prompt and
        continuation longer than the context, a negative temperature, or a temperature
        without a key.
    """
    B, T = prompt_BT.shape
    _require_room(config, prompt_BT, steps, length_B)
    if temperature < 0 or (temperature > 0 and key is None):
        raise InputError(
            "temperature must be 0, or positive with a key for the draws; "
            f"got temperature={temperature} and key={key}"
        )
    key = jax.random.key(0) if key is None else key
    stacks = transformer.stacks(config, params)
    params = tree.with_layers(params, stacks)
    room = _power_of_two(T + steps, config.context_length)
    # What stands behind the prompt is never seen: each place is written before it is visible.
    padding = _power_of_two(T, room) - T
    token_BT = jnp.pad(jnp.asarray(prompt_BT, jnp.int32), ((0, 0), (0, padding)))
    caches = _empty_caches(config, stacks, B, room)
    draw = jnp.float32(temperature), key
    skip_B = T - jnp.asarray(np.full(B, T) if length_B is None else length_B, jnp.int32)
    token_B, caches = _prefill(config, dtype, params, token_BT, skip_B, jnp.int32(T), caches, draw)
    written_BN = jnp.zeros((B, room), jnp.int32).at[:, 0].set(token_B)
    return _decode(config, dtype, params, written_BN, skip_B, (T, steps), caches, draw)[:, :steps]


def _require_room(config, prompt_BT, steps, length_B):
    """Raises `InputError` unless prompts are of this model, and they and the steps fit."""
    T = prompt_BT.shape[1]
    shortest = T if length_B is None else int(min(length_B))
    if shortest < 1 or steps < 1:
        raise InputError(
            f"generate needs a prompt and steps of at least 1; got {shortest} and {steps}"
        )
    is_known = not isinstance(prompt_BT, jax.core.Tracer)
    if is_known and not np.all((prompt_BT >= 0) & (prompt_BT < config.vocab_size)):
        raise InputError(
            f"the tokens of a prompt must be in the vocabulary, 0 .. {config.vocab_size - 1}; got "
            f"{int(np.min(prompt_BT))} to {int(np.max(prompt_BT))}; use the tokenizer of this model"
        )
    if T + steps > config.context_length:
        raise InputError(
            f"prompt and continuation must fit the context of {config.context_length} tokens; "
            f"got {T} + {steps}"
        )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=6)
def _prefill(config, dtype, params, token_BT, skip_B, length, caches, draw):
    start = jnp.int32(0)
    logits_BV, caches = _run(config, dtype, params, token_BT, skip_B, start, caches, length - 1)
    return _choose(logits_BV, *draw, 0), caches


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(config, dtype, params, written_BN, skip_B, start_and_steps, caches, draw):
    start, steps = start_and_steps

    def step(index, carry):
        written_BN, caches = carry
        token_B1 = jax.lax.dynamic_slice_in_dim(written_BN, index - 1, 1, axis=1)
        at = start + index - 1
        logits_BV, caches = _run(config, dtype, params, token_B1, skip_B, at, caches, 0)
        token_B = _choose(logits_BV, *draw, index)
        return written_BN.at[:, index].set(token_B), caches

    return jax.lax.fori_loop(1, steps, step, (written_BN, caches))[0]


def _run(
    config, dtype, params, token_BT, skip_B, index, caches, last
) -> tuple[jax.Array, tuple[Cache, ...]]:
    """Logits after token `last`, and the caches with these tokens written at `index`.

    The first `skip_B` tokens of each row are seen by none. Positions count from the start of the
    row all the same: rotary embeddings know distances alone.
    """
    T = token_BT.shape[1]
    S = caches[0][0].shape[2]
    place_1T = index + jnp.arange(T)[None]
    tables = rope.tables(config, place_1T)
    key_11S = jnp.arange(S)[None, None]
    visible_BTS = (key_11S <= place_1T[..., None]) & (key_11S >= skip_B[:, None, None])
    bias_BTS = jnp.where(visible_BTS, 0.0, MASKED).astype(jnp.float32)
    x_BTD = transformer.embed(params, token_BT)
    new_caches, layer = [], 0
    for stacked, cache in zip(params["layers"], caches, strict=True):
        module = block(config, layer, dtype)

        def step(x_BTD, inputs, module=module):
            params, cache = inputs
            return module.apply(
                {"params": params}, x_BTD, tables, bias_BTS, cache=cache, cache_index=index
            )

        x_BTD, cache = jax.lax.scan(step, x_BTD, (stacked, cache))
        new_caches.append(cache)
        layer += cache[0].shape[0]
    x_B1D = jax.lax.dynamic_slice_in_dim(x_BTD, last, 1, axis=1)
    return head.logits(config, params, x_B1D, dtype)[:, 0], tuple(new_caches)


def _empty_caches(
    config: ModelConfig, stacks: tuple[tree.BlockParams, ...], B: int, S: int
) -> tuple[Cache, ...]:
    """Keys and values [L, B, S, K, d] for each stack of layers."""
    caches, layer = [], 0
    for stacked in stacks:
        N = tree.get(stacked, "attention_norm").shape[0]
        size = (N, B, S, config.layers[layer].num_kv_heads, config.head_dim)
        caches.append((jnp.zeros(size), jnp.zeros(size)))
        layer += N
    return tuple(caches)


def _power_of_two(size: int, largest: int) -> int:
    """The next power of two, at most `largest`."""
    return min(max(16, 1 << (size - 1).bit_length()), largest)


def _choose(
    logits_BV: jax.Array, temperature: jax.Array, key: jax.Array, step: jax.Array | int
) -> jax.Array:
    """The likeliest token at temperature 0, else a draw, another at each step."""
    safe = jnp.where(temperature > 0, temperature, 1.0)
    drawn_B = jax.random.categorical(jax.random.fold_in(key, step), logits_BV / safe, axis=-1)
    return jnp.where(temperature > 0, drawn_B, logits_BV.argmax(axis=-1)).astype(jnp.int32)

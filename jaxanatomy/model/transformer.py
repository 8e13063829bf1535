"""The whole model as pure functions of (config, params, tokens)."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.model import head, rope
from jaxanatomy.model.modules import KERNEL_INIT, KERNEL_STD, MASKED, block
from jaxanatomy.model.products import fused_implementation

# What a layer keeps for its gradient; the rest is computed again on the way back.
REMAT = {
    "none": "everything",
    "dots": "the results of matrix products: norms, softmax and gates are computed again",
    "full": "its input alone: every layer is computed twice",
}

# Standard deviations of random parameters; norms are ones, biases zeros.
INITS = {
    "normal": "0.02, of kernels and embeddings",
    "fan_in": "1 / sqrt(inputs) of kernels, those that write to the residual stream also divided "
    "by sqrt(2 L); 0.5 of embeddings",
}
_EMBEDDING_STD = 0.5


def init(config: ModelConfig, key: jax.Array, how: str = "normal") -> tree.Params:
    """Random parameters.

    Args:
      config: The architecture.
      key: Of the draws; a layer's depend on its number, not on how many there are.
      how: One of `INITS`.
    """
    embed_key, unembed_key, *layer_keys = jax.random.split(key, 2 + config.num_layers)
    shape_VD = (config.vocab_size, config.hidden_size)
    params = {
        "embed": {"embedding": KERNEL_INIT(embed_key, shape_VD)},
        "layers": _blocks(config, layer_keys),
        "final_norm": {"scale": jnp.ones(config.hidden_size)},
    }
    if not config.tie_embeddings:
        params["unembed"] = {"embedding": KERNEL_INIT(unembed_key, shape_VD)}
    return params if how == "normal" else _by_fan_in(config, params)


def _blocks(config: ModelConfig, keys: Sequence[jax.Array]) -> tuple[tree.BlockParams, ...]:
    """Random layers. Those of one shape are drawn at once: each draw takes a while to compile."""
    x_BTD = jnp.zeros((1, 1, config.hidden_size))
    tables, bias_BTS = rope.tables(config, jnp.zeros((1, 1), jnp.int32)), jnp.zeros((1, 1, 1))
    found: dict[int, tree.BlockParams] = {}
    for shape in dict.fromkeys(config.layers):
        alike = [layer for layer, own in enumerate(config.layers) if own == shape]
        draw = jax.vmap(block(config, alike[0]).init, (0, None, None, None))
        keys_L = jnp.stack([keys[layer] for layer in alike])
        drawn = draw(keys_L, x_BTD, tables, bias_BTS)["params"]
        found |= zip(alike, tree.unstack([drawn]), strict=True)
    return tuple(found[layer] for layer in range(config.num_layers))


def _by_fan_in(config: ModelConfig, params: tree.Params) -> tree.Params:
    """Parameters of `KERNEL_STD` scaled to what `INITS["fan_in"]` says."""

    def scaled(path: tuple, leaf: jax.Array) -> jax.Array:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        if "embed" in names:
            return leaf * (_EMBEDDING_STD / KERNEL_STD)
        if leaf.ndim == 1:
            return leaf
        inputs = leaf.shape[1 if "unembed" in names else 0]
        writes = 2 * config.num_layers if set(names) & {*tree.WRITING} else 1
        return leaf / (KERNEL_STD * (inputs * writes) ** 0.5)

    return jax.tree_util.tree_map_with_path(scaled, params)


def embed(params: tree.Params, token_BT: jax.Array) -> jax.Array:
    """The residual stream before the first layer, float32 [B, T, D]."""
    return params["embed"]["embedding"][token_BT].astype(jnp.float32)


def attention_bias(segment_BT: jax.Array) -> jax.Array:
    """0 where a token may attend, a large negative number elsewhere, [B, T, S].

    A token attends to itself and to earlier tokens of its own segment.
    """
    T = segment_BT.shape[1]
    causal_1TS = jnp.tril(jnp.ones((T, T), bool))[None]
    same_BTS = segment_BT[:, :, None] == segment_BT[:, None, :]
    return jnp.where(causal_1TS & same_BTS, 0.0, MASKED).astype(jnp.float32)


def tree_bias(end_BT: jax.Array) -> jax.Array:
    """The bias of sequences that share beginnings, laid out depth first, [B, T, S].

    The token at s stands before all those of its subtree, which lie at s .. end_s - 1: they see
    it, and no others do.
    """
    T = end_BT.shape[1]
    query_T1, key_1T = jnp.arange(T)[:, None], jnp.arange(T)[None]
    before_1TS = (key_1T <= query_T1)[None]
    seen_BTS = before_1TS & (query_T1[None] < end_BT[:, None])
    return jnp.where(seen_BTS, 0.0, MASKED).astype(jnp.float32)


def hidden(
    config: ModelConfig,
    params: tree.Params,
    token_BT: jax.Array,
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    dtype: jnp.dtype = jnp.float32,
    remat: str = "none",
    gather: Callable[[tree.BlockParams], tree.BlockParams] | None = None,
) -> jax.Array:
    """The residual stream after the last layer, before the final norm, [B, T, D].

    Args:
      config: The architecture.
      params: Parameters, `layers` one block for each layer or stacked.
      token_BT: Token ids.
      position_BT: Position of each token in its document; default 0 .. T-1.
      segment_BT: Tokens attend within equal segment ids only; default all equal.
      dtype: Of the operands of products.
      remat: One of `REMAT`; changes memory and time of a gradient, not its value.
      gather: Brings a layer's parameters together from several devices, on the way back
        once more; None where they are not cut.
    """
    if position_BT is None:
        position_BT = jnp.broadcast_to(jnp.arange(token_BT.shape[1])[None], token_BT.shape)
    if segment_BT is None:
        segment_BT = jnp.zeros_like(token_BT)
    arguments = config, params, token_BT, position_BT, segment_BT, dtype
    return _through_layers(*arguments, lambda x_BTD: None, remat, gather)[0]


def residual_streams(
    config: ModelConfig,
    params: tree.Params,
    token_BT: jax.Array,
    position_BT: jax.Array,
    segment_BT: jax.Array,
    place_P: jax.Array,
    dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
    """The residual stream after each layer at some places, [L, P, D].

    Args:
      config: As in `hidden`, and so the others.
      params: Likewise.
      token_BT: Likewise.
      position_BT: Likewise.
      segment_BT: Likewise.
      place_P: Flat indices b T + t.
      dtype: Likewise.
    """

    def keep(x_BTD: jax.Array) -> jax.Array:
        return x_BTD.reshape(-1, config.hidden_size)[place_P]

    arguments = config, params, token_BT, position_BT, segment_BT, dtype
    return jnp.concatenate(_through_layers(*arguments, keep)[1])


def _through_layers(
    config, params, token_BT, position_BT, segment_BT, dtype, keep, remat="none", gather=None
) -> tuple[jax.Array, list]:
    """The stream after the last layer, and by stack what `keep` makes of it after each layer."""
    tables, bias_BTS = rope.tables(config, position_BT), attention_bias(segment_BT)
    x_BTD, kept, layer = embed(params, token_BT), [], 0
    fused = fused_implementation(config.head_dim, token_BT.shape[1], dtype)
    for stacked in stacks(config, params):
        module = block(config, layer, dtype, fused)

        def step(x_BTD, params, module=module):
            params = params if gather is None else gather(params)
            x_BTD = module.apply({"params": params}, x_BTD, tables, bias_BTS)[0]
            return x_BTD, keep(x_BTD)

        x_BTD, found = jax.lax.scan(_rematerialised(step, remat, gather), x_BTD, stacked)
        kept.append(found)
        layer += jax.tree.leaves(stacked)[0].shape[0]
    return x_BTD, kept


def _rematerialised(step: Callable, remat: str, gather: Callable | None) -> Callable:
    if remat == "none" and gather is None:
        return step
    policies = jax.checkpoint_policies
    policy = {
        # What was gathered would be whole on every device.
        "none": lambda primitive, *_, **__: primitive.name != "sharding_constraint",
        "dots": policies.dots_saveable,
        "full": policies.nothing_saveable,
    }[remat]
    # A scan keeps the compiler from merging the second computation into the first one.
    return jax.checkpoint(step, policy=policy, prevent_cse=False)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def forward(
    config: ModelConfig,
    params: tree.Params,
    token_BT: jax.Array,
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
    """Logits [B, T, V], float32. Arguments as in `hidden`."""
    x_BTD = hidden(config, params, token_BT, position_BT, segment_BT, dtype)
    return head.logits(config, params, x_BTD, dtype)


def stacks(config: ModelConfig, params: tree.Params) -> tuple[tree.BlockParams, ...]:
    """The layers of `params` stacked, whether they came so or as one block each.

    Each stack has layers of one `LayerShape`. With LN-scaling their norms are scaled: what is
    returned is what acts.
    """
    layers = params["layers"]
    if tree.get(layers[0], "attention_norm").ndim == 1:
        layers = tree.stack(layers)
    depth = sum(tree.get(stacked, "attention_norm").shape[0] for stacked in layers)
    if depth != config.num_layers:
        raise ValueError(f"config has {config.num_layers} layers, the parameters have {depth}")
    return tree.scale_norms(config, _of_one_shape(config, layers))


def _of_one_shape(
    config: ModelConfig, stacks: Sequence[tree.BlockParams]
) -> Iterator[tree.BlockParams]:
    """The stacks, cut where neighbours differ in what is no weight: in their windows."""
    shapes = iter(config.layers)
    for stacked in stacks:
        count = tree.get(stacked, "attention_norm").shape[0]
        runs = [len([*run]) for _, run in itertools.groupby(itertools.islice(shapes, count))]
        ends = list(itertools.accumulate(runs))
        for start, end in zip([0, *ends], ends, strict=False):
            cut = slice(start, end)
            yield stacked if len(ends) == 1 else jax.tree.map(operator.itemgetter(cut), stacked)

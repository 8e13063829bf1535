"""A tiny model, a tiny packed text and a naive forward: the oracle of the sweep tests."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.interventions.variants import Edit, Step
from jaxanatomy.model import rope

CONFIG = ModelConfig.uniform(
    num_layers=5,
    num_heads=4,
    num_kv_heads=2,
    ffn_width=24,
    vocab_size=101,
    hidden_size=16,
    head_dim=4,
    context_length=64,
)
MIXED_SHAPES = CONFIG.with_layers(
    [LayerShape(4, 2, 24), LayerShape(4, 2, 24), LayerShape(2, 1, 24), LayerShape(4, 2, 8)]
)


def block_of(config: ModelConfig, layer: int, draw) -> tree.BlockParams:
    """A layer of arrays that `draw(shape)` gives, in the order of the forward pass."""
    leaves = tree.to_leaves(model.abstract_block(config, layer))
    return tree.from_leaves({path: draw(leaf.shape) for path, leaf in leaves.items()})


def random_params(config: ModelConfig, seed: int = 0) -> tree.Params:
    """Kernels large enough that every layer, head, norm and position matters."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        if len(shape) == 1:
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return 0.24 * rng.standard_normal(shape, dtype=np.float32)

    shape_VD = (config.vocab_size, config.hidden_size)
    params = {
        "embed": {"embedding": draw(shape_VD)},
        "layers": tuple(block_of(config, layer, draw) for layer in range(config.num_layers)),
        "final_norm": {"scale": draw((config.hidden_size,))},
    }
    return params if config.tie_embeddings else {**params, "unembed": {"embedding": draw(shape_VD)}}


def text(documents: int = 3, rows: int = 1, seed: int = 0) -> TextBatch:
    """Rows of 3 documents each, 4 to 6 tokens long, one of padding at the end of each row."""
    rng = np.random.default_rng(seed)
    lengths = [4, 6, 5][:documents]
    T = sum(lengths) + 1
    token_RT = rng.integers(0, CONFIG.vocab_size, (rows, T)).astype(np.int32)
    position_RT = np.tile(np.concatenate([*map(np.arange, lengths), [0]]), (rows, 1))
    segment_T = np.concatenate([np.repeat(np.arange(documents), lengths), [-1]])
    segment_RT = np.where(
        segment_T < 0, -1, segment_T + documents * np.arange(rows)[:, None]
    ).astype(np.int32)
    flat = segment_RT.reshape(-1)
    predict_P = np.flatnonzero((flat[1:] == flat[:-1]) & (flat[1:] >= 0)).astype(np.int32)
    return TextBatch(
        token_RT=token_RT,
        position_RT=position_RT.astype(np.int32),
        segment_RT=segment_RT,
        predict_P=predict_P,
        target_P=token_RT.reshape(-1)[predict_P + 1],
        document_P=flat[predict_P],
        first_P=position_RT.reshape(-1)[predict_P] == 0,
    )


def double(own, *others):
    """An edit that reads its own layer only."""
    return tree.replace(own, {name: 2 * tree.get(own, name) for name in tree.MATRICES})


def average(own, *others):
    """An edit that reads other layers, and would change norms too if its scope allowed."""
    blocks = (own, *others)
    means = {n: sum(tree.get(b, n) for b in blocks) / len(blocks) for n in tree.components(own)}
    return tree.replace(own, means)


def edited(layer: int, function=average, sources=(0, 1), scope=tree.MATRICES, **kwargs) -> Step:
    return Step(layer, Edit(function.__name__, function, sources, scope), **kwargs)


def replaced(steps, *new: Step):
    """The baseline's steps with some replaced at their layer."""
    by_layer = {step.layer: step for step in new}
    return tuple(by_layer.get(step.layer, step) for step in steps)


def naive_stream(config: ModelConfig, params, steps, batch: TextBatch) -> np.ndarray:
    """The residual stream after `steps`, one layer application at a time, [R, T, D]."""
    tables = rope.tables(config, jnp.asarray(batch.position_RT))
    bias = model.attention_bias(jnp.asarray(batch.segment_RT))
    x = model.embed(params, jnp.asarray(batch.token_RT))

    def run(params, layer, x, gate=None):
        return model.block(config, layer).apply({"params": params}, x, tables, bias, gate)[0]

    for step in steps:
        own = params["layers"][step.layer]
        block = own
        if step.edit is not None:
            sources = [params["layers"][source] for source in step.edit.sources]
            new = step.edit.function(own, *sources, **dict(step.edit.arguments))
            block = tree.replace(own, tree.components(new, step.edit.scope))
        num_heads = config.layers[step.layer].num_heads
        gate = np.ones((*batch.token_RT.shape, num_heads + 1), np.float32)
        for name in step.closed:
            columns = {"attention": range(num_heads), "mlp": [num_heads]}
            gate[..., columns.get(name) or [int(name.removeprefix("head_"))]] = 0
        selected = step.positions.select(batch.position_RT)[..., None]
        if step.edit is None:
            x = run(own, step.layer, x, jnp.where(selected, gate, 1.0))
        else:
            x = jnp.where(selected, run(block, step.layer, x, gate), run(own, step.layer, x))
    return x


def naive_kl(config: ModelConfig, params, steps, batch: TextBatch) -> np.ndarray:
    """KL(unedited model || variant) at each prediction, summed over whole logits in float64."""
    unedited = [Step(layer) for layer in range(config.num_layers)]
    log_p_PV, log_q_PV = (
        log_softmax(model.logits(config, params, naive_stream(config, params, each, batch)), batch)
        for each in (unedited, steps)
    )
    # Each term is 0 or above, so that a small sum keeps its digits.
    ratio_PV = log_q_PV - log_p_PV
    return (np.exp(log_p_PV) * (np.expm1(ratio_PV) - ratio_PV)).sum(axis=1)


def log_softmax(scores, batch: TextBatch) -> np.ndarray:
    """Of the scores at predicted positions, float64 [P, V]."""
    score_PV = np.asarray(scores, np.float64).reshape(-1, scores.shape[-1])[batch.predict_P]
    score_PV = score_PV - score_PV.max(axis=1, keepdims=True)
    return score_PV - np.log(np.exp(score_PV).sum(axis=1, keepdims=True))


def naive_nll(config: ModelConfig, params, steps, batch: TextBatch) -> np.ndarray:
    """Loss of each prediction from whole logits."""
    x = naive_stream(config, params, steps, batch)
    scores = model.logits(config, params, x)
    log_probability = jax.nn.log_softmax(scores.reshape(-1, config.vocab_size))
    return -np.asarray(log_probability[batch.predict_P, batch.target_P])

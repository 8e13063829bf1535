"""A tiny model, a tiny packed text and a naive forward: the oracle of the sweep tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.interventions.variants import Combination, Edit, Step
from jaxanatomy.model import rope
from jaxanatomy.sweep.reading import Probe, as_reading, probes_of

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


def text(documents: int = 3, rows: int = 1, seed: int = 0, start: int = 0) -> TextBatch:
    """Rows of 3 documents each, 4 to 6 tokens long, one of padding at the end of each row.

    Documents are numbered from `start`.
    """
    rng = np.random.default_rng(seed)
    lengths = [4, 6, 5][:documents]
    T = sum(lengths) + 1
    token_RT = rng.integers(0, CONFIG.vocab_size, (rows, T)).astype(np.int32)
    position_RT = np.tile(np.concatenate([*map(np.arange, lengths), [0]]), (rows, 1))
    segment_T = np.concatenate([np.repeat(np.arange(documents), lengths), [-1]])
    segment_RT = np.where(
        segment_T < 0, -1, segment_T + documents * np.arange(rows)[:, None] + start
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


def after_layer(config, layer, block, x_BTD, position_BT, segment_BT, gate_BTA=None):
    """The stream after one layer with these parameters; a gate opens its heads and, last, its MLP.

    Layers of one shape share a program: operation by operation, each would be one of its own.
    """
    module = model.block(config, layer)
    return _applied(config, module, block, x_BTD, position_BT, segment_BT, gate_BTA)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _applied(config, module, block, x_BTD, position_BT, segment_BT, gate_BTA):
    tables, bias_BTS = rope.tables(config, position_BT), model.attention_bias(segment_BT)
    return module.apply({"params": block}, x_BTD, tables, bias_BTS, gate_BTA)[0]


# The same of what reads the last stream, and of a whole forward pass.
logits = jax.jit(model.logits, static_argnums=0)
forward = jax.jit(model.forward, static_argnums=0)


def probes(**readings) -> tuple[Probe, ...]:
    """What a plan computes for some readings."""
    named = {name: as_reading(name, each) for name, each in readings.items()}
    return probes_of(CONFIG, named)[0]


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


def naive_stream(config: ModelConfig, params, steps, batch: TextBatch, x=None) -> np.ndarray:
    """The residual stream after `steps`, one layer application at a time, [R, T, D].

    They start from `x`, by default the embedded text.
    """
    x = model.embed(params, jnp.asarray(batch.token_RT)) if x is None else x
    for step in steps:
        x = naive_points(config, params, step, batch, x, inside=False)["block_out"]
    return x


def naive_trace(config: ModelConfig, params, steps, batch: TextBatch):
    """For each step that applies a layer the layer, and what stands at its points."""
    x = model.embed(params, jnp.asarray(batch.token_RT))
    found = []
    for step in steps:
        points = naive_points(config, params, step, batch, x)
        x = points["block_out"]
        if not isinstance(step, Combination):
            found.append((step.layer, points))
    return found


def naive_points(config, params, step, batch: TextBatch, x, inside: bool = True) -> dict:
    """What stands at the points of one step from a stream [R, T, D]; at the last one at least."""
    selected = step.positions.select(batch)[..., None]
    if isinstance(step, Combination):
        start = None if step.from_text else x
        terms = [(c, naive_stream(config, params, each, batch, start)) for c, each in step.terms]
        total = sum(c * stream for c, stream in terms)
        return {"block_out": jnp.where(selected, total, terms[0][1])}
    own = block = params["layers"][step.layer]
    if step.edit is not None:
        sources = [params["layers"][source] for source in step.edit.sources]
        new = step.edit.function(own, *sources, **dict(step.edit.arguments))
        block = tree.replace(own, tree.components(new, step.edit.scope))
    num_heads = config.layers[step.layer].num_heads
    gate = np.ones((*batch.token_RT.shape, num_heads + 2), np.float32)
    for name, factor in step.factors:
        columns = {"attention": range(num_heads + 1), "mlp": [num_heads + 1]}
        gate[..., columns.get(name) or [int(name.removeprefix("head_"))]] *= factor
    edited = _points(config, block, step.layer, x, batch, gate, inside)
    if selected.all():
        return edited
    clean = _points(config, own, step.layer, x, batch, np.ones_like(gate), inside)
    wide = {"attention": selected[:, None]}
    return {name: jnp.where(wide.get(name, selected), edited[name], clean[name]) for name in edited}


def _points(config, params, layer: int, x, batch: TextBatch, gate_RTA, inside: bool) -> dict:
    """The points of one layer; sublayers apart by closing the other one."""
    apply = functools.partial(
        after_layer, config, layer, params, x, batch.position_RT, batch.segment_RT
    )
    after = apply(gate_RTA)
    if not inside:
        return {"block_out": after}
    no_mlp_RTA = gate_RTA.copy()
    no_mlp_RTA[..., -1] = 0
    middle = apply(no_mlp_RTA)
    return {
        "block_in": x,
        "attention": naive_attention(config, params, layer, x, batch),
        "attention_out": middle - x,
        "mlp_hidden": naive_hidden(config, params, middle),
        "mlp_out": after - middle,
        "block_out": after,
    }


def naive_attention(config: ModelConfig, params, layer: int, x, batch: TextBatch) -> np.ndarray:
    """Attention weights [R, H, T, S] head by head and query by query, in float64."""
    w = {name: np.asarray(array, np.float64) for name, array in tree.components(params).items()}
    shape, d = config.layers[layer], config.head_dim
    R, T = batch.token_RT.shape
    found = np.zeros((R, shape.num_heads, T, T))
    for r, x_TD in enumerate(np.asarray(x, np.float64)):
        norm = np.sqrt((x_TD**2).mean(axis=1, keepdims=True) + config.norm_epsilon)
        h_TD = x_TD / norm * w["attention_norm"]
        for head in range(shape.num_heads):
            group = head // (shape.num_heads // shape.num_kv_heads)
            q = h_TD @ w["q_proj"][:, head * d : (head + 1) * d]
            k = h_TD @ w["k_proj"][:, group * d : (group + 1) * d]
            for t in range(T):
                keys = [s for s in range(t + 1) if batch.segment_RT[r, s] == batch.segment_RT[r, t]]
                query = _rotated(q[t], batch.position_RT[r, t])
                score = [query @ _rotated(k[s], batch.position_RT[r, s]) / np.sqrt(d) for s in keys]
                weight = np.exp(np.array(score) - max(score))
                found[r, head, t, keys] = weight / weight.sum()
    return found


def naive_hidden(config: ModelConfig, params, x) -> np.ndarray:
    """What down_proj reads of a stream [R, T, D] that attention has written to, in float64."""
    w = {name: np.asarray(array, np.float64) for name, array in tree.components(params).items()}
    x = np.asarray(x, np.float64)
    norm = np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.norm_epsilon)
    h = x / norm * w["mlp_norm"]
    gate = h @ w["gate_proj"]
    return gate / (1 + np.exp(-gate)) * (h @ w["up_proj"])


def _rotated(x_d: np.ndarray, position: int) -> np.ndarray:
    half = len(x_d) // 2
    angle = position * 10_000.0 ** (-np.arange(half) / half)
    turned = (x_d[:half] + 1j * x_d[half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag])


def naive_kl(config: ModelConfig, params, steps, batch: TextBatch) -> np.ndarray:
    """KL(unedited model || variant) at each prediction, summed over whole logits in float64."""
    unedited = [Step(layer) for layer in range(config.num_layers)]
    log_p_PV, log_q_PV = (
        log_softmax(logits(config, params, naive_stream(config, params, each, batch)), batch)
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
    scores = logits(config, params, x)
    log_probability = jax.nn.log_softmax(scores.reshape(-1, config.vocab_size))
    return -np.asarray(log_probability[batch.predict_P, batch.target_P])

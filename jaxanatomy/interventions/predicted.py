"""A layer replaced by the prediction from the layers before it."""

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.prediction import FIRST_TARGET, ridge_weights
from jaxanatomy.interventions.variants import Edit, Step


def predicted(own: tree.Block, *earlier: tree.Block, num_layers: int) -> tree.Block:
    """W_t <- sum_l a_l W_l over the layers l < t, for all seven matrices (AH section 4.2).

    The weights a are those of the paper's ridge regression on the layer index, see
    `jaxanatomy.forensics.prediction.ridge_weights`. Works on NumPy arrays: every t has
    another number of sources, which would be a compilation each, and the sum is bound by
    memory anyway.

    Args:
      own: The layer's own block; its norms stay, its matrices are not read.
      *earlier: The blocks of layers 0 .. t-1, in order; their number is t.
      num_layers: N, layers of the model.
    """
    target = len(earlier)
    weights = ridge_weights(range(target), target, num_layers).astype(np.float32)
    return tree.replace(
        own,
        {
            name: _weighted_sum(weights, [tree.get(block, name) for block in earlier])
            for name in tree.MATRICES
        },
    )


def predicted_step(config: ModelConfig, layer: int) -> Step:
    """The step that stands for a layer whose matrices are predicted.

    Always from unedited layers, so in a set of predicted layers each is what it would be
    alone.

    Raises:
      InputError: A layer before 2 or beyond the last, or an earlier layer of another shape.
    """
    if not FIRST_TARGET <= layer < config.num_layers:
        raise InputError(
            f"predicted weights exist for layers {FIRST_TARGET} to {config.num_layers - 1} of "
            f"this model, from all the layers before; got layer {layer}; name another"
        )
    for source in range(layer):
        if config.layers[source] != config.layers[layer]:
            raise InputError(
                f"predicted weights of layer {layer} need earlier layers of its shape "
                f"({_words(config.layers[layer])}); layer {source} has "
                f"{_words(config.layers[source])}; name another layer or strategy"
            )
    edit = Edit(
        name="predicted",
        function=predicted,
        sources=tuple(range(layer)),
        arguments=(("num_layers", config.num_layers),),
        on_host=True,
    )
    return Step(layer, edit=edit)


def _weighted_sum(weights: np.ndarray, matrices: list[tree.Array]) -> np.ndarray:
    total = np.zeros(matrices[0].shape, np.float32)
    for weight, matrix in zip(weights, matrices, strict=True):
        total += weight * np.asarray(matrix, np.float32)
    return total


def _words(shape: LayerShape) -> str:
    return f"{shape.num_heads} heads, {shape.num_kv_heads} KV heads, FFN width {shape.ffn_width}"

"""A layer replaced by the prediction from the layers before it."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.prediction import ridge_weights, targets
from jaxanatomy.interventions.noise import add_noise_of_norm, generator_of
from jaxanatomy.interventions.sets import PAPER, PAPER_DEPTH
from jaxanatomy.interventions.variants import (
    BASELINE,
    DRAWS,
    Edit,
    Step,
    Variant,
    baseline_steps,
    name_of_draw,
)


def predicted(
    own: tree.BlockParams, *earlier: tree.BlockParams, num_layers: int
) -> tree.BlockParams:
    """W_t <- sum_l a_l W_l over the layers l < t, for all seven matrices (AH section 4.2).

    Biases are predicted with their matrices.

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
            for name in tree.components(own, tree.MATRICES)
        },
    )


def predicted_noise(
    own: tree.BlockParams, *earlier: tree.BlockParams, num_layers: int, seed: int = 0
) -> tree.BlockParams:
    """The control of `predicted`: W_t plus noise as large as the error of the prediction.

    For each of the seven matrices, and each bias, Gaussian noise with the norm of the
    difference between the predicted and the true one, so that what is left to tell the two
    apart is the error's direction. Drawn from `noise.generator_of`; NumPy arrays.

    Args:
      own: The layer's own block; its norms stay.
      *earlier: The blocks of layers 0 .. t-1, in order; their number is t.
      num_layers: N, layers of the model.
      seed: Which draw.
    """
    block = predicted(own, *earlier, num_layers=num_layers)

    def noised(name: str) -> np.ndarray:
        kernel = np.asarray(tree.get(own, name))
        error = np.asarray(tree.get(block, name), np.float64) - kernel.astype(np.float64)
        generator = generator_of(seed, len(earlier), name)
        return add_noise_of_norm(kernel, float(np.linalg.norm(error)), generator)

    return tree.replace(own, {name: noised(name) for name in tree.components(own, tree.MATRICES)})


def predicted_step(
    config: ModelConfig,
    layer: int,
    function: Callable[..., tree.BlockParams] = predicted,
    **arguments: int,
) -> Step:
    """The step that stands for a layer whose matrices are predicted.

    Args:
      config: The model.
      layer: The layer.
      function: `predicted`, or its control `predicted_noise`.
      **arguments: More of the function: the `seed` of the control.

    Always from unedited layers, so in a set of predicted layers each is what it would be
    alone.

    Raises:
      InputError: A layer before 2 or beyond the last, or an earlier layer of another shape.
    """
    known = targets(config.num_layers)
    if layer not in known:
        raise InputError(
            f"predicted weights exist for layers {known.start} to {known.stop - 1} of this model, "
            f"from all the layers before; got layer {layer}; name another"
        )
    for source in range(layer):
        if config.layers[source].weight_shape != config.layers[layer].weight_shape:
            raise InputError(
                f"predicted weights of layer {layer} need earlier layers of its shape "
                f"({_words(config.layers[layer])}); layer {source} has "
                f"{_words(config.layers[source])}; name another layer or strategy"
            )
    edit = Edit(
        name=function.__name__,
        function=function,
        sources=tuple(range(layer)),
        arguments=(("num_layers", config.num_layers), *arguments.items()),
        on_host=True,
    )
    return Step(layer, edit=edit)


def prediction_sets(num_layers: int, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The sets of layers that get predicted weights, by name.

    The paper replaces 1 and "9+" layers without naming them (AH section 4.2). Here, among
    the layers 2 .. L-1 that can be predicted: `layer_t` for each; for each size k
    `even_k`, the middle layers of k equal parts, and `last_k`; and `paper_inner` where the
    model has the paper's depth.

    Args:
      num_layers: L.
      sizes: Those larger than the number of layers that can be predicted have no set.
    """
    layers = targets(num_layers)
    sets = {f"layer_{layer}": (layer,) for layer in layers}
    for size in sizes:
        if size <= len(layers):
            middles = [(2 * part + 1) * len(layers) // (2 * size) for part in range(size)]
            sets[f"even_{size}"] = tuple(layers[middle] for middle in middles)
            sets[f"last_{size}"] = tuple(layers[-size:])
    if num_layers == PAPER_DEPTH:
        sets["paper_inner"] = PAPER[1:-1]
    return sets


def prediction_variants(
    config: ModelConfig, sizes: Sequence[int], draws: int = DRAWS
) -> list[Variant]:
    """The function test: each set predicted and, to compare, deleted and with as much noise.

    The baseline is first; the noise comes in several `draws`, named "predicted_noise#1/SET" from
    the second. Labels: `reading` ("function"), `strategy` ("none", "predicted", "zero",
    "predicted_noise"), `set`, `layers`, `draw` (of noise).

    Raises:
      InputError: as `predicted_step`.
    """
    steps = baseline_steps(config.num_layers)

    def variant(strategy: str, name: str | None, layers, its_steps, draw: int = 0) -> Variant:
        labels = {"reading": "function", "strategy": strategy, "set": name, "layers": layers}
        labels["draw"] = draw if strategy == "predicted_noise" else None
        full_name = f"{name_of_draw(strategy, draw)}/{name}" if name else BASELINE
        return Variant(full_name, its_steps, labels=labels)

    def replaced(layers, *change, **arguments) -> tuple[Step, ...]:
        return tuple(
            predicted_step(config, step.layer, *change, **arguments)
            if step.layer in layers
            else step
            for step in steps
        )

    variants = [variant("none", None, (), steps)]
    for name, layers in prediction_sets(config.num_layers, sizes).items():
        rest = tuple(step for step in steps if step.layer not in layers)
        variants.append(variant("predicted", name, layers, replaced(layers)))
        variants.append(variant("zero", name, layers, rest))
        for draw in range(draws):
            noised = replaced(layers, predicted_noise, seed=draw)
            variants.append(variant("predicted_noise", name, layers, noised, draw))
    return variants


def _weighted_sum(weights: np.ndarray, matrices: list[tree.Array]) -> np.ndarray:
    total = np.zeros(matrices[0].shape, np.float32)
    for weight, matrix in zip(weights, matrices, strict=True):
        total += weight * np.asarray(matrix, np.float32)
    return total


def _words(shape: LayerShape) -> str:
    return f"{shape.num_heads} heads, {shape.num_kv_heads} KV heads, FFN width {shape.ffn_width}"

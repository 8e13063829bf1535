"""The variants of the function test of predictability: predicted, deleted, with as much noise."""

import dataclasses
from collections.abc import Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics.prediction import targets
from jaxanatomy.interventions.intervention import Intervention, variant
from jaxanatomy.interventions.registry import INTERVENTIONS
from jaxanatomy.interventions.sets import PAPER_DEPTH, parse_set
from jaxanatomy.interventions.variants import BASELINE, DRAWS, Variant, baseline_steps
from jaxanatomy.interventions.where import Where


def prediction_sets(num_layers: int, sizes: Sequence[int]) -> list[Where]:
    """The sets of layers that get predicted weights.

    The paper replaces 1 and "9+" layers without naming them (AH section 4.2). Here, among
    the layers 2 .. L-1 that can be predicted: each alone; for each size k `even_k`, the middle
    layers of k equal parts, and `last_k`; and `paper_inner` where the model has the paper's
    depth.

    Args:
      num_layers: L.
      sizes: Those larger than the number of layers that can be predicted have no set.
    """
    layers = targets(num_layers)
    names = [str(layer) for layer in layers]
    names += [f"{kind}_{k}" for k in sizes if k <= len(layers) for kind in ("even", "last")]
    if num_layers == PAPER_DEPTH:
        names.append("paper_inner")
    return [parse_set(num_layers, name) for name in names]


def prediction_variants(
    config: ModelConfig, sizes: Sequence[int], draws: int = DRAWS
) -> list[Variant]:
    """The function test: each set predicted and, to compare, deleted and with as much noise.

    The baseline is first; the noise comes in several `draws`, named "predicted_noise#1/set/SET"
    from the second. Labels: `reading` ("function"), `strategy` ("none", "predicted", "zero",
    "predicted_noise"), `set`, `layers`, `draw` (of noise).

    Raises:
      InputError: A layer whose earlier layers have another shape.
    """
    labels = {"reading": "function", "strategy": "none", "set": None, "layers": (), "draw": None}
    variants = [Variant(BASELINE, baseline_steps(config.num_layers), labels=labels)]
    noise = INTERVENTIONS["predicted_noise"].drawn(draws)
    changes = (INTERVENTIONS["predicted"], INTERVENTIONS["zero"], *noise)
    for layers in prediction_sets(config.num_layers, sizes):
        variants += [_variant(config, change, layers) for change in changes]
    return variants


def _variant(config: ModelConfig, change: Intervention, layers: Where) -> Variant:
    draw = change.draw if change.is_random else None
    made = variant(config, change, layers, reading="function", draw=draw)
    labels = {name: value for name, value in made.labels.items() if name not in ("alpha", "rank")}
    return dataclasses.replace(made, labels=labels)  # what predicts takes neither

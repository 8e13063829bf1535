"""Growth of a trained model as variants of a sweep, beside maps that mean nothing.

What copied layers cost before any training needs no new weights: a copied layer is one
step more. The nulls keep the number of the new layers, the first two their places as well.
"""

import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.maps import OPERATORS, GrowthMap, Sources, copy_after_itself, growth_map
from jaxanatomy.interventions.variants import Step, Steps, Variant, baseline, closed

NULLS = {
    "random_layers": "null: random layers of the model in the places of the new ones",
    "random_order": "null: the same new layers in random order",
    "random_place": "null: blocks copied after themselves as by lidas, but at random places",
}


def growth_steps(growth: GrowthMap) -> Steps:
    """The grown model as steps; a layer whose output is zero has both parts closed."""
    return tuple(
        Step(source, factors=closed("attention", "mlp") if layer in growth.zeroed else ())
        for layer, source in enumerate(growth.sources)
    )


def growth_variants(
    config: ModelConfig, operator: str, block: int, target: int, draws: int, seed: int = 0
) -> tuple[list[Variant], dict[str, str]]:
    """The ungrown model, every operator to the same depth, and the nulls of one of them.

    Args:
      config: The model.
      operator: The operator that the nulls belong to, one of `OPERATORS`.
      block: Layers that a growth step adds.
      target: Layers of the grown model.
      draws: Of each null.
      seed: Of the draws.

    Returns:
      (variants, absent): variants named "grow/midas", "random_layers/0", with labels
      `operator`, `draw`, `layers`; the operators that do not take these numbers, and why.

    Raises:
      InputError: `operator` does not take these numbers.
    """
    chosen = growth_map(operator, config.num_layers, block, target)
    base = baseline(config.num_layers)
    variants = [Variant(base.name, base.steps, labels=_labels("none", None, ()))]
    absent = {}
    for name in OPERATORS:
        try:
            growth = growth_map(name, config.num_layers, block, target)
        except InputError as error:
            absent[name] = str(error)
            continue
        labels = _labels(name, None, _new(growth))
        variants.append(Variant(f"grow/{name}", growth_steps(growth), labels=labels))
    for name, drawn in null_maps(chosen, block, draws, seed).items():
        for draw, (sources, layers) in enumerate(drawn):
            steps = tuple(map(Step, sources))
            labels = _labels(name, draw, layers)
            variants.append(Variant(f"{name}/{draw}", steps, labels=labels))
    return variants, absent


def null_maps(
    growth: GrowthMap, block: int, draws: int, seed: int = 0
) -> dict[str, list[tuple[Sources, Sources]]]:
    """For each null and draw the layers of the grown model, and the new ones among them.

    `random_order` never is the map's own order, and has no draws where that is the only one;
    `random_place` has none for a block that is longer than the model.

    Args:
      growth: The map that they belong to.
      block: Layers that one of its steps adds.
      draws: Of each null.
      seed: Of the draws.
    """
    found: dict[str, list[tuple[Sources, Sources]]] = {name: [] for name in NULLS}
    own = _new(growth)
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        anywhere = tuple(rng.integers(0, growth.num_sources, len(own)).tolist())
        found["random_layers"].append((_replaced(growth, anywhere), anywhere))
        order = own
        while order == own and len(set(own)) > 1:
            order = tuple(rng.permutation(own).tolist())
        if order != own:
            found["random_order"].append((_replaced(growth, order), order))
        if block <= growth.num_sources:
            sources = tuple(range(growth.num_sources))
            for depth in range(growth.num_sources, growth.num_layers, block):
                start = int(rng.integers(0, depth - block + 1))
                step = copy_after_itself(depth, start, block)
                sources = tuple(sources[layer] for layer in step)
            found["random_place"].append((sources, _new(GrowthMap(sources))))
    return found


def _replaced(growth: GrowthMap, layers: Sources) -> Sources:
    """The map's sources with others in the places of the new layers."""
    by_place = dict(zip(growth.inserted, layers, strict=True))
    return tuple(by_place.get(at, source) for at, source in enumerate(growth.sources))


def _new(growth: GrowthMap) -> Sources:
    return tuple(growth.sources[layer] for layer in growth.inserted)


def _labels(operator: str, draw: int | None, layers: tuple[int, ...]) -> dict:
    return {"operator": operator, "draw": draw, "layers": list(layers)}

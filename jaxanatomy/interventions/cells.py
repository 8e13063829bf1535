"""Ablations of one layer at a time as lists of variants."""

from collections.abc import Iterable, Sequence

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, require_unique, require_whole
from jaxanatomy.interventions.intervention import Intervention, variant
from jaxanatomy.interventions.registry import INTERVENTIONS, choose_intervention
from jaxanatomy.interventions.scopes import all_scopes, choose_scope, head_index
from jaxanatomy.interventions.variants import DRAWS, Positions, Variant, baseline
from jaxanatomy.interventions.where import choose_positions, one
from jaxanatomy.ranges import parse_layers

Names = Sequence[str | Intervention]
# What the protocol does to every whole layer: the neighbour mean, and its controls.
CONTROLS = (
    "neighbour_mean",
    "neighbour_mean_with_norms",
    "zero",
    "copy_previous",
    "copy_next",
    "rescaled_mean",
    "aligned_mean",
    "matched_noise",
    "permuted_rows",
)


def ablations(
    config: ModelConfig,
    interventions: Names | None = None,
    scopes: Sequence[str] | None = None,
    positions: Sequence[str | Positions] | None = None,
    layers: str | Iterable[int | str] | None = None,
    draws: int = DRAWS,
) -> list[Variant]:
    """The baseline, and each intervention on each scope, at each choice of positions and layer.

    Args:
      config: The model.
      interventions: Names (`registry.INTERVENTIONS`) or interventions of one's own;
        default: neighbour_mean.
      scopes: Parts of a layer (`scopes.all_scopes`); default: the whole layer.
      positions: "all", "first", "others" or `Positions`; default: all.
      layers: Layers to change, one per variant: [3, 5], "0-12", [0, "5-8"]; default: all. An
        intervention is left out at layers where it does not exist (copy_previous at layer
        0), a head at layers that have fewer heads.
      draws: Of an intervention that is random (matched_noise, permuted_rows); one that names
        its draw, as matched_noise#2, has that alone.

    Returns:
      Variants with unique names, the baseline first. One is called
      INTERVENTION[#DRAW]/SCOPE[@POSITIONS]/LAYER; draw 0 is not named.

    Raises:
      InputError: an unknown name, a layer out of range, anything named twice, an
        intervention that exists at none of the layers, layers of different shapes.
    """
    chosen = [
        choose_intervention(i) for i in _listed("interventions", interventions, ("neighbour_mean",))
    ]
    scope_names = [choose_scope(config, scope) for scope in _listed("scopes", scopes, ("layer",))]
    places = [choose_positions(p) for p in _listed("positions", positions, ("all",))]
    numbers = parse_layers(layers, config.num_layers)
    variants = [baseline(config.num_layers)]
    for intervention in _every_draw(chosen, draws):
        found = [
            variant(config, intervention, one(layer, scope, place))
            for scope in scope_names
            for place in places
            for layer in numbers
            if _exists(config, intervention, scope, layer)
        ]
        if not found:
            raise InputError(
                f"{intervention.set_name} of {', '.join(scope_names)} must exist at one layer or "
                f"more; {intervention.set_name} exists at {intervention.sources.where}; got layers "
                f"{', '.join(map(str, numbers))}; name other layers"
            )
        variants += found
    require_unique("variants", [each.name for each in variants])
    return variants


def main_map(config: ModelConfig, boundary: bool = False) -> list[Variant]:
    """The importance map: the neighbour mean of every inner layer (AH section 3.2).

    Args:
      config: The model.
      boundary: Whether to add the first and the last layer, which have one neighbour:
        it is copied, and the variant flagged `boundary`. (AH Table 1 prints 0.0 there.)
    """
    return [each for each in ablations(config) if boundary or not each.labels.get("boundary")]


def protocol_cells(config: ModelConfig, draws: int = DRAWS) -> list[Variant]:
    """The full importance protocol: the map, its controls, and its parts.

    Controls that are random come in several `draws`.

    The whole layer under all nine interventions; neighbour_mean and zero of the layer at
    the first token alone and at the others alone; attention and MLP under both, zero also
    at first and others; each of the seven matrices under both; each query head zeroed.
    """
    both, edges = ("neighbour_mean", "zero"), ("first", "others")
    heads = [scope for scope in all_scopes(config) if head_index(scope) is not None]
    nine = [name for name in CONTROLS if _is_anywhere(config, name)]
    both = [name for name in both if name in nine]
    groups = (
        (nine, ["layer"], ["all"]),
        (both, ["layer"], edges),
        (both, ["attention", "mlp"], ["all"]),
        (["zero"], ["attention", "mlp"], edges),
        (both, tree.MATRICES, ["all"]),
        (["zero"], heads, ["all"]),
    )
    variants = [baseline(config.num_layers)]
    for interventions, scope_names, places in groups:
        variants += ablations(config, interventions, scope_names, places, draws=draws)[1:]
    return variants


def _every_draw(chosen: Sequence[Intervention], draws: int) -> list[Intervention]:
    """What is random in all its draws, unless one is named."""
    require_whole("draws", draws, remedy=f"{DRAWS} is usual")
    return [drawn for each in chosen for drawn in ((each,) if each.draw else each.drawn(draws))]


def _exists(config: ModelConfig, intervention: Intervention, scope: str, layer: int) -> bool:
    head = head_index(scope)
    if head is not None and head >= config.layers[layer].num_heads:
        return False
    return intervention.exists(config, one(layer))


def _is_anywhere(config: ModelConfig, name: str) -> bool:
    """Whether an intervention exists at all: a model of one layer has no neighbours."""
    layers = range(config.num_layers)
    return any(INTERVENTIONS[name].exists(config, one(layer)) for layer in layers)


def _listed(kind: str, given: Sequence | None, default: Sequence) -> list:
    if given is None:
        return list(default)
    if isinstance(given, str | Intervention | Positions):
        given = [given]
    if not given:
        raise InputError(f"{kind} must name at least one; got an empty list")
    require_unique(kind, [getattr(item, "name", item) for item in given])
    return list(given)

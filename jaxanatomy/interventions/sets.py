"""Sets of layers that are changed at once, by name (AH sections 3.5 and 4.4)."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.perturbations import layer_order
from jaxanatomy.ranges import parse_ranges

# The nine layers that AH section 4.1 finds redundant in a model of 30. Two of them are the
# first and the last, which AH Table 1 prints as 0.0 because they were not measured.
PAPER = (0, 3, 5, 6, 12, 14, 17, 19, 29)
PAPER_DEPTH = 30
REDUNDANT_PERCENT = 10.0
MEASURED_SIZE = 9
LARGEST_LEAST = 12
MIN_LAYERS = 4
MAIN_SETS = ("measured", "paper", "paper_inner")
FORMS = {
    "measured": "neighbour mean below +10 % perplexity, or the nine least degraded if fewer",
    "paper": "the nine redundant layers of AH, 0 and 29 among them (models of 30 layers)",
    "paper_inner": "the same without the first and the last layer",
    "least_K": "the K inner layers whose neighbour mean degrades least",
    "pair_A_B": "two layers",
    "layer_A": "one layer",
    "random_K_sS": "the first K layers of a random order of seed S, nested in K",
    "layers_A_B_C": "layers of your own; ranges too, as in layers_3-7_9",
}

Degradation = Mapping[int, float]


@dataclasses.dataclass(frozen=True)
class LayerSet:
    """Layers that are changed together.

    Attributes:
      name: As it stands in names of variants and in rows.
      layers: One or more, counted from 0, in ascending order.
    """

    name: str
    layers: tuple[int, ...]

    def __post_init__(self):
        if not self.layers:
            raise InputError(f"set {self.name!r} must hold at least one layer; got none; name one")
        if self.layers[0] < 0 or list(self.layers) != sorted(set(self.layers)):
            raise InputError(
                f"set {self.name!r} must hold layers from 0 on in ascending order, each once; got "
                f"{', '.join(map(str, self.layers))}; leave the repetition out"
            )


def named_sets(config: ModelConfig, degradation: Degradation) -> dict[str, LayerSet]:
    """The sets of the protocol for a model, by name.

    Args:
      config: The model.
      degradation: Of each inner layer's neighbour mean, in percent; infinite allowed.

    Returns:
      measured, paper and paper_inner (in models of 30 layers), least_1 .. least_12 as far
      as there are inner layers, and the 36 pairs of `PAPER` (30 layers again).

    Raises:
      InputError: A model of fewer than four layers, or `degradation` of other layers.
    """
    _require_depth(config)
    count = len(_ranked(config, _given("measured", degradation)))
    names = ["measured", *(f"least_{k}" for k in range(1, min(LARGEST_LEAST, count) + 1))]
    if config.num_layers == PAPER_DEPTH:
        names[1:1] = ["paper", "paper_inner"]
        names += [layer_set.name for layer_set in pairs(PAPER)]
    return {name: parse_set(config, name, degradation) for name in names}


def parse_set(config: ModelConfig, name: str, degradation: Degradation | None = None) -> LayerSet:
    """The set of a name; see `FORMS`.

    Args:
      config: The model.
      name: For example "paper", "least_3", "layer_11", "layers_3_5", "layers_3-7_9". A set is
        named by its layers in ascending order, however they came.
      degradation: Of each inner layer's neighbour mean, in percent; `measured` and
        `least_K` need it.

    Raises:
      InputError: An unknown name (the message has the closest), a layer that does not
        exist or comes twice, all layers of the model, a model of fewer than four layers.
    """
    _require_depth(config)
    if name in ("paper", "paper_inner"):
        return _paper(config, name)
    if name == "measured":
        return measured(config, _given(name, degradation))
    if match := re.fullmatch(r"least_(\d+)", str(name)):
        return least(config, _given(name, degradation), int(match[1]))
    if match := re.fullmatch(r"random_(\d+)_s(\d+)", str(name)):
        return random_set(config, int(match[1]), int(match[2]))
    if match := re.fullmatch(r"(layer_\d+|pair_\d+_\d+|layers(_\d+(-\d+)?)+)", str(name)):
        kind, *numbers = match[0].split("_")
        layers = _checked(config, name, parse_ranges(numbers, f"set {name!r}"))
        return LayerSet("_".join([kind, *map(str, layers)]), layers)
    raise InputError(_unknown(name))


def parse_sets(
    config: ModelConfig,
    given: Sequence[str | Iterable[int]],
    degradation: Degradation | None = None,
) -> list[LayerSet]:
    """Several sets, each once.

    Args:
      config: The model.
      given: Names of sets as `parse_set` takes them, or the layers themselves: ["paper", [3, 5]].
      degradation: Of each inner layer's neighbour mean, in percent; `measured` and
        `least_K` need it.

    Raises:
      InputError: as `parse_set`; a set that is neither a name nor a list of layers; the same
        set, or the same layers under two names. Only sets that a measurement or a draw
        chooses (`measured`, `least_K`, `random_K_sS`) may turn out to be those of another.
    """
    sets = [
        parse_set(config, each, degradation) if isinstance(each, str) else set_of(config, each)
        for each in given
    ]
    names: set[str] = set()
    by_layers: dict[tuple[int, ...], str] = {}
    for each in sets:
        if each.name in names:
            raise InputError(f"each set may come once; got {each.name!r} twice; leave one out")
        names.add(each.name)
        if re.match("layer|pair|paper", each.name):
            other = by_layers.setdefault(each.layers, each.name)
            if other != each.name:
                raise InputError(
                    f"each set may come once; {other!r} and {each.name!r} are the same layers; "
                    "leave one out"
                )
    return sets


def set_of(config: ModelConfig, layers: Iterable[int]) -> LayerSet:
    """The set of some layers, named by them: `layers_3_5`.

    Raises:
      InputError: No list of whole numbers, no layers, a layer that does not exist or comes
        twice, all layers of the model, a model of fewer than four layers.
    """
    _require_depth(config)
    if not isinstance(layers, Iterable):
        raise InputError(
            f"a set is a name or a list of whole numbers; got {layers!r}; write one layer as "
            "'layer_3' or [3], more as 'layers_3_5' or [3, 5]"
        )
    numbers = parse_ranges(layers, "a set")
    chosen = _checked(config, str(numbers), numbers)
    return LayerSet("_".join(["layers", *map(str, chosen)]), chosen)


def needs_degradation(name: str) -> bool:
    """Whether a set is chosen by the neighbour means: `measured` and `least_K` are."""
    return name == "measured" or re.fullmatch(r"least_\d+", str(name)) is not None


def measured(config: ModelConfig, degradation: Degradation) -> LayerSet:
    """The redundant layers of this model: the neighbour mean costs less than 10 %.

    Where fewer than nine are that cheap it is the nine least degraded ones, as many as the
    paper's (or all inner layers, if there are not nine).
    """
    ranked = _ranked(config, degradation)
    cheap = sum(degradation[layer] < REDUNDANT_PERCENT for layer in ranked)
    return LayerSet("measured", tuple(sorted(ranked[: max(cheap, MEASURED_SIZE)])))


def least(config: ModelConfig, degradation: Degradation, count: int) -> LayerSet:
    """The `count` inner layers that degrade least; of equal ones the lower index."""
    ranked = _ranked(config, degradation)
    if not 1 <= count <= len(ranked):
        raise InputError(
            f"least_K takes 1 to {len(ranked)} of this model's inner layers; got least_{count}"
        )
    return LayerSet(f"least_{count}", tuple(sorted(ranked[:count])))


def pairs(layers: Sequence[int]) -> list[LayerSet]:
    """Every two of some layers; AH Table 4 has rows of two layers that it does not name."""
    return [
        LayerSet(f"pair_{first}_{second}", (first, second))
        for first, second in itertools.combinations(sorted(layers), 2)
    ]


def random_set(config: ModelConfig, count: int, seed: int) -> LayerSet:
    """The first `count` of all layers in a random order, see `perturbations.layer_order`.

    Sets of one seed are nested. All layers may be in one.
    """
    if not 1 <= count <= config.num_layers:
        raise InputError(
            f"random_K_sS takes 1 to {config.num_layers} layers of this model; got {count}"
        )
    order = layer_order(config.num_layers, seed)
    return LayerSet(f"random_{count}_s{seed}", tuple(sorted(order[:count])))


def nearest_outside(
    num_layers: int, layers: Iterable[int], layer: int, count: int, *, higher: bool = False
) -> tuple[tuple[int, int], ...]:
    """The layers nearest to `layer` that are not in a set (AH section 3.5).

    Args:
      num_layers: Depth of the model.
      layers: The set.
      layer: One of them.
      count: How many to find.
      higher: Of two equally near layers the higher one comes first, else the lower.

    Returns:
      `count` pairs (layer, distance in layers), nearest first.

    Raises:
      InputError: Fewer than `count` layers are outside the set.
    """
    inside = frozenset(layers)
    outside = [other for other in range(num_layers) if other not in inside]
    if len(outside) < count:
        raise InputError(
            f"layer {layer} needs {count} of the {num_layers} layers outside its set to be made "
            f"from; got a set of {len(inside)}; take layers out of the set"
        )
    sign = -1 if higher else 1
    nearest = sorted(outside, key=lambda other: (abs(other - layer), sign * other))
    return tuple((other, abs(other - layer)) for other in nearest[:count])


def _paper(config: ModelConfig, name: str) -> LayerSet:
    if config.num_layers != PAPER_DEPTH:
        raise InputError(
            f"set {name!r} is of a model of {PAPER_DEPTH} layers; this one has "
            f"{config.num_layers}; take 'measured' or name layers, for example 'layers_1_2'"
        )
    return LayerSet(name, PAPER[1:-1] if name == "paper_inner" else PAPER)


def _ranked(config: ModelConfig, degradation: Degradation) -> list[int]:
    """Inner layers, the least degraded first."""
    inner = range(1, config.num_layers - 1)
    if sorted(degradation) != list(inner):
        raise InputError(
            f"the degradation of inner layers 1 to {config.num_layers - 2} is needed, and of no "
            f"other; got layers {', '.join(map(str, sorted(degradation))) or 'none'}"
        )
    for layer in inner:
        if math.isnan(degradation[layer]):
            raise InputError(
                f"the degradation of layer {layer} must be a number or infinite; got NaN; "
                "measure it again, or name layers yourself"
            )
    return sorted(inner, key=lambda layer: (degradation[layer], layer))


def _checked(config: ModelConfig, name: str, numbers: Iterable[int]) -> tuple[int, ...]:
    layers = sorted(numbers)
    for layer in layers:
        if not 0 <= layer < config.num_layers:
            raise InputError(
                f"layers of this model are 0 to {config.num_layers - 1}; got {layer} in {name!r}"
            )
    if len(set(layers)) == config.num_layers:
        raise InputError(
            f"a set must leave at least one of the {config.num_layers} layers as it is, for there "
            f"is nothing left to clone from; got {name!r}; leave layers out"
        )
    return tuple(layers)


def _given(name: str, degradation: Degradation | None) -> Degradation:
    if degradation is None:
        raise InputError(
            f"set {name!r} is chosen by the degradation of the neighbour means, which is not "
            "measured here; name the layers, for example 'layers_3_5'"
        )
    return degradation


def _require_depth(config: ModelConfig) -> None:
    if config.num_layers < MIN_LAYERS:
        raise InputError(
            f"sets of layers need a model of {MIN_LAYERS} layers or more; got "
            f"{config.num_layers}; take a deeper model"
        )


def _unknown(name: str) -> str:
    """What to say of a name without a meaning, the empty set "layers" among them."""
    try:
        choose("layer set", name, FORMS)
    except InputError as error:
        return f"{error} (a capital stands for a number, as in 'layers_3_5')"
    return f"a set needs numbers for the capitals of {name!r}, as in 'layers_3_5'"

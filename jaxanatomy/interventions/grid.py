"""The variants of the manipulation experiment: strategies by sets (AH section 4.4)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, require_unique
from jaxanatomy.interventions.low_rank import Rank, largest_rank
from jaxanatomy.interventions.sets import (
    MAIN_SETS,
    Degradation,
    LayerSet,
    named_sets,
    needs_degradation,
    parse_set,
    parse_sets,
)
from jaxanatomy.interventions.strategies import (
    STRATEGIES,
    canonical_name,
    parse_strategy,
    strategy_variant,
)
from jaxanatomy.interventions.variants import Variant

# The factors of AH section 3.5, and between and beyond them.
PAPER_ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
ALPHAS = (*PAPER_ALPHAS, 0.8, 0.95, 1.05, 1.1)
LEAST_ALPHAS = (0.5, 0.9)  # on least_1, least_2, ...
RANKS = ("full", "half", 16, 64)
# What is done to which sets: names of strategies, ranks in their place. The neighbour mean
# is the map from which the sets are chosen; here it is a row like the others.
LEAST = (
    ("zero", None),
    ("clone", None),
    ("clone_high", None),
    ("clone_with_norms", None),
    ("blend_2", None),
    ("blend_4", None),
    ("predicted", None),
    ("low_rank", "full"),
    ("low_rank", "half"),
    ("own_svd", "half"),
)
# Those of which AH Table 4 has a row of two layers.
PAIRS = (("zero", None), ("clone", None), ("blend_2", None), ("low_rank", "full"))

NamedSetting = tuple[str, Mapping[str, Any]]


def is_chosen_by_map(sets: Sequence[str]) -> bool:
    """Whether the map of neighbour means decides what is measured.

    It does, unless sets of one's own are given and all of them say themselves which layers
    they hold. Only then can a model be studied whose layers differ in shape.

    Args:
      sets: As `selected_variants` takes them; none: the main sets, `measured` among them.
    """
    return not sets or any(map(needs_degradation, sets))


def map_variants(config: ModelConfig) -> list[Variant]:
    """The neighbour mean of each inner layer: the map that sets are chosen by.

    Raises:
      InputError: A model of fewer than four layers, or of layers of several shapes.
    """
    inner = [parse_set(config, f"layer_{layer}") for layer in range(1, config.num_layers - 1)]
    if not config.is_uniform:
        raise InputError(
            "'measured', 'least_K' and the grid are chosen by the means of neighbouring layers, "
            "which need layers of one shape; this model's layers differ; name sets by their layers "
            "and strategies that read a layer alone, as in --config.sets=layer_1,layers_1_2 "
            "--config.strategies=zero,scale_0.9"
        )
    return [strategy_variant(config, "neighbour_mean", layer_set) for layer_set in inner]


def manipulation_grid(
    config: ModelConfig,
    degradation: Degradation,
    *,
    alphas: Sequence[float] = ALPHAS,
    ranks: Sequence[Rank] | None = None,
) -> list[Variant]:
    """Every strategy on the main sets, the main strategies on all the others.

    Args:
      config: The model.
      degradation: Of each inner layer's neighbour mean, in percent; infinite allowed.
      alphas: Factors of scale and scale_output on the main sets.
      ranks: Of low_rank and own_svd there; default: those of `RANKS` that the matrices have.

    Returns:
      Variants with unique names, without the baseline. What does not exist at a set
      (predicted where 0 or 1 is in it, blend_4 where fewer than four layers are left) is
      left out; so are the paper's sets and their pairs for models of another depth than 30.

    Raises:
      InputError: as `named_sets` and `strategy_variant`.
    """
    sets = named_sets(config, degradation)
    variants = table4_variants(config, degradation, alphas=alphas, ranks=ranks)
    for name, layer_set in sets.items():
        if name.startswith("least_"):
            variants += _variants(config, layer_set, [*_fixed(LEAST), *_scales(LEAST_ALPHAS)])
        elif name.startswith("pair_"):
            variants += _variants(config, layer_set, _fixed(PAIRS))
    return variants


def table4_variants(
    config: ModelConfig,
    degradation: Degradation,
    *,
    alphas: Sequence[float] = ALPHAS,
    ranks: Sequence[Rank] | None = None,
) -> list[Variant]:
    """Every strategy on the main sets: what AH Table 4 has for one set, and its controls.

    Args:
      config: The model.
      degradation: Of each inner layer's neighbour mean, in percent; infinite allowed.
      alphas: Factors of scale and scale_output.
      ranks: Of low_rank and own_svd; default: those of `RANKS` that the matrices have.

    Raises:
      InputError: as `manipulation_grid`.
    """
    # Equal settings given twice are one variant: 1 and 1.0 have the same name.
    settings = _every(config, alphas, ranks)
    sets = named_sets(config, degradation)
    return [
        variant
        for name in MAIN_SETS
        if name in sets
        for variant in _variants(config, sets[name], settings)
    ]


def selected_variants(
    config: ModelConfig,
    degradation: Degradation | None,
    sets: Sequence[str] = (),
    strategies: Sequence[str] = (),
    *,
    alphas: Sequence[float] = ALPHAS,
    ranks: Sequence[Rank] | None = None,
) -> list[Variant]:
    """Strategies and sets of one's own choice.

    Args:
      config: The model.
      degradation: Of each inner layer's neighbour mean, in percent; infinite allowed. None
        will do where no set `is_chosen_by_map`.
      sets: As in `sets.FORMS`; none: the main sets that the model has.
      strategies: For example "clone", "scale_0.9", "low_rank_half"; none: all, at every
        factor and rank.
      alphas: The factors.
      ranks: The ranks; default: those of `RANKS` that the matrices have.

    Raises:
      InputError: An unknown set or strategy, one of them twice, a strategy that exists at
        none of the sets.
    """
    if not sets:
        known = named_sets(config, degradation)
        sets = [name for name in MAIN_SETS if name in known]
    chosen = parse_sets(config, sets, degradation)
    settings = parse_strategies(strategies) or _every(config, alphas, ranks)
    for name, _ in settings:
        if not any(STRATEGIES[name].exists(config, layer_set) for layer_set in chosen):
            raise InputError(
                f"strategy {name!r} exists at none of the sets "
                f"{', '.join(layer_set.name for layer_set in chosen)}: it needs "
                f"{STRATEGIES[name].needs}; name another set or strategy"
            )
    return [variant for each in chosen for variant in _variants(config, each, settings)]


def parse_strategies(names: Sequence[str]) -> list[NamedSetting]:
    """Strategies with their settings, each once.

    Raises:
      InputError: as `parse_strategy`; a strategy that comes twice, however it is written.
    """
    require_unique("strategies", [canonical_name(name) for name in names])
    return [parse_strategy(name) for name in names]


def _every(
    config: ModelConfig, alphas: Sequence[float], ranks: Sequence[Rank] | None
) -> list[NamedSetting]:
    """Every strategy, at every factor or rank."""
    if ranks is None:
        ranks = [rank for rank in RANKS if isinstance(rank, str) or rank <= largest_rank(config)]
    plain = [(name, {}) for name, strategy in STRATEGIES.items() if not strategy.takes]
    ranked = [(name, {"rank": rank}) for name in ("low_rank", "own_svd") for rank in ranks]
    return [*plain, *ranked, *_scales(alphas)]


def _variants(
    config: ModelConfig, layer_set: LayerSet, settings: Iterable[NamedSetting]
) -> list[Variant]:
    """One variant for each setting of a strategy that exists at the set, each name once."""
    variants = [
        strategy_variant(config, name, layer_set, **setting)
        for name, setting in settings
        if STRATEGIES[name].exists(config, layer_set)
    ]
    return list({variant.name: variant for variant in variants}.values())


def _fixed(pairs: Iterable[tuple[str, Rank | None]]) -> list[NamedSetting]:
    return [(name, {"rank": rank}) for name, rank in pairs]


def _scales(alphas: Iterable[float]) -> list[NamedSetting]:
    return [(name, {"alpha": alpha}) for name in ("scale", "scale_output") for alpha in alphas]

"""The variants of the manipulation experiment: strategies by sets (AH section 4.4)."""

from collections.abc import Iterable, Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, require_unique
from jaxanatomy.interventions.intervention import Intervention, Setting, variant
from jaxanatomy.interventions.low_rank import Rank, largest_rank
from jaxanatomy.interventions.registry import INTERVENTIONS, choose_intervention
from jaxanatomy.interventions.sets import (
    MAIN_SETS,
    MIN_LAYERS,
    Degradation,
    named_sets,
    needs_degradation,
    parse_sets,
)
from jaxanatomy.interventions.variants import BASELINE, Variant, baseline_steps
from jaxanatomy.interventions.where import Where, together
from jaxanatomy.ranges import is_numbers

# The factors of AH section 3.5, and between and beyond them.
PAPER_ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
ALPHAS = (*PAPER_ALPHAS, 0.8, 0.95, 1.05, 1.1)
LEAST_ALPHAS = (0.5, 0.9)  # on least_1, least_2, ...
RANKS = ("full", "half", 16, 64)
# What is done to the main sets. The neighbour mean is the map from which sets are chosen; here
# it is a row like the others.
PLAIN = (
    "neighbour_mean",
    "zero",
    "clone",
    "clone_high",
    "clone_with_norms",
    "blend_2",
    "blend_4",
    "predicted",
)
# What is done to the others.
LEAST = (*PLAIN[1:], "low_rank_full", "low_rank_half", "own_svd_half")
PAIRS = ("zero", "clone", "blend_2", "low_rank_full")  # of which AH Table 4 has two layers


def strategy_baseline(config: ModelConfig) -> Variant:
    """The unedited model, with the labels of a set."""
    labels = {"strategy": "none", "alpha": None, "rank": None, "set": None, "layers": []}
    return Variant(BASELINE, baseline_steps(config.num_layers), labels=labels)


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
    if config.num_layers < MIN_LAYERS:
        raise InputError(
            f"sets that are chosen by a map need a model of {MIN_LAYERS} layers or more; got "
            f"{config.num_layers}; take a deeper model"
        )
    if not config.is_uniform:
        raise InputError(
            "'measured', 'least_K' and the grid are chosen by the means of neighbouring layers, "
            "which need layers of one shape; this model's layers differ; name sets by their layers "
            "and strategies that read a layer alone, as in --config.sets=1/3-5 "
            "--config.strategies=zero,scale_0.9"
        )
    mean = INTERVENTIONS["neighbour_mean"]
    inner = range(1, config.num_layers - 1)
    return [variant(config, mean, together(config.num_layers, layer)) for layer in inner]


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
      InputError: as `named_sets` and `intervention.apply_at`.
    """
    variants = table4_variants(config, degradation, alphas=alphas, ranks=ranks)
    least = [*map(choose_intervention, LEAST), *_scales(LEAST_ALPHAS)]
    pairs = [*map(choose_intervention, PAIRS)]
    for name, layers in named_sets(config.num_layers, degradation).items():
        if name.startswith("least_"):
            variants += _variants(config, layers, least)
        elif is_numbers(name):
            variants += _variants(config, layers, pairs)
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
    every = _every(config, alphas, ranks)
    sets = named_sets(config.num_layers, degradation)
    return [
        each for name in MAIN_SETS if name in sets for each in _variants(config, sets[name], every)
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
        known = named_sets(config.num_layers, degradation)
        sets = [name for name in MAIN_SETS if name in known]
    chosen = parse_sets(config.num_layers, sets, degradation)
    wanted = [choose_intervention(name) for name in strategies]
    require_unique("strategies", [each.full_name for each in wanted])
    for each in wanted:
        if not any(each.exists(config, layers) for layers in chosen):
            raise InputError(
                f"strategy {each.set_name!r} exists at none of the sets "
                f"{', '.join(layers.name for layers in chosen)}: it needs "
                f"{each.sources.where}; name another set or strategy"
            )
    wanted = wanted or _every(config, alphas, ranks)
    return [each for layers in chosen for each in _variants(config, layers, wanted)]


def _every(
    config: ModelConfig, alphas: Sequence[float], ranks: Sequence[Rank] | None
) -> list[Intervention]:
    """Every strategy, at every factor or rank."""
    if ranks is None:
        ranks = [rank for rank in RANKS if isinstance(rank, str) or rank <= largest_rank(config)]
    plain = [INTERVENTIONS[name] for name in PLAIN]
    return [*plain, *_settings(("low_rank", "own_svd"), ranks), *_scales(alphas)]


def _variants(
    config: ModelConfig, layers: Where, interventions: Iterable[Intervention]
) -> list[Variant]:
    """One variant for each that exists at the set; equal ones given twice are one."""
    variants = [variant(config, i, layers) for i in interventions if i.exists(config, layers)]
    return list({each.name: each for each in variants}.values())


def _scales(alphas: Iterable[float]) -> list[Intervention]:
    return _settings(("scale", "scale_output"), alphas)


def _settings(names: Sequence[str], settings: Iterable[Setting]) -> list[Intervention]:
    return [INTERVENTIONS[name].with_setting(setting) for name in names for setting in settings]

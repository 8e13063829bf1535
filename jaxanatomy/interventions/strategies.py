"""Strategies: one treatment of all layers of a set at once (AH sections 3.5 and 4.4).

Everything is computed from unedited layers, so what happens to a layer depends on the
set only through the layers outside it. Equal edits of two variants are equal values,
whatever the set is called: the sweep computes them once.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.forensics.prediction import FIRST_TARGET
from jaxanatomy.interventions.blends import blend, distance_weights
from jaxanatomy.interventions.copies import copy
from jaxanatomy.interventions.intervention import Intervention, apply_at, require_same_shape
from jaxanatomy.interventions.low_rank import Rank, check_rank, low_rank, own_svd
from jaxanatomy.interventions.predicted import predicted_step
from jaxanatomy.interventions.registry import INTERVENTIONS, scaled
from jaxanatomy.interventions.scopes import scope_components
from jaxanatomy.interventions.sets import LayerSet, nearest_outside
from jaxanatomy.interventions.variants import Edit, Step, Steps, Variant, baseline, baseline_steps

# What a strategy is told besides the layer: a factor, a rank, or nothing.
Setting = float | Rank | None
Make = Callable[[ModelConfig, LayerSet, int, Setting], Steps]


@dataclasses.dataclass(frozen=True)
class Strategy:
    """One way to change the layers of a set.

    Attributes:
      name: As it stands in rows; in names of variants its setting follows.
      help: One line on what it does.
      make: Maps (config, set, layer of it, setting) to the steps that stand for the layer.
      takes: "alpha", "rank" or nothing.
      outside: How many layers outside the set it reads for each layer.
      first_layer: The first layer at which it exists.
    """

    name: str
    help: str
    make: Make
    takes: str = ""
    outside: int = 0
    first_layer: int = 0

    def exists(self, config: ModelConfig, layer_set: LayerSet) -> bool:
        """Whether a set leaves it enough layers to read."""
        left = config.num_layers - len(layer_set.layers)
        return left >= self.outside and min(layer_set.layers) >= self.first_layer

    @property
    def needs(self) -> str:
        """What `exists` asks of a set, in words."""
        if self.first_layer:
            return f"layers from {self.first_layer} on, for which alone it exists"
        return f"{self.outside} or more layers left outside the set"

    @property
    def form(self) -> str:
        """Its name with the setting in capitals, for listings."""
        return f"{self.name}_{self.takes.upper()}" if self.takes else self.name


def strategy_variant(
    config: ModelConfig,
    strategy: str,
    layer_set: LayerSet,
    *,
    alpha: float | None = None,
    rank: Rank | None = None,
) -> Variant:
    """The model with all layers of a set changed in one way.

    Args:
      config: The model.
      strategy: Its name; see `STRATEGIES`.
      layer_set: The layers.
      alpha: Factor, of strategies that take one.
      rank: "full", "half" or a number, of strategies that take one.

    Returns:
      A variant called STRATEGY[_SETTING]/SET, for example "scale_0.9/paper", with labels
      strategy, alpha, rank, set and layers.

    Raises:
      InputError: as `strategy_steps`.
    """
    changed = strategy_steps(config, strategy, layer_set, alpha=alpha, rank=rank)
    chosen = STRATEGIES[strategy]
    setting = _setting(config, chosen, {"alpha": alpha, "rank": rank})
    steps = [changed.get(step.layer, (step,)) for step in baseline_steps(config.num_layers)]
    return Variant(
        name=f"{_name(chosen, setting)}/{layer_set.name}",
        steps=tuple(step for part in steps for step in part),
        labels={
            "strategy": chosen.name,
            "alpha": setting if chosen.takes == "alpha" else None,
            "rank": setting if chosen.takes == "rank" else None,
            "set": layer_set.name,
            "layers": list(layer_set.layers),
        },
    )


def strategy_steps(
    config: ModelConfig,
    strategy: str,
    layer_set: LayerSet,
    *,
    alpha: float | None = None,
    rank: Rank | None = None,
) -> dict[int, Steps]:
    """The steps that stand for each layer of a set; none for a skipped layer.

    Args:
      config: as the others of `strategy_variant`.

    Raises:
      InputError: An unknown strategy; a setting that is missing, not taken or out of range;
        too few layers outside the set, or one of another shape; a layer without a prediction.
    """
    chosen = STRATEGIES[choose("strategy", strategy, STRATEGIES)]
    setting = _setting(config, chosen, {"alpha": alpha, "rank": rank})
    if layer_set.layers[-1] >= config.num_layers:
        raise InputError(
            f"layers of this model are 0 to {config.num_layers - 1}; got {layer_set.layers[-1]} in "
            f"set {layer_set.name!r}; name other layers"
        )
    return {layer: chosen.make(config, layer_set, layer, setting) for layer in layer_set.layers}


def strategy_baseline(config: ModelConfig) -> Variant:
    """The unedited model, with the labels of a strategy."""
    labels = {"strategy": "none", "alpha": None, "rank": None, "set": None, "layers": []}
    return dataclasses.replace(baseline(config.num_layers), labels=labels)


def parse_strategy(name: str) -> tuple[str, dict[str, Any]]:
    """A strategy's name and its settings, from the first part of a variant's name.

    `strategy_variant(config, name, layer_set, **settings)` takes them and checks them.

    Args:
      name: For example "clone", "scale_0.9", "low_rank_half".

    Raises:
      InputError: No strategy is called that.
    """
    name = str(name)
    if name in STRATEGIES:
        return name, {}
    head, _, text = name.rpartition("_")
    for strategy in STRATEGIES.values():
        if strategy.takes and head == strategy.name:
            return strategy.name, {strategy.takes: _number(text)}
    forms = (strategy.form for strategy in STRATEGIES.values())
    return choose("strategy", name, forms), {}


def canonical_name(name: str) -> str:
    """A strategy as names of variants have it: "scale_0.9" for "scale_0.90".

    Raises:
      InputError: as `parse_strategy`.
    """
    strategy, settings = parse_strategy(name)
    return _name(STRATEGIES[strategy], *(settings.values() or [None]))


def describe_strategies() -> list[tuple[str, str]]:
    """(name, one line of help), for listings."""
    return [(strategy.form, strategy.help) for strategy in STRATEGIES.values()]


def _applied(intervention: Intervention) -> Make:
    """A strategy that is an intervention on each layer of the set."""
    return lambda config, layer_set, layer, setting: apply_at(intervention, config, layer)


def _scale(*, output_only: bool) -> Make:
    return lambda config, layer_set, layer, alpha: apply_at(
        scaled(alpha, output_only=output_only), config, layer
    )


def _clone(*, higher: bool = False, scope: tuple[str, ...] | None = tree.MATRICES) -> Make:
    def make(config: ModelConfig, layer_set: LayerSet, layer: int, setting: Setting) -> Steps:
        del setting
        sources = _nearest(config, layer_set, layer, 1, higher=higher)
        return _edited(config, "clone", copy, layer, tuple(sources), scope=scope)

    return make


def _blend(count: int) -> Make:
    def make(config: ModelConfig, layer_set: LayerSet, layer: int, setting: Setting) -> Steps:
        del setting
        distances = _nearest(config, layer_set, layer, count)
        weights = distance_weights(distances.values())
        return _edited(config, "blend", blend, layer, tuple(distances), weights=weights)

    return make


def _low_rank(config: ModelConfig, layer_set: LayerSet, layer: int, rank: Setting) -> Steps:
    sources = _nearest(config, layer_set, layer, 1)
    return _edited(config, "low_rank", low_rank, layer, tuple(sources), on_host=True, rank=rank)


def _own_svd(config: ModelConfig, layer_set: LayerSet, layer: int, rank: Setting) -> Steps:
    return _edited(config, "own_svd", own_svd, layer, on_host=True, rank=rank)


def _predicted(config: ModelConfig, layer_set: LayerSet, layer: int, setting: Setting) -> Steps:
    return (predicted_step(config, layer),)


def _nearest(
    config: ModelConfig, layer_set: LayerSet, layer: int, count: int, **order: bool
) -> Mapping[int, int]:
    """The distances of the nearest layers outside a set, by layer, nearest first."""
    return dict(nearest_outside(config.num_layers, layer_set.layers, layer, count, **order))


def _edited(
    config: ModelConfig,
    name: str,
    function: Callable[..., tree.BlockParams],
    layer: int,
    sources: tuple[int, ...] = (),
    *,
    scope: tuple[str, ...] | None = tree.MATRICES,
    on_host: bool = False,
    **arguments: Hashable,
) -> Steps:
    for source in sources:
        require_same_shape(name, config, layer, source)
    pairs = tuple(sorted(arguments.items()))
    scope = scope_components(config, layer, "layer") if scope is None else scope
    return (Step(layer, edit=Edit(name, function, sources, scope, pairs, on_host)),)


_ALL = (
    Strategy(
        "neighbour_mean",
        "mean of the two neighbouring layers, be they in the set or not",
        _applied(INTERVENTIONS["neighbour_mean"]),
    ),
    Strategy("zero", "all weights zero: the layers are skipped", _applied(INTERVENTIONS["zero"])),
    Strategy("scale", "all seven matrices times ALPHA", _scale(output_only=False), "alpha"),
    Strategy("scale_output", "o_proj and down_proj times ALPHA", _scale(output_only=True), "alpha"),
    Strategy("clone", "copy of the nearest layer outside the set", _clone(), outside=1),
    Strategy(
        "clone_high",
        "clone, of two equally near layers the higher one",
        _clone(higher=True),
        outside=1,
    ),
    Strategy(
        "clone_with_norms",
        "clone, the norm weights too",
        _clone(scope=None),
        outside=1,
    ),
    *(
        Strategy(
            f"blend_{count}",
            f"the {count} nearest layers outside the set, weighted by 1/distance",
            _blend(count),
            outside=count,
        )
        for count in (2, 4)
    ),
    Strategy(
        "low_rank",
        "singular vectors of the nearest layer outside the set, singular values of its own",
        _low_rank,
        "rank",
        outside=1,
    ),
    Strategy("own_svd", "its own largest singular values alone", _own_svd, "rank"),
    Strategy(
        "predicted",
        "what ridge regression on the earlier layers predicts",
        _predicted,
        first_layer=FIRST_TARGET,
    ),
)
STRATEGIES = {strategy.name: strategy for strategy in _ALL}


def _setting(config: ModelConfig, strategy: Strategy, given: Mapping[str, Any]) -> Setting:
    """The one value that a strategy takes, checked; None for a strategy that takes none."""
    for name, value in given.items():
        if name != strategy.takes and value is not None:
            raise InputError(
                f"strategy {strategy.name!r} takes {strategy.takes or 'no number'}; got {name} "
                f"{value!r}; leave it out"
            )
    if not strategy.takes:
        return None
    value = given[strategy.takes]
    if value is None:
        example = 0.9 if strategy.takes == "alpha" else "half"
        raise InputError(
            f"strategy {strategy.name!r} needs {strategy.takes}; got none; give it, for example "
            f"{strategy.takes}={example}, or in the name: '{strategy.name}_{example}'"
        )
    return check_rank(config, value) if strategy.takes == "rank" else _checked_alpha(value)


def _checked_alpha(alpha: Any) -> float:
    is_number = isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
    if not is_number or not math.isfinite(alpha):
        raise InputError(f"alpha must be a finite number, for example 0.9; got {alpha!r}")
    return float(alpha)


def _name(strategy: Strategy, setting: Setting) -> str:
    if setting is None:
        return strategy.name
    # All digits, so that two different factors never share a name; 1.0 is written 1.
    return f"{strategy.name}_{str(setting).removesuffix('.0')}"


def _number(text: str) -> int | float | str:
    """A number if the text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

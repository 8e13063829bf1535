"""Several changes in one model, from their names."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.intervention import apply_at
from jaxanatomy.interventions.registry import choose_intervention
from jaxanatomy.interventions.scopes import choose_scope
from jaxanatomy.interventions.sets import parse_set
from jaxanatomy.interventions.strategies import parse_strategy, strategy_steps
from jaxanatomy.interventions.variants import POSITIONS, Step, Steps
from jaxanatomy.ranges import parse_layers

FORM = "INTERVENTION/SCOPE[@POSITIONS]/LAYER"
SET_FORM = "STRATEGY/SET"
_NAME = re.compile(
    r"(?P<intervention>[^/]+)/(?P<scope>[^/@]+)(@(?P<positions>[^/@]+))?/(?P<layer>\d+)"
)
_SET_NAME = re.compile(r"(?P<strategy>[^/]+)/(?P<set>[^/\d][^/]*)")


def steps_of(config: ModelConfig, name: str) -> tuple[int, Steps]:
    """The layer that a variant's name changes, and the steps that stand for it.

    Args:
      config: The model.
      name: As in the rows of a run: "zero/layer/14", "scale_0.9/mlp/17", "zero/head_3/7".

    Raises:
      InputError: The name has another form, names nothing that there is, or a layer where
        the intervention does not exist.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"a variant is written {FORM}, for example 'neighbour_mean/layer/11', or {SET_FORM}, "
            f"for example 'clone/layers_3_5'; got {name!r}"
        )
    intervention = choose_intervention(match["intervention"])
    scope = choose_scope(config, match["scope"])
    positions = POSITIONS[choose("positions", match["positions"] or "all", POSITIONS)]
    layer = int(match["layer"])
    if layer >= config.num_layers:
        raise InputError(
            f"layers of this model are 0 to {config.num_layers - 1}; got {layer} in {name!r}"
        )
    if not intervention.is_present(config.num_layers, layer):
        raise InputError(
            f"{intervention.name} exists at {intervention.where()} of the {config.num_layers}; "
            f"got {name!r}; name another layer or intervention"
        )
    return layer, apply_at(intervention, config, layer, scope, positions)


def changes_of(config: ModelConfig, name: str) -> dict[int, Steps]:
    """The layers that a variant's name changes, each with the steps that stand for it.

    Args:
      config: The model.
      name: As `steps_of` takes it, or of layers that are changed together: a strategy and a
        set of them, "clone/layers_3_5", "scale_0.9/paper".

    Raises:
      InputError: as `steps_of`, `strategies.strategy_steps` and `sets.parse_set`; a set that
        is chosen by measured degradations, for there are none here.
    """
    match = _SET_NAME.fullmatch(name)
    if match is None:
        layer, steps = steps_of(config, name)
        return {layer: steps}
    strategy, settings = parse_strategy(match["strategy"])
    return strategy_steps(config, strategy, parse_set(config, match["set"]), **settings)


def combined_steps(
    config: ModelConfig, names: Sequence[str], layers: str | Iterable[int | str] | None = None
) -> Steps:
    """The steps of one model with several changes at once.

    Each change is computed from unedited layers, so their order does not matter. One
    layer may have one edit of its weights and any number of parts that are zero.

    Args:
      config: The model.
      names: Changes; see `changes_of`.
      layers: Which layers are applied, in order, each as often as it stands there, as
        `ranges.parse_layers` takes them; default: all. A change acts wherever its layer stands.

    Raises:
      InputError: as `changes_of`; a layer that is changed twice or not applied.
    """
    layers = parse_layers(layers, config.num_layers, once=False)
    by_layer: dict[int, list[tuple[str, Steps]]] = collections.defaultdict(list)
    for name in dict.fromkeys(names):
        for layer, steps in changes_of(config, name).items():
            by_layer[layer].append((name, steps))
            if layer not in layers:
                raise InputError(
                    f"{name!r} changes layer {layer}, which is not among the layers {layers}; "
                    "add the layer or leave the change out"
                )
    changed = {layer: _merged(layer, changes) for layer, changes in by_layer.items()}
    return tuple(step for layer in layers for step in changed.get(layer, (Step(layer),)))


def _merged(layer: int, changes: Sequence[tuple[str, Steps]]) -> Steps:
    """The steps that stand for a layer with several changes; none for a dropped one."""
    if any(steps == () for _, steps in changes):
        return ()
    (first,) = changes[0][1]
    for name, (step,) in changes[1:]:
        if (step.edit and first.edit) or step.positions != first.positions:
            raise InputError(
                f"layer {layer} may have one edit beside parts that are zero, at the same "
                f"positions; got {changes[0][0]!r} and {name!r}; leave one out"
            )
        factors = dict(first.factors)
        for part, factor in step.factors:
            factors[part] = factors.get(part, 1.0) * factor
        first = dataclasses.replace(first, edit=first.edit or step.edit, factors=factors)
    return (first,)

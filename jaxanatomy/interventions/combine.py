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
from jaxanatomy.interventions.variants import POSITIONS, Step, Steps

FORM = "INTERVENTION/SCOPE[@POSITIONS]/LAYER"
_NAME = re.compile(
    r"(?P<intervention>[^/]+)/(?P<scope>[^/@]+)(@(?P<positions>[^/@]+))?/(?P<layer>\d+)"
)


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
            f"a variant is written {FORM}, for example 'neighbour_mean/layer/11'; got {name!r}"
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


def combined_steps(
    config: ModelConfig, names: Sequence[str], layers: Iterable[int] | None = None
) -> Steps:
    """The steps of one model with several changes at once.

    Each change is computed from unedited layers, so their order does not matter. One
    layer may have one edit of its weights and any number of parts that are zero.

    Args:
      config: The model.
      names: Changes; see `steps_of`.
      layers: Which layers are applied, in order, each as often as it stands there;
        default: all. A change acts wherever its layer stands.

    Raises:
      InputError: as `steps_of`; a layer that is changed twice or not applied.
    """
    layers = list(range(config.num_layers)) if layers is None else list(layers)
    for layer in layers:
        if not 0 <= layer < config.num_layers:
            raise InputError(f"layers of this model are 0 to {config.num_layers - 1}; got {layer}")
    by_layer: dict[int, list[tuple[str, Steps]]] = collections.defaultdict(list)
    for name in dict.fromkeys(names):
        layer, steps = steps_of(config, name)
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
        closed = tuple(dict.fromkeys(first.closed + step.closed))
        first = dataclasses.replace(first, edit=first.edit or step.edit, closed=closed)
    return (first,)

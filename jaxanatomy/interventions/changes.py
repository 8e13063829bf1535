"""Variants from their names, and several changes in one model.

INTERVENTION/[SCOPE[@POSITIONS]/][set/|span/|spans/]LAYERS:

    zero/layer/14           scale_0.9/mlp@first/17      zero/head_3/7
    scale_0.9/set/3,5       clone/set/paper             zero/mlp/set/3,5
    cut/span/12-14          repeat/span/9-15            matched_noise#1/layer/4
    cut/spans/1,2,4         every run of one, of two and of four layers, a variant each
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, require_unique
from jaxanatomy.interventions.intervention import Intervention, apply_at, variant
from jaxanatomy.interventions.registry import choose_intervention
from jaxanatomy.interventions.sets import Degradation, parse_set
from jaxanatomy.interventions.variants import Step, Steps, Variant
from jaxanatomy.interventions.where import Where, every_span, one, parse_part, span
from jaxanatomy.ranges import is_numbers, parse_layers, parse_ranges

FORM = (
    "INTERVENTION/SCOPE[@POSITIONS]/LAYER, INTERVENTION/set/LAYERS, INTERVENTION/span/FIRST-LAST "
    "or INTERVENTION/spans/LENGTHS"
)
Change = tuple[Intervention, Where]


def parse_change(
    config: ModelConfig, name: str, degradation: Degradation | None = None
) -> list[Change]:
    """What a name says is done, and where; several where it lists layers one by one.

    Args:
      config: The model.
      name: For example "zero/layer/14", "zero/layer/0-12" (a change each), "scale_0.9/set/3,5".
      degradation: For sets that are chosen by a map; see `sets.parse_set`.

    Raises:
      InputError: The name has another form, or names nothing that there is.
    """
    head, *part = str(name).split("/")
    layers = part.pop() if part else ""
    kind = part.pop() if part and part[-1] in ("set", "span", "spans") else "layer"
    if len(part) > 1 or (kind == "layer" and not part):
        raise InputError(
            f"a variant is written {FORM}, as in 'neighbour_mean/layer/11', 'clone/set/3,5', "
            f"'cut/span/12-14'; got {name!r}"
        )
    intervention = choose_intervention(head)
    scope, positions = parse_part(config, part[0] if part else "layer")
    if kind == "layer":
        listed = parse_layers(None if layers == "all" else layers, config.num_layers)
        places = [one(layer) for layer in listed]
    elif kind == "set":
        places = [parse_set(config.num_layers, layers, degradation)]
    elif kind == "spans":
        places = every_span(config.num_layers, parse_ranges(layers, "lengths of runs"))
    else:
        ends = re.fullmatch(r"(\d+)-(\d+)", layers)
        if ends is None:
            raise InputError(f"a span is FIRST-LAST, as in 'cut/span/12-14'; got {name!r}")
        places = [span(config.num_layers, int(ends[1]), int(ends[2]))]
    return [
        (intervention, dataclasses.replace(place, scope=scope, positions=positions))
        for place in places
    ]


def split_names(text: str | Iterable[str]) -> list[str]:
    """The names of a list that was written with commas: numbers go on with the name before.

    Args:
      text: "zero/layer/14,scale_0.9/set/3,5", or its parts between the commas.
    """
    names: list[str] = []
    for item in text.split(",") if isinstance(text, str) else text:
        if names and is_numbers(str(item)):
            names[-1] += f",{item}"
        else:
            names.append(str(item))
    return names


def parse_variants(
    config: ModelConfig, names: Iterable[str], degradation: Degradation | None = None
) -> list[Variant]:
    """One variant for each change that is named.

    Args:
      config: The model.
      names: As `parse_change` takes them.
      degradation: Likewise.

    Raises:
      InputError: as `parse_change` and `intervention.apply_at`; a variant that comes twice.
    """
    changes = [change for name in names for change in parse_change(config, name, degradation)]
    variants = [variant(config, *change) for change in changes]
    require_unique("variants", [each.name for each in variants])
    return variants


def combined_steps(
    config: ModelConfig, names: Sequence[str], layers: str | Iterable[int | str] | None = None
) -> Steps:
    """The steps of one model with several changes at once.

    Each change is computed from unedited layers, so their order does not matter. One
    layer may have one edit of its weights and any number of parts that are zero; a layer that is
    applied twice is changed both times.

    Args:
      config: The model.
      names: Changes; see `parse_change`.
      layers: Which layers are applied, in order, each as often as it stands there, as
        `ranges.parse_layers` takes them; default: all. A change acts wherever its layer stands.

    Raises:
      InputError: as `parse_change`; a layer that is changed twice or not applied.
    """
    layers = parse_layers(layers, config.num_layers, once=False)
    orders: dict[int, tuple[str, Steps]] = {}
    edits: dict[int, list[tuple[str, Step]]] = collections.defaultdict(list)
    for name in dict.fromkeys(names):
        for change in parse_change(config, name):
            for layer, steps in apply_at(config, *change).items():
                if layer not in layers:
                    raise InputError(
                        f"{name!r} changes layer {layer}, which is not among the layers {layers}; "
                        "add the layer or leave the change out"
                    )
                if len(steps) == 1 and isinstance(steps[0], Step) and steps[0] != Step(layer):
                    edits[layer].append((name, steps[0]))
                elif orders.setdefault(layer, (name, steps))[1] != steps:
                    raise InputError(
                        f"layer {layer} may be left out or moved once; got "
                        f"{orders[layer][0]!r} and {name!r}; leave one out"
                    )
    changed = {layer: _merged(layer, changes) for layer, changes in edits.items()}
    plain = (orders[layer][1] if layer in orders else (Step(layer),) for layer in layers)
    return _replaced(tuple(step for steps in plain for step in steps), changed)


def _replaced(steps: Steps, changed: Mapping[int, Step]) -> Steps:
    """The steps with layers changed wherever they stand, in combinations too."""
    return tuple(
        changed.get(step.layer, step)
        if isinstance(step, Step)
        else dataclasses.replace(
            step, terms=tuple((factor, _replaced(term, changed)) for factor, term in step.terms)
        )
        for step in steps
    )


def _merged(layer: int, changes: Sequence[tuple[str, Step]]) -> Step:
    """The step that stands for a layer with several changes."""
    first_name, first = changes[0]
    for name, step in changes[1:]:
        if (step.edit and first.edit) or step.positions != first.positions:
            raise InputError(
                f"layer {layer} may have one edit beside parts that are zero, at the same "
                f"positions; got {first_name!r} and {name!r}; leave one out"
            )
        factors = dict(first.factors)
        for part, factor in step.factors:
            factors[part] = factors.get(part, 1.0) * factor
        first = dataclasses.replace(first, edit=first.edit or step.edit, factors=factors)
    return first

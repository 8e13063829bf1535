"""What an intervention is: a name, a function on blocks and the layers that it reads."""

import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.low_rank import Rank, check_rank
from jaxanatomy.interventions.scopes import head_index, scope_components
from jaxanatomy.interventions.sources import Offsets, Sources
from jaxanatomy.interventions.variants import Edit, Step, Steps, Variant, name_of_draw
from jaxanatomy.interventions.where import Where

Arguments = dict[str, Hashable]
Setting = float | Rank | None
Changes = Mapping[int, Steps]  # for each layer that changes, the steps that stand for it


NO_SOURCES = Offsets()


class At(NamedTuple):
    """What the arguments of an intervention's function may depend on.

    Attributes:
      config: The model.
      layer: The layer that changes.
      sources: The layers that are read.
      draw: Of what is random.
    """

    config: ModelConfig
    layer: int
    sources: tuple[int, ...]
    draw: int


def no_arguments(at: At) -> Arguments:
    """The `arguments` of a function that takes blocks alone."""
    del at
    return {}


@dataclasses.dataclass(frozen=True)
class Intervention:
    """One way to change layers, wherever it is asked for.

    Everything is computed from unedited layers, so what happens to a layer of a set depends on
    the set only through the layers outside it. Equal edits of two variants are equal values,
    whatever the set is called: the sweep computes them once.

    Attributes:
      name: As it stands in names of variants and in rows, before its setting.
      help: One line on what it does.
      function: `function(own, *sources, **arguments)`, see `variants.Edit`.
      sources: The layers that the function reads besides its own.
      components: The components that it may replace, matrices with their biases; None: all of
        the layer, norms too.
      arguments: Keyword arguments of the function besides the setting.
      takes: "alpha" or "rank": what must follow its name, and the function gets; or nothing.
      setting: Its value.
      is_random: Whether it draws random numbers, and is measured in several draws.
      draw: Which draw; stands in the name of a variant when it is not 0.
      on_host: The function works on NumPy arrays.
      changes: Instead of a function: maps (config, where, setting) to what stands for each
        layer, where that is not simply an edit.
    """

    name: str
    help: str
    function: Callable[..., tree.BlockParams] | None = None
    sources: Sources = NO_SOURCES
    components: tuple[str, ...] | None = tree.MATRICES
    arguments: Callable[[At], Arguments] = no_arguments
    takes: str = ""
    setting: Setting = None
    is_random: bool = False
    draw: int = 0
    on_host: bool = False
    changes: Callable[[ModelConfig, Where, Setting], Changes] | None = None

    @property
    def form(self) -> str:
        """Its name with the setting in capitals, for listings."""
        return f"{self.name}_{self.takes.upper()}" if self.takes else self.name

    @property
    def set_name(self) -> str:
        """The name with its setting: "clone", "scale_0.9"."""
        # All digits, so that two different factors never share a name; 1.0 is written 1.
        return f"{self.name}_{str(self.setting).removesuffix('.0')}" if self.takes else self.name

    @property
    def full_name(self) -> str:
        """The name with setting and draw: "scale_0.9", "matched_noise#1"."""
        return name_of_draw(self.set_name, self.draw)

    def with_setting(self, setting: Setting) -> "Intervention":
        """The same with a factor or a rank."""
        is_factor = self.takes == "alpha" and isinstance(setting, numbers.Real)
        return dataclasses.replace(self, setting=float(setting) if is_factor else setting)

    def drawn(self, draws: int) -> "tuple[Intervention, ...]":
        """Draws 0 .. `draws` - 1; itself alone where nothing is drawn."""
        if not self.is_random:
            return (self,)
        return tuple(dataclasses.replace(self, draw=draw) for draw in range(draws))

    def sources_at(self, config: ModelConfig, where: Where) -> list[tuple[int, ...] | None]:
        """For each layer the layers to read; None where there are too few."""
        return [self.sources.at(config.num_layers, where.layers, each) for each in where.layers]

    def exists(self, config: ModelConfig, where: Where) -> bool:
        """Whether it can be applied there: a neighbour mean needs neighbours."""
        return None not in self.sources_at(config, where)

    def is_boundary(self, config: ModelConfig, where: Where) -> bool:
        """Whether some layer lacks one of the layers to read."""
        return any(
            len(found or ()) < self.sources.count for found in self.sources_at(config, where)
        )


def custom(
    name: str,
    function: Callable[..., tree.BlockParams],
    sources: tuple[int, ...] = (-1, 1),
    *,
    help: str = "",
    at_ends: bool = False,
    components: tuple[str, ...] | None = tree.MATRICES,
    on_host: bool = False,
    seed: int | None = None,
) -> Intervention:
    """An intervention of one's own from a plain function on blocks.

    Args:
      name: A new name: letters, digits, `_`, `-`, `.`.
      function: `function(own, previous, next)` returns a block. With other `sources` it
        gets the blocks that these name. It should be pure, and written with operators or
        `jax.numpy`, for it is compiled, unless `on_host`.
      sources: Offsets of the layers to read besides the layer's own.
      help: One line on what it does.
      at_ends: Whether the function gets the sources that exist where others are missing; else
        the intervention is absent there.
      components: What may be replaced; a scope narrows it further.
      on_host: The function wants NumPy arrays.
      seed: For a function that draws: it gets `seed=(seed + layer, draw)` for
        `numpy.random.default_rng`, and is measured in several draws.

    Raises:
      InputError: a name that cannot stand in a variant's name, or a source that is not
        an offset.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(
            f"an intervention's name may hold letters, digits, '_', '-' and '.'; got {name!r}"
        )
    if not callable(function):
        raise InputError(
            f"intervention {name!r} needs a function of blocks; got {type(function).__name__}"
        )
    if not all(isinstance(offset, int) and offset != 0 for offset in sources):
        raise InputError(
            f"sources of {name!r} must be offsets such as -1 (previous) and 1 (next), never 0, "
            f"for the layer's own block always comes first; got {tuple(sources)}"
        )
    return Intervention(
        name=name,
        help=help,
        function=function,
        sources=Offsets(tuple(sources), at_ends),
        components=components,
        arguments=no_arguments if seed is None else seeded(seed),
        is_random=seed is not None,
        on_host=on_host,
    )


def seeded(seed: int) -> Callable[[At], Arguments]:
    """The `seed` of a function that draws: draw k at layer l is `default_rng((seed + l, k))`.

    Draw 0 is that of `default_rng(seed + l)`.
    """
    return lambda at: {"seed": (seed + at.layer, at.draw)}


def apply_at(config: ModelConfig, intervention: Intervention, where: Where) -> Changes:
    """The layers that an intervention changes, each with the steps that stand for it.

    Raises:
      InputError: It does not exist there; the scope holds nothing that it changes; a source has
        another shape than the layer; a setting that is missing or out of range.
    """
    if not intervention.exists(config, where):
        raise InputError(
            f"{intervention.set_name} exists at {intervention.sources.where} of the "
            f"{config.num_layers}; got {where}; name other layers or another intervention"
        )
    setting = _checked(config, intervention)
    if intervention.changes is not None:
        return intervention.changes(config, where, setting.get(intervention.takes))
    steps = {}
    for layer, sources in zip(where.layers, intervention.sources_at(config, where), strict=True):
        for source in sources:
            require_same_shape(intervention.name, config, layer, source)
        arguments = intervention.arguments(At(config, layer, sources, intervention.draw)) | setting
        edit = Edit(
            name=intervention.name,
            function=intervention.function,
            sources=sources,
            scope=_scope_of(intervention, config, layer, where.scope),
            arguments=tuple(sorted(arguments.items())),
            on_host=intervention.on_host,
        )
        steps[layer] = (Step(layer, edit=edit, positions=where.positions),)
    return steps


def changed_steps(config: ModelConfig, changes: Changes) -> Steps:
    """All layers in order, those that change replaced."""
    layers = range(config.num_layers)
    return tuple(step for layer in layers for step in changes.get(layer, (Step(layer),)))


def variant(
    config: ModelConfig, intervention: Intervention, where: Where, **labels: Any
) -> Variant:
    """The model with an intervention at one place, called INTERVENTION/WHERE.

    Labels: of one layer `intervention`, `scope`, `positions`, `layer`, `draw`, `boundary`; of a
    set `strategy`, `alpha`, `rank`, `set`, `layers`; of a span `op`, `size`, `start`.

    Args:
      config: The model.
      intervention: What is done.
      where: Where.
      **labels: More labels, or other values for these.

    Raises:
      InputError: as `apply_at`.
    """
    steps = changed_steps(config, apply_at(config, intervention, where))
    own = _LABELS[where.kind](config, intervention, where)
    return Variant(f"{intervention.full_name}/{where}", steps, labels=own | labels)


def _of_layer(config: ModelConfig, intervention: Intervention, where: Where) -> dict[str, Any]:
    return {
        "intervention": intervention.set_name,
        "scope": where.scope,
        "positions": where.positions.name,
        "layer": where.layers[0],
        "draw": intervention.draw if intervention.is_random else None,
        "boundary": intervention.is_boundary(config, where),
    }


def _of_set(config: ModelConfig, intervention: Intervention, where: Where) -> dict[str, Any]:
    del config
    return {
        "strategy": intervention.name,
        "alpha": intervention.setting if intervention.takes == "alpha" else None,
        "rank": intervention.setting if intervention.takes == "rank" else None,
        "set": where.name,
        "layers": list(where.layers),
    }


def _of_span(config: ModelConfig, intervention: Intervention, where: Where) -> dict[str, Any]:
    del config
    return {"op": intervention.set_name, "size": len(where.layers), "start": where.layers[0]}


_LABELS = {"layer": _of_layer, "set": _of_set, "span": _of_span}


def require_same_shape(name: str, config: ModelConfig, layer: int, source: int) -> None:
    """Refuses that `layer` is made from a layer of another shape.

    Args:
      name: What is done, for the message.
      config: The model.
      layer: The layer that is changed.
      source: The layer that is read.

    Raises:
      InputError: Their heads, FFN widths, biases or norms differ; windows may.
    """
    if config.layers[layer].weight_shape != config.layers[source].weight_shape:
        raise InputError(
            f"{name} at layer {layer} needs layers of one shape; layer {layer} has "
            f"{config.layers[layer].summary}, layer {source} has {config.layers[source].summary}; "
            "name other layers, or a change that reads the layer alone (zero, scale_0.9)"
        )


def _scope_of(
    intervention: Intervention, config: ModelConfig, layer: int, scope: str
) -> tuple[str, ...]:
    if head_index(scope) is not None:
        raise InputError(
            f"scope {scope!r} can be zeroed only; got intervention {intervention.name!r}; "
            "take 'zero', or a scope of whole matrices"
        )
    common, allowed = scope_components(config, layer, scope), intervention.components
    if allowed is not None:
        common = tuple(component for component in common if component in allowed)
    if not common:
        raise InputError(
            f"{intervention.name} changes {', '.join(allowed or ())} only; "
            f"got scope {scope!r}, which holds none of them"
        )
    return common


def _checked(config: ModelConfig, intervention: Intervention) -> Arguments:
    """The setting as the function takes it."""
    if not intervention.takes:
        return {}
    check = {"alpha": _check_alpha, "rank": check_rank}[intervention.takes]
    return {intervention.takes: check(config, intervention.setting)}


def _check_alpha(config: ModelConfig, alpha: Any) -> float:
    del config
    is_number = isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
    if not is_number or not math.isfinite(alpha):
        raise InputError(f"alpha must be a finite number, for example 0.9; got {alpha!r}")
    return float(alpha)

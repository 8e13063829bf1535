"""What an intervention is: a name, a function on blocks and the layers that it reads."""

import dataclasses
import re
from collections.abc import Callable, Hashable

from jaxanatomy import tree
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.scopes import head_index, scope_components
from jaxanatomy.interventions.variants import ALL, Edit, Positions, Step, Steps, name_of_draw

Arguments = dict[str, Hashable]


def no_arguments(config: ModelConfig, layer: int) -> Arguments:
    """The `arguments` of a function that takes blocks alone."""
    del config, layer
    return {}


@dataclasses.dataclass(frozen=True)
class Intervention:
    """One way to change one layer, at whichever layer and scope it is asked for.

    Attributes:
      name: As it stands in names of variants and in rows.
      help: One line on what it does.
      function: `function(own, *sources, **arguments)`, see `variants.Edit`.
      sources: The layers that the function reads besides its own, as offsets: -1 is the
        previous layer, 1 the next.
      at_ends: What happens at layers where some but not all sources exist. True: the
        function gets those that do, and the variant is flagged `boundary`; False: the
        intervention is absent there, as it is where no source exists.
      components: The components that it may replace, matrices with their biases; None: all of
        the layer, norms too.
      arguments: Maps (config, layer) to keyword arguments of the function.
      seed: Of an intervention that draws random numbers: draw k at layer l is that of
        `numpy.random.default_rng((seed + l, k))`, and its function gets `(seed + l, k)` as
        `seed`. Draw 0 is that of `default_rng(seed + l)`.
      draw: Which draw; stands in the name of a variant when it is not 0.
      on_host: The function works on NumPy arrays.
      steps: Instead of a function: maps (config, layer, scope, positions) to the steps
        that stand for the changed layer, where these are not simply an edit.
    """

    name: str
    help: str
    function: Callable[..., tree.BlockParams] | None = None
    sources: tuple[int, ...] = ()
    at_ends: bool = False
    components: tuple[str, ...] | None = tree.MATRICES
    arguments: Callable[[ModelConfig, int], Arguments] = no_arguments
    seed: int | None = None
    draw: int = 0
    on_host: bool = False
    steps: Callable[[ModelConfig, int, str, Positions], Steps] | None = None

    @property
    def full_name(self) -> str:
        """The name with the draw: "matched_noise", "matched_noise#1"."""
        return name_of_draw(self.name, self.draw)

    def arguments_at(self, config: ModelConfig, layer: int) -> Arguments:
        """Keyword arguments of the function at `layer`."""
        arguments = self.arguments(config, layer)
        if self.seed is None:
            return arguments
        return {**arguments, "seed": (self.seed + layer, self.draw)}

    def drawn(self, draws: int) -> "tuple[Intervention, ...]":
        """Draws 0 .. `draws` - 1; itself alone where nothing is drawn."""
        if self.seed is None:
            return (self,)
        return tuple(dataclasses.replace(self, draw=draw) for draw in range(draws))

    def sources_at(self, num_layers: int, layer: int) -> tuple[int, ...]:
        """The layers that it reads at `layer`."""
        sources = (layer + offset for offset in self.sources)
        return tuple(source for source in sources if 0 <= source < num_layers)

    def is_boundary(self, num_layers: int, layer: int) -> bool:
        """Whether `layer` lacks one of the sources."""
        return len(self.sources_at(num_layers, layer)) < len(self.sources)

    def is_present(self, num_layers: int, layer: int) -> bool:
        """Whether it can be applied at `layer`."""
        if not self.is_boundary(num_layers, layer):
            return True
        return self.at_ends and bool(self.sources_at(num_layers, layer))

    def where(self) -> str:
        """The layers at which it exists, in words for a listing."""
        if not self.sources:
            return "every layer"
        if self.at_ends:
            return "every layer, boundary at the ends"
        missing = [
            name
            for name, reads in (("first", min(self.sources) < 0), ("last", max(self.sources) > 0))
            if reads
        ]
        return f"every layer but the {' and '.join(missing)}"


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
      at_ends: See `Intervention`.
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
        sources=tuple(sources),
        at_ends=at_ends,
        components=components,
        on_host=on_host,
        seed=seed,
    )


def apply_at(
    intervention: Intervention,
    config: ModelConfig,
    layer: int,
    scope: str = "layer",
    positions: Positions = ALL,
) -> Steps:
    """The steps that stand for `layer` under an intervention; none for a skipped layer.

    Raises:
      InputError: the scope holds nothing that the intervention changes, or a source has
        another shape than the layer.
    """
    if intervention.steps is not None:
        return intervention.steps(config, layer, scope, positions)
    sources = intervention.sources_at(config.num_layers, layer)
    for source in sources:
        require_same_shape(intervention.name, config, layer, source)
    edit = Edit(
        name=intervention.name,
        function=intervention.function,
        sources=sources,
        scope=_scope_of(intervention, config, layer, scope),
        arguments=tuple(sorted(intervention.arguments_at(config, layer).items())),
        on_host=intervention.on_host,
    )
    return (Step(layer, edit=edit, positions=positions),)


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
            f"{_words(config.layers[layer])}, layer {source} has {_words(config.layers[source])}; "
            "name other layers, or a change that reads the layer alone (zero, scale_0.9)"
        )


def _words(shape: LayerShape) -> str:
    options = f", biases of {', '.join(shape.biases)}" if shape.biases else ""
    options += ", a norm of queries and keys" if shape.qk_norm else ""
    widths = f"{shape.num_heads} heads, {shape.num_kv_heads} KV heads and FFN width"
    return f"{widths} {shape.ffn_width}{options}"

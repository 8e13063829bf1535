"""Which matrices of a model can be compared over its layers."""

from collections.abc import Sequence
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.model import block_shapes
from jaxanatomy.tree import MATRICES

MIN_LAYERS = 4  # a lag-2 delta correlation has one value then, and a prediction two targets


def require_comparable(
    config: ModelConfig, components: Sequence[str] = (), what: str = "structure over layers"
) -> tuple[str, ...]:
    """The matrices to read, all seven if none are named.

    Args:
      config: The model.
      components: Names of matrices.
      what: What they are read for, as the message has it.

    Raises:
      InputError: An unknown or repeated component, fewer than 4 layers, or a component
        whose shape differs between layers.
    """
    components = tuple(components)
    for name in components:
        choose("component", name, MATRICES)
        if components.count(name) > 1:
            raise InputError(f"components must name each matrix once; got {name} twice; drop one")
    if config.num_layers < MIN_LAYERS:
        raise InputError(
            f"{what} needs at least {MIN_LAYERS} layers; this model has {config.num_layers}; "
            "take a deeper model"
        )
    components = components or MATRICES
    others = of_one_shape(config, components)
    for name in components:
        if name not in others:
            shapes = _layers_by_shape(config, name).items()
            found = "; ".join(f"{shape} in layers {_list(at)}" for shape, at in shapes)
            raise InputError(
                f"expected one shape of {name} in all layers; got {found}; leave it out"
                + (f" with --config.components={','.join(others)}" if others else "")
            )
    return components


def of_one_shape(config: ModelConfig, components: Sequence[str] = MATRICES) -> tuple[str, ...]:
    """Those components that have one shape in all layers."""
    return tuple(name for name in components if len(_layers_by_shape(config, name)) == 1)


def require_beside(
    config: ModelConfig, initial: ModelConfig, components: Sequence[str] = MATRICES
) -> None:
    """Checks that an untrained model can stand beside a model.

    Raises:
      InputError: It has another number of layers, or a matrix of another shape.
    """
    for name in components:
        own, other = ([*_layers_by_shape(each, name)] for each in (config, initial))
        if (config.num_layers, own) != (initial.num_layers, other):
            raise InputError(
                f"the untrained model must have the model's layers: {config.num_layers} with "
                f"{name} of {_list(own)}; got {initial.num_layers} with {name} of {_list(other)}; "
                "load it as 'random:' and the model's id"
            )


def _layers_by_shape(config: ModelConfig, component: str) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for layer in range(config.num_layers):
        found.setdefault(block_shapes(config, layer)[component], []).append(layer)
    return found


def _list(items: list[Any]) -> str:
    """The first layers or shapes, and how many more there are."""
    more = len(items) - 6
    return ", ".join(map(str, items[:6])) + (f" and {more} more" if more > 0 else "")

"""Layers left out or applied in another order (DG, depth use)."""

from collections.abc import Sequence

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Step, Variant


def skip(config: ModelConfig, start: int, size: int) -> Variant:
    """Leaves out the `size` layers from `start` on."""
    _require_span("skip", config, start, size, size)
    layers = range(config.num_layers)
    return _ordered("skip", size, start, [*layers[:start], *layers[start + size :]])


def swap(config: ModelConfig, start: int, size: int) -> Variant:
    """Exchanges the blocks of layers [start, start + size) and [start + size, start + 2 size)."""
    _require_span("swap", config, start, size, 2 * size)
    layers, middle, end = range(config.num_layers), start + size, start + 2 * size
    order = [*layers[:start], *layers[middle:end], *layers[start:middle], *layers[end:]]
    return _ordered("swap", size, start, order)


def reverse(config: ModelConfig, start: int, size: int) -> Variant:
    """Applies the `size` layers from `start` on in reverse order."""
    _require_span("reverse", config, start, size, size)
    layers, end = range(config.num_layers), start + size
    order = [*layers[:start], *reversed(layers[start:end]), *layers[end:]]
    return _ordered("reverse", size, start, order)


def early_exit(config: ModelConfig, num_layers: int) -> Variant:
    """Reads out after the first `num_layers` layers; with 0 the embedding itself."""
    if not 0 <= num_layers <= config.num_layers:
        raise InputError(
            f"early_exit reads out after 0 to {config.num_layers} layers; got {num_layers}"
        )
    size = config.num_layers - num_layers
    return _ordered("early_exit", size, num_layers, range(num_layers))


def _ordered(op: str, size: int, start: int, order: Sequence[int]) -> Variant:
    name = f"{op}/{start}" if op == "early_exit" else f"{op}/{size}/{start}"
    steps = tuple(Step(layer) for layer in order)
    return Variant(name, steps, labels={"op": op, "size": size, "start": start})


def _require_span(op: str, config: ModelConfig, start: int, size: int, span: int) -> None:
    if size < 1 or start < 0 or start + span > config.num_layers:
        raise InputError(
            f"{op} needs size >= 1 and layers within 0 to {config.num_layers - 1}; "
            f"got start {start} and size {size}, which reaches layer {start + span - 1}"
        )

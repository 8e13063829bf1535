"""Layers left out, applied again or in another order (DG, depth use)."""

from collections.abc import Iterable

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.intervention import Changes, Setting
from jaxanatomy.interventions.variants import ALL, Step, Steps, damped
from jaxanatomy.interventions.where import Where


def cut(config: ModelConfig, where: Where, setting: Setting = None) -> Changes:
    """Leaves layers out."""
    del config, setting
    _require_whole("cut", where)
    return {layer: () for layer in where.layers}


def repeat(config: ModelConfig, where: Where, factor: Setting = None) -> Changes:
    """Applies a run of layers twice: after its last one it begins again with the first.

    With a factor the change that the second pass makes is added times the factor.
    """
    del config
    once = _steps(_run("repeat", where))
    return _at_once(where, once + (once if factor is None else (damped(once, factor),)))


def reverse(config: ModelConfig, where: Where, setting: Setting = None) -> Changes:
    """Applies a run of layers in reverse order."""
    del config, setting
    return _at_once(where, _steps(_run("reverse", where)[::-1]))


def swap(config: ModelConfig, where: Where, setting: Setting = None) -> Changes:
    """Exchanges the first half of a run of layers with the second."""
    del config, setting
    layers = _run("swap", where)
    half, rest = divmod(len(layers), 2)
    if rest:
        raise InputError(
            f"swap exchanges the halves of a span, of an even number of layers; got {where}"
        )
    return _at_once(where, _steps(layers[half:] + layers[:half]))


def early_exit(config: ModelConfig, where: Where, setting: Setting = None) -> Changes:
    """Reads out after a layer: those behind it are left out."""
    del setting
    _require_whole("exit", where)
    return {layer: () for layer in range(where.layers[-1] + 1, config.num_layers)}


def _steps(layers: Iterable[int]) -> Steps:
    return tuple(Step(layer) for layer in layers)


def _at_once(where: Where, steps: Steps) -> Changes:
    """The whole run stands at its first layer: its changes of order cannot be taken apart."""
    first, *rest = where.layers
    return {first: steps} | {layer: () for layer in rest}


def _run(name: str, where: Where) -> list[int]:
    _require_whole(name, where)
    layers = list(where.layers)
    if layers != list(range(layers[0], layers[-1] + 1)):
        raise InputError(
            f"{name} needs layers that follow one another; got {where}; write them as a span"
        )
    return layers


def _require_whole(name: str, where: Where) -> None:
    if where.scope != "layer" or where.positions != ALL:
        raise InputError(f"{name} acts on whole layers at all positions; got {where}")

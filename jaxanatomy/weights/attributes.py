"""Attributes of a config.json whose meaning several families share: numbers, RoPE, windows."""

import math
from collections.abc import Mapping
from typing import Any

from jaxanatomy.config import Llama3RopeScaling, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights.tensors import shorten

_LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_context_length",
}
# What transformers takes where a config.json of Qwen has none of these.
WINDOWS = {
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}
_FULL, _WINDOWED = "full_attention", "sliding_attention"


def integer(value: Any, name: str, least: int = 1) -> int:
    """`value` if it is a whole number of at least `least`; InputError if not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        wanted = "a positive integer" if least else "a whole number, 0 or above"
        raise InputError(f"{name} of the model must be {wanted}; got {value!r:.50}")
    return value


def number(value: Any, name: str) -> float:
    """`value` as a float; InputError if it is not finite."""
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{name} in config.json must be a finite number; got {value!r:.50}")
    return found


def boolean(value: Any, name: str) -> bool:
    """`value` if it is true or false; InputError if not."""
    if not isinstance(value, bool):
        raise InputError(f"{name} in config.json must be true or false; got {value!r:.50}")
    return value


def window_at(fields: Mapping[str, Any], layer: int) -> int | None:
    """The window of a layer of Qwen, from the attributes `WINDOWS`.

    `layer_types` names the kind of each layer (transformers 5); without it the first
    `max_window_layers` layers are full.

    Raises:
      InputError: The attributes contradict each other, or name another kind of attention.
    """
    window, kinds = None, fields["layer_types"]
    if boolean(fields["use_sliding_window"], "use_sliding_window"):
        window = integer(fields["sliding_window"], "sliding_window, as use_sliding_window is true,")
    if kinds is None:
        first = integer(fields["max_window_layers"], "max_window_layers", least=0)
        return window if layer >= first else None
    count = fields["num_hidden_layers"]
    if not (
        isinstance(kinds, list) and len(kinds) == count and {*map(str, kinds)} <= {_FULL, _WINDOWED}
    ):
        raise InputError(
            f"layer_types in config.json must be {_FULL} or {_WINDOWED} for each of {count} "
            f"layers; got {kinds!r:.100}; fetch it again, else this architecture is not supported"
        )
    if kinds[layer] == _FULL:
        return None
    if window is None:
        raise InputError(
            f"config.json has {_WINDOWED} in layer_types but use_sliding_window=false; set it to "
            "true with the model's sliding_window, or make all layers full_attention"
        )
    return window


def window_attributes(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `window_at`, also for what reads no `layer_types`, if that can say it."""
    windows = [shape.window for shape in config.layers]
    kinds = [_FULL if window is None else _WINDOWED for window in windows]
    if windows == [None] * len(windows):
        return {"use_sliding_window": False, "layer_types": kinds}
    return {
        "use_sliding_window": True,
        "sliding_window": max(window for window in windows if window is not None),
        "max_window_layers": kinds.index(_WINDOWED),
        "layer_types": kinds,
    }


def rope(fields: Mapping[str, Any]) -> tuple[float, Llama3RopeScaling | None]:
    """Base and scaling of RoPE, from `rope_parameters` (transformers 5) or the older form."""
    forms = {key: fields.get(key) or {} for key in ("rope_parameters", "rope_scaling")}
    for key, form in forms.items():
        if not isinstance(form, Mapping):
            raise InputError(f"{key} in config.json must be an object or null; got {form!r:.50}")
    bases = [fields.get("rope_theta"), *(form.get("rope_theta") for form in forms.values())]
    thetas = {number(base, "rope_theta") for base in bases if base is not None}
    scalings = {_rope_scaling(form, key) for key, form in forms.items() if form}
    if len(thetas) > 1 or len(scalings) > 1:
        raise InputError(
            f"config.json gives RoPE twice and differently ({sorted(thetas)}, {scalings}); "
            "keep rope_parameters or rope_theta with rope_scaling"
        )
    return thetas.pop() if thetas else 10_000.0, scalings.pop() if scalings else None


def rope_attributes(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `rope`, in both forms."""
    if config.rope_scaling is None:
        scaling, kind = None, {"rope_type": "default"}
    else:
        scaling = {name: getattr(config.rope_scaling, ours) for name, ours in _LLAMA3.items()}
        scaling = kind = {"rope_type": "llama3", **scaling}
    theta = {"rope_theta": config.rope_theta}
    return {**theta, "rope_scaling": scaling, "rope_parameters": {**kind, **theta}}


def _rope_scaling(form: Mapping[str, Any], key: str) -> Llama3RopeScaling | None:
    kind = form.get("rope_type", form.get("type", "default"))
    known = {"default": (), "llama3": tuple(_LLAMA3)}
    wanted = known.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        raise InputError(
            f"expected {key} of type default or llama3; got {kind!r:.50} in config.json; "
            "this architecture is not supported"
        )
    given = set(form) - {"rope_type", "type", "rope_theta"}
    if form.get("partial_rotary_factor") in (1, None):
        given -= {"partial_rotary_factor"}
    if given != set(wanted):
        raise InputError(
            f"{key} of type {kind} must have {', '.join(wanted) or 'nothing more'}; got "
            f"{shorten(sorted(given)) or 'nothing'}; fetch config.json again"
        )
    if kind == "default":
        return None
    return Llama3RopeScaling(**{ours: form[name] for name, ours in _LLAMA3.items()})

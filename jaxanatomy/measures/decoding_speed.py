"""Seconds a token of a model without some of its layers, measured rather than computed."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.model import transformer
from jaxanatomy.progress import Progress
from jaxanatomy.records import Row

PROMPT, STEPS = 64, 32  # tokens that are read, and written after the first


def seconds_rows(
    config: ModelConfig,
    params: tree.Params,
    variants: Sequence[Variant],
    tokens: Sequence[int],
    rounds: int,
    dtype: Any,
) -> list[Row]:
    """Rows of kind "seconds": reading a prompt and writing after it, one text at a time.

    The models take turns in every round, so that whatever else the machine does falls on all of
    them; a first round, in which they are compiled, does not count.

    Args:
      config: The model.
      params: Its parameters.
      variants: The unchanged model, then others without layers, labelled `size` and `layers`.
      tokens: A text; its first tokens are the prompt.
      rounds: How often each model is measured.
      dtype: Of the operands of products.

    Returns:
      By variant, with the `rounds`, `prompt_seconds` and `decode_seconds`, for a token;
      `..._seconds_saved_percent`, less than the unchanged model takes in the same round. All are
      medians over rounds, with `..._range`, [least, most]; None where a model is too small for its
      time to be told. `prompt_tokens` and `written_tokens` say of how many.
    """
    read = min(PROMPT, len(tokens), config.context_length // 2)
    written = min(STEPS, config.context_length - read - 1)
    prompt_1T = np.array([tokens[:read]], np.int32)
    seconds_VN2 = np.empty((len(variants), 1 + rounds, 2))
    with Progress(seconds_VN2[..., 0].size, "seconds a token", unit="models") as progress:
        for turn in range(1 + rounds):
            for number, variant in enumerate(variants):
                measured = _measure(config, params, variant, prompt_1T, written, dtype)
                seconds_VN2[number, turn] = measured
                progress.update()
    seconds_VN2 = seconds_VN2[:, 1:]
    # A written token is a difference of two times.
    too_short_V12 = (seconds_VN2 <= 0).any(axis=1, keepdims=True)
    seconds_VN2 = np.where(too_short_V12, np.nan, seconds_VN2)
    saved_VN2 = 100 * (1 - seconds_VN2 / seconds_VN2[0])
    return [
        {"kind": "seconds", "variant": variant.name, "rounds": rounds}
        | {name: variant.labels[name] for name in ("size", "layers")}
        | {"prompt_tokens": read, "written_tokens": written}
        | _fields("prompt_seconds", seconds_N2[:, 0])
        | _fields("decode_seconds", seconds_N2[:, 1])
        | _fields("prompt_seconds_saved_percent", saved_N2[:, 0])
        | _fields("decode_seconds_saved_percent", saved_N2[:, 1])
        for variant, seconds_N2, saved_N2 in zip(variants, seconds_VN2, saved_VN2, strict=True)
    ]


def _measure(
    config: ModelConfig,
    params: tree.Params,
    variant: Variant,
    prompt_1T: np.ndarray,
    written: int,
    dtype: Any,
) -> tuple[float, float]:
    """Seconds for a token of the prompt, and for a token that is written."""
    own, changed = materialise(config, params, variant.steps)
    stacked = jax.device_put(tree.with_layers(changed, transformer.stacks(own, changed)))
    jax.block_until_ready(stacked)
    times = []
    # What is placed anew is slow once: one call is not timed.
    jax.block_until_ready(model.generate(own, stacked, prompt_1T, 1, dtype=dtype))
    for steps in (1, 1 + written):
        started = time.perf_counter()
        jax.block_until_ready(model.generate(own, stacked, prompt_1T, steps, dtype=dtype))
        times.append(time.perf_counter() - started)
    return times[0] / prompt_1T.size, (times[1] - times[0]) / written


def _fields(name: str, values: np.ndarray) -> Row:
    """A median and its range; None where a token was too short to be timed."""
    found = values.tolist()
    if not np.isfinite(values).all():
        return {name: None, f"{name}_range": None}
    return {name: statistics.median(found), f"{name}_range": [min(found), max(found)]}

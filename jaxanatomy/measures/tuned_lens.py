"""What a run of the tuned lens measures: both lenses on held-out text, and on one prompt."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy.data.packing import TextBatch
from jaxanatomy.data.questions import Questions
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures import answers
from jaxanatomy.measures.readings.layer_means import layer_means
from jaxanatomy.measures.readings.lens import (
    METRICS,
    OF_MEAN,
    TunedLens,
    lens_readings,
    likeliest_readings,
    through,
)
from jaxanatomy.measures.statistics.estimates import wilson_interval
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured, Reading

LOGIT, TUNED, DIFFERENCE = "logit", "tuned", "difference"
LENSES = (LOGIT, TUNED)
# Differences of means are means of differences; a perplexity is no mean.
DIFFERENCES = tuple(name for name in METRICS if name != "perplexity")


def held_out_readings(lens: TunedLens) -> dict[str, Reading]:
    """The metrics of both lenses."""
    both = {LOGIT: lens_readings(), TUNED: lens_readings(lens)}
    return {f"{own}_{name}": each for own, made in both.items() for name, each in made.items()}


def held_out_units(variant: Variant, num_layers: int) -> list[str]:
    """What `held_out_rows` has rows of, in their order."""
    metrics = {LOGIT: METRICS, TUNED: METRICS, DIFFERENCE: DIFFERENCES}
    return [
        f"lens {own} {name} {layer}"
        for own, names in metrics.items()
        for name in names
        for layer in range(num_layers)
    ]


def held_out_rows(
    measured: Mapping[str, Measured], variants: Sequence[Variant], *, text: str
) -> list[Row]:
    """Rows of kind "lens": means over predictions at each layer, by lens and metric.

    Those of "difference" are the tuned lens less the logit lens, paired by document.
    """
    (variant,) = variants
    found = dict(measured)
    for name in DIFFERENCES:
        tuned, logit = (measured[f"{own}_{name}"] for own in (TUNED, LOGIT))
        less = tuned.values.astype(np.float64) - logit.values
        found[f"{DIFFERENCE}_{name}"] = dataclasses.replace(tuned, values=less)
    return [
        row
        for own, names in ((LOGIT, METRICS), (TUNED, METRICS), (DIFFERENCE, DIFFERENCES))
        for name in names
        for row in layer_means(
            found[f"{own}_{name}"],
            variant.name,
            {"kind": "lens", "lens": own, "metric": name, "text": text},
            of=None if own == DIFFERENCE else OF_MEAN[name],
            together=own == DIFFERENCE,
        )
    ]


def prompt_readings(lens: TunedLens) -> dict[str, Reading]:
    """The likeliest next token after each token, and its probability, by both lenses."""
    both = {LOGIT: likeliest_readings(), TUNED: likeliest_readings(lens)}
    return {f"{own}_{name}": each for own, made in both.items() for name, each in made.items()}


def prompt_units(variant: Variant, num_layers: int, length: int) -> list[str]:
    """What `prompt_rows` has rows of, in their order."""
    return [
        f"prediction {own} {layer} {position}"
        for own in LENSES
        for layer in range(num_layers)
        for position in range(length)
    ]


def prompt_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    token_T: Sequence[int],
    spell: Callable[[int], str],
) -> list[Row]:
    """Rows of kind "prediction": what a lens reads after each token of the prompt at each layer.

    Args:
      measured: Of `prompt_readings`.
      variants: The model as it is.
      text: The name of the prompt.
      token_T: Its tokens.
      spell: The text of a token.
    """
    (variant,) = variants
    rows: list[dict[str, Any]] = []
    for own in LENSES:
        token_LT, probability_LT = (
            measured[f"{own}_{name}"][variant.name] for name in ("token", "probability")
        )
        for layer, position in np.ndindex(*token_LT.shape):
            likeliest = {
                "token": spell(int(token_LT[layer, position])),
                "probability": float(probability_LT[layer, position]),
            }
            place = {"layer": layer, "position": position, "read": spell(int(token_T[position]))}
            rows.append({"kind": "prediction", "lens": own, "text": text, **place, **likeliest})
    return rows


def nll_and_greedy_through(
    streams: tuple[jax.Array, ...], context: Context
) -> dict[str, jax.Array]:
    """A measure: `answers.nll_and_greedy` of what a lens makes of the streams."""
    (x_CRTD,) = streams
    lens = context.params
    return answers.nll_and_greedy((x_CRTD if lens is None else lens(x_CRTD),), context)


def answer_readings(lens: TunedLens) -> dict[str, Reading]:
    """What questions are answered by, at every layer and by both lenses."""
    by_lens = {LOGIT: None, TUNED: lens}
    measures = {own: through(nll_and_greedy_through, each) for own, each in by_lens.items()}
    return {
        f"{own}_{part}": Reading(measure, "block_out", part=part)
        for own, measure in measures.items()
        for part in answers.READINGS
    }


def answer_units(variant: Variant, num_layers: int, tasks: Sequence[str]) -> list[str]:
    """What `answer_rows` has rows of, in their order."""
    return [
        f"answers {own} {task} {layer}"
        for own in LENSES
        for task in tasks
        for layer in range(num_layers)
    ]


def answer_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    questions: Questions,
) -> list[Row]:
    """Rows of kind "answers": accuracy on each task if the model stopped after each layer.

    Args:
      measured: Of `answer_readings`.
      variants: The model as it is.
      text: The source of the questions.
      questions: The questions.

    Returns:
      `lens`, `task`, `layer`, `items`, `accuracy`, `accuracy_ci95` (Wilson) and `chance`.
    """
    del variants  # the model alone
    rows: list[Row] = []
    for own in LENSES:
        layers = {part: _of_layers(measured[f"{own}_{part}"]) for part in answers.READINGS}
        sums_L = zip(*answers.of_sequences(layers), strict=True)
        right_LQ = [answers.answered(questions, *sums)["right"] for sums in sums_L]
        for task, members in questions.tasks.items():
            labels = {"kind": "answers", "lens": own, "task": task, "text": text}
            chance = float(np.mean([questions.items[index].chance for index in members]))
            for layer, right_Q in enumerate(right_LQ):
                accuracy = wilson_interval(float(right_Q[members].mean()), len(members))
                figures = {"accuracy": accuracy.value, "accuracy_ci95": accuracy.ends}
                place = {"layer": layer, "items": len(members), "chance": chance}
                rows.append({**labels, **place, **figures})
    return rows


def _of_layers(measured: Measured) -> Measured:
    """The layers of the one variant, as `answers.of_sequences` has variants."""
    return dataclasses.replace(measured, values=measured.values[0])


def tokens_of(batches: Sequence[TextBatch]) -> list[int]:
    """The tokens of a prompt.

    Raises:
      InputError: It is cut into several windows.
    """
    windows = 1 + max(int(batch.segment_RT.max()) for batch in batches)
    if windows > 1:
        raise InputError(
            f"the prompt must fit into one window; it takes {windows}; shorten it or raise "
            "packing.window"
        )
    return batches[0].token_RT[batches[0].segment_RT == 0].tolist()


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """By layer the KL of both lenses and their difference, and where its interval excludes 0.

    Args:
      rows: Of a run, in any order: one that was lost comes back last.

    Returns:
      `steps`, `last_loss`, `kl` of each lens and their `difference` by layer, its
      `kl_difference_ci95`, which hold for all layers at once, and the layers at which the tuned
      lens is shown by them to be nearer to the final predictions (`layers_better`) or farther
      (`layers_worse`) than the logit lens.
    """
    kl = [row for row in rows if row["kind"] == "lens" and row["metric"] == "kl"]
    kl.sort(key=lambda row: row["layer"])
    by_lens = {own: [row for row in kl if row["lens"] == own] for own in (*LENSES, DIFFERENCE)}
    steps = sorted((row for row in rows if row["kind"] == "step"), key=lambda row: row["step"])
    known = [row for row in by_lens[DIFFERENCE] if row["ci95"] is not None]
    return {
        "steps": len(steps),
        "last_loss": steps[-1]["loss"] if steps else None,
        "kl": {own: [row["value"] for row in found] for own, found in by_lens.items()},
        "kl_difference_ci95": [row["ci95"] for row in by_lens[DIFFERENCE]],
        "layers_better": [row["layer"] for row in known if row["ci95"][1] < 0],
        "layers_worse": [row["layer"] for row in known if row["ci95"][0] > 0],
    }

"""Which questions a model answers, and what changes of it cost: rows of the evaluate experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.data.questions import Questions
from jaxanatomy.interventions.variants import BASELINE, Variant
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings.nll import predictions
from jaxanatomy.measures.statistics.estimates import Estimate, ratio_intervals, wilson_interval
from jaxanatomy.measures.statistics.shares import paired_share_difference
from jaxanatomy.records import Row
from jaxanatomy.sweep import Context, Measured, Reading


def nll_and_greedy(streams: tuple[jax.Array, ...], context: Context) -> dict[str, jax.Array]:
    """A measure of the sweep: the loss of each target, and whether it is the likeliest token.

    Args:
      streams: One array, the streams [C, R, T, D] after the last step.
      context: The head and the text.

    Returns:
      `nll` in nats, float32, and `greedy`, bool, each [C, P].
    """
    h_PD, target_P = predictions(streams, context)
    matrix_VD = tree.unembedding(context.head)
    nll_P, best_P = model.token_nll_and_best(h_PD, matrix_VD, target_P, context.dtype)
    found = {"nll": nll_P, "greedy": best_P == target_P}
    return {name: each.reshape(len(streams[0]), -1) for name, each in found.items()}


READINGS = {
    "nll": Reading(nll_and_greedy, part="nll"),
    "greedy": Reading(nll_and_greedy, part="greedy"),
}


def of_sequences(measured: Mapping[str, Measured]) -> tuple[np.ndarray, np.ndarray]:
    """The summed loss of each sequence's tokens, and whether all of them are the likeliest.

    Args:
      measured: What `READINGS` gave on sequences that are documents.

    Returns:
      (nll_VI, greedy_VI), float64 and bool.
    """
    document_P = measured["nll"].documents
    count = document_P.max() + 1
    nll_VI = np.stack(
        [np.bincount(document_P, nll_P, count) for nll_P in measured["nll"].values.astype(float)]
    )
    missed_VI = np.stack(
        [np.bincount(document_P, ~greedy_P, count) for greedy_P in measured["greedy"].values]
    )
    return nll_VI, missed_VI == 0


def answer_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    questions: Questions,
) -> list[Row]:
    """One row for each variant and task; see `task_row` for the fields.

    Args:
      measured: What `READINGS` gave, with the baseline among the variants.
      variants: The variants to report.
      text: The source of the questions.
      questions: The questions.
    """
    nll_VI, greedy_VI = of_sequences(measured)
    names = measured["nll"].variants
    found = {
        name: answered(questions, nll_I, greedy_I)
        for name, nll_I, greedy_I in zip(names, nll_VI, greedy_VI, strict=True)
    }
    rows = []
    for variant in variants:
        for task, members in questions.tasks.items():
            own, base = (
                {field: values_Q[members] for field, values_Q in found[name].items()}
                for name in (variant.name, BASELINE)
            )
            chance = float(np.mean([questions.items[index].chance for index in members]))
            labels = {"variant": variant.name, **variant.labels, "task": task, "metric": "accuracy"}
            compared = None if variant.name == BASELINE else base
            rows.append({**labels, **task_row(own, compared, chance), "text": text})
    return rows


def answered(
    questions: Questions, nll_I: np.ndarray, greedy_I: np.ndarray
) -> dict[str, np.ndarray]:
    """Of each question whether it is answered, and the loss of the right answer.

    The likeliest choice is taken, of equally likely ones the first; a choice that is no number
    is never taken. One choice alone must be the likeliest at each of its tokens.

    Args:
      questions: Q questions.
      nll_I: The summed loss of each choice of each question, in their order.
      greedy_I: Whether each token of it was the likeliest.

    Returns:
      `right` [Q], 0 or 1, and `nll` [Q], in nats.
    """
    right, nll, start = [], [], 0
    for question in questions.items:
        own = slice(start, start + len(question.choices))
        place, start = start + question.answer, own.stop
        if len(question.choices) == 1:
            right.append(bool(greedy_I[place]) and np.isfinite(nll_I[place]))
        else:
            known = np.where(np.isnan(nll_I[own]), np.inf, nll_I[own])
            right.append(known.argmin() == question.answer and np.isfinite(nll_I[place]))
        nll.append(nll_I[place])
    return {"right": np.array(right, int), "nll": np.array(nll)}


def task_row(
    own: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray] | None, chance: float | None
) -> Row:
    """What a variant reaches on a task, and what it lost.

    Args:
      own: `right` of each item, and perhaps `nll` of its right answer; see `answered`.
      base: The same of the unchanged model; None if it is that itself.
      chance: The accuracy of guessing.

    Returns:
      `items`, `accuracy` with `accuracy_ci95` (Wilson), `chance`, `change` (of the accuracy against
      the unchanged model) with `ci95` (Newcombe, paired by item), `right` by item; `nll` by item,
      `nll_change` (mean over items, nats) with `nll_ci95` (`ratio_intervals`, paired). What is not
      finite is None.
    """
    right_Q = own["right"]
    count = len(right_Q)
    accuracy = wilson_interval(float(right_Q.mean()), count)
    row = {
        "items": count,
        "accuracy": accuracy.value,
        "accuracy_ci95": accuracy.ends,
        "chance": chance,
        **dict.fromkeys(("change", "ci95", "nll_change", "nll_ci95")),
        "right": right_Q.tolist(),
        "nll": [finite(value) for value in own["nll"]] if "nll" in own else None,
    }
    if base is None:
        return row
    change = paired_share_difference(right_Q, base["right"])
    row |= {"change": change.value, "ci95": change.ends}
    if "nll" in own:
        with np.errstate(invalid="ignore"):  # infinite in both
            rise_Q = own["nll"] - base["nll"]
        (found,) = ratio_intervals(rise_Q[None], np.ones(count))
        rise = Estimate(*map(float, found))
        row |= {"nll_change": finite(rise.value), "nll_ci95": rise.ends}
    return row


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """By model, task and variant the figures, without the items."""
    left_out = ("hash", "right", "nll", "model")
    found: dict[str, list[Row]] = {}
    for row in rows:
        kept = {name: value for name, value in row.items() if name not in left_out}
        found.setdefault(row["model"], []).append(kept)
    return {"models": found}

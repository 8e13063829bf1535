"""Rows and summary of the depth growth experiment (DG section 3.2, Table 1)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.questions import Question
from jaxanatomy.growth.depth_arms import BASELINE, comparisons, shallow_beside
from jaxanatomy.measures.arms.computed_depth import summarise_depth
from jaxanatomy.measures.arms.depth_edits import summarise_edits, summarise_loops
from jaxanatomy.measures.arms.finals import (
    Losses,
    account,
    difference,
    difference_fields,
    family_level,
    finals_by_arm,
)
from jaxanatomy.measures.arms.tuning import losses_by_rate
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import seeds_interval, wilson_interval
from jaxanatomy.records import Row

# Measures of a final row, and the fields with the same by held-out row or question.
UNITS = {
    "eval_nll": ("unit_nll", "unit_tokens"),
    "accuracy": ("unit_right", "unit_questions"),
}
TUNED_BY = "eval_nll"


def accuracies(asked: Sequence[Question], right_Q: np.ndarray) -> dict[str, Any]:
    """The share of questions that are answered, by task and as a mean of the tasks.

    Args:
      asked: The questions.
      right_Q: Which were answered.

    Returns:
      `accuracy` and `chance`, means over tasks; `accuracy_by_task`, of each (accuracy,
      chance, number of questions).
    """
    tasks: dict[str, list[tuple[bool, float]]] = {}
    for question, right in zip(asked, right_Q, strict=True):
        tasks.setdefault(question.task, []).append((bool(right), question.chance))
    by_task = {
        name: {
            "accuracy": float(np.mean([right for right, _ in found])),
            "chance": float(np.mean([chance for _, chance in found])),
            "questions": len(found),
        }
        for name, found in tasks.items()
    }
    return {
        "accuracy": float(np.mean([each["accuracy"] for each in by_task.values()])),
        "chance": float(np.mean([each["chance"] for each in by_task.values()])),
        "accuracy_by_task": by_task,
    }


def point_fields(point: Any, at: int) -> dict[str, Any]:
    """What a curve row has of one seed.

    Args:
      point: A `train.points.Evaluation`.
      at: Which of its seeds.
    """
    by_source = {name: finite(values[at]) for name, values in point.by_source.items()}
    return {
        **{name: getattr(point.account, name) for name in ("tokens", "flops", "seconds")},
        "loss": finite(point.loss[at]),
        "eval_nll": finite(point.eval_nll[at]),
        "eval_nll_by_source": by_source,
        "reason": point.reason[at],
    }


def final_fields(point: Any, at: int) -> dict[str, Any]:
    """What a final row has of one seed's losses: its last point, throughput, held-out rows.

    Args:
      point: The last `train.points.Evaluation`.
      at: Which of its seeds.

    Returns:
      `unit_nll` and `unit_tokens` are sums over the held-out rows (documents in `role_moves`),
      weighted by the share of their source, so that their ratio is `eval_nll`. Losses are None
      for a seed that has diverged: its parameters are those of some step before. `mfu` is None
      where the peak is not known.
    """
    found = {name: value for name, value in point_fields(point, at).items() if name != "loss"}
    found |= {"tokens_per_second": found["tokens"] / found["seconds"], "mfu": point.account.mfu}
    weights = {name: rows.share / sum(rows.tokens) for name, rows in point.units.items()}
    found["unit_nll"] = [
        weights[name] * nll for name, rows in point.units.items() for nll in rows.nll[at]
    ]
    found["unit_tokens"] = [
        weights[name] * tokens for name, rows in point.units.items() for tokens in rows.tokens
    ]
    if point.reason[at]:
        found |= {"eval_nll": None, "unit_nll": None}
        found["eval_nll_by_source"] = dict.fromkeys(found["eval_nll_by_source"])
    return found


def answer_fields(asked: Sequence[Question], right_Q: np.ndarray, alive: bool) -> dict[str, Any]:
    """What a final row has of one seed's answers.

    Args:
      asked: The questions.
      right_Q: Which were answered.
      alive: Whether the seed has not diverged; else its accuracies are None.

    Returns:
      As `accuracies`, and `unit_right` and `unit_questions` of each question, weighted so that
      each task counts alike: the ratio of their sums is `accuracy`.
    """
    found = accuracies(asked, right_Q)
    counts = {task: each["questions"] for task, each in found["accuracy_by_task"].items()}
    weights = [1 / counts[question.task] for question in asked]
    found["unit_questions"] = weights
    found["unit_right"] = [
        weight * bool(right) for weight, right in zip(weights, right_Q, strict=True)
    ]
    if alive:
        return found
    by_task = {task: each | {"accuracy": None} for task, each in found["accuracy_by_task"].items()}
    return found | {"accuracy": None, "accuracy_by_task": by_task, "unit_right": None}


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: for each arm what `arms.account` has; for `eval_nll` and `accuracy` a dict of
      `mean`, `ci95` over seeds, and the differences `less_baseline` and `less_shallow`, each of
      `mean`, `low`, `high` and `seeds`, over seeds and held-out rows (or questions) together; the
      second of arms that grow, at equal steps, else None, those of the loss as wide as the
      choice of the arms' rates leaves them; and
      `accuracy_by_task`, of each task `mean` over seeds, its `ci95` over questions (see
      `_answered`), `chance` and number of `questions`; `loops` and `edits`, of
      `depth_edits`. What cannot be had is None; nothing is there of models that were not read.
      `level`: of the intervals of differences, so that those of one measure hold all at once
      with 95 %. `depth`: how deep arms compute, of `computed_depth.summarise_depth`. `tuning`:
      held-out loss by arm and learning rate, in pairs.
    """
    rows = list(rows)
    by_arm, losses = finals_by_arm(rows), Losses.of(rows, TUNED_BY)
    level = family_level(len(comparisons(by_arm)))
    loops, edits, arms = summarise_loops(by_arm), summarise_edits(by_arm), {}
    for arm, seeds in by_arm.items():
        first = next(iter(seeds.values()))
        arms[arm] = {
            **account(rows, arm, seeds, TUNED_BY),
            "chance": first["chance"],
            **{field: _compared(field, arm, losses, level) for field in UNITS},
            "accuracy_by_task": {
                task: _answered([row["accuracy_by_task"][task] for row in seeds.values()])
                for task in first["accuracy_by_task"]
            },
            "loops": loops[arm],
            "edits": edits[arm],
        }
    tuning = {arm: list(rates.items()) for arm, rates in losses_by_rate(rows, TUNED_BY).items()}
    return {"arms": arms, "level": level, "depth": summarise_depth(by_arm), "tuning": tuning}


def _compared(field: str, arm: str, losses: Losses, level: float) -> dict[str, Any]:
    """The mean of an arm, and its differences from others; None where there is none."""
    by_arm = losses.by_arm
    values = [row[field] for row in by_arm[arm].values() if row[field] is not None]
    found: dict[str, Any] = dict.fromkeys(("mean", "ci95", "less_baseline", "less_shallow"))
    if values:
        found |= {"mean": float(np.mean(values)), "ci95": seeds_interval(values).ends}
    for name, other in (("less_baseline", BASELINE), ("less_shallow", shallow_beside(arm))):
        if (arm, other) in comparisons(by_arm):
            if field == TUNED_BY:
                less = losses.difference((arm, other), level)
            else:
                less = difference(by_arm[arm], by_arm[other], level, *UNITS[field])
            found[name] = difference_fields(less)
    return found


def _answered(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What an arm answers of one task, from the accuracies of its seeds.

    The interval is Wilson's at the mean over seeds, for as many questions as one seed was asked.
    All seeds are asked the same ones, and seeds that guess by the same habit are right in the
    same ones, so that more seeds are no more questions; where seeds do differ it is wider than
    it need be. Student's over seeds would have no width where a few seeds happen to agree. It
    says what these seeds would answer of other questions, not what other seeds would.
    """
    values = [each["accuracy"] for each in found if each["accuracy"] is not None]
    mean, questions = (float(np.mean(values)) if values else None), found[0]["questions"]
    return {
        "mean": mean,
        "ci95": None if mean is None else wilson_interval(mean, questions).ends,
        "chance": found[0]["chance"],
        "questions": questions,
    }

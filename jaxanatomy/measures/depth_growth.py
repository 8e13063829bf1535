"""Rows and summary of the depth growth experiment (DG section 3.2, Table 1)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.questions import Question
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import paired_interval

Row = Mapping[str, Any]
BASELINE = "baseline"
CURVE, FINAL = "curve", "final"


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


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: for each arm `seeds`, `steps`, `flops`, `seconds` (mean of the seeds), and for
      `eval_nll` and `accuracy` a dict of `mean`, `ci95` over seeds, and the difference from
      the baseline with the same seeds, `against_baseline` and its `against_ci95` (Student's,
      paired). What cannot be had is None.
    """
    finals = [row for row in rows if row.get("kind") == FINAL]
    by_arm: dict[str, dict[int, Row]] = {}
    for row in finals:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    baseline = by_arm.get(BASELINE, {})
    arms = {}
    for arm, seeds in by_arm.items():
        first = next(iter(seeds.values()))
        arms[arm] = {
            "seeds": sorted(seeds),
            "diverged": sorted(seed for seed, row in seeds.items() if row["reason"]),
            "steps": first["step"],
            "tokens": first["tokens"],
            "flops": first["flops"],
            "seconds": float(np.mean([row["seconds"] for row in seeds.values()])),
            "chance": first["chance"],
            **{field: _compared(field, seeds, baseline) for field in ("eval_nll", "accuracy")},
        }
    return {"arms": arms}


def _compared(field: str, seeds: Mapping[int, Row], baseline: Mapping[int, Row]) -> dict[str, Any]:
    values = [row[field] for row in seeds.values()]
    pairs = [(row[field], baseline[seed][field]) for seed, row in seeds.items() if seed in baseline]
    found = {"mean": None, "ci95": None, "against_baseline": None, "against_ci95": None}
    if None in values:
        return found
    found |= {"mean": float(np.mean(values)), "ci95": _interval(values)}
    if pairs and not any(None in pair for pair in pairs):
        differences = [one - other for one, other in pairs]
        found |= {"against_baseline": float(np.mean(differences))}
        found |= {"against_ci95": _interval(differences)}
    return found


def _interval(values: Sequence[float]) -> list[float] | None:
    low, high = map(finite, paired_interval(values))
    return None if low is None or high is None else [low, high]

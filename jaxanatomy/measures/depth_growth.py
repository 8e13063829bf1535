"""Rows and summary of the depth growth experiment (DG section 3.2, Table 1)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.primitives import REPEATED, SEQUENCE
from jaxanatomy.data.questions import Question
from jaxanatomy.growth.depth_arms import BASELINE
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import seeds_interval, wilson_interval

Row = Mapping[str, Any]
CURVE, FINAL = "curve", "final"
# A word of the second half that is not among those repeated; by where the repetition starts.
_COPYING = float(np.mean([1 / (SEQUENCE - REPEATED - at) for at in range(SEQUENCE - REPEATED)]))


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


def guessing(task: str, chance: float) -> float:
    """The share of a primitive's questions that guessing answers at best.

    In copying (`data.primitives`) ten words are followed by five of them, from word `start` on,
    which is uniform in 0 to 4; word `start` + 5 is asked for. So the answer always stands in the
    second half, and is never repeated. A guesser that goes by these two alone, and not by the
    order of the words, chooses among the 5 - `start` words of the second half that are not
    repeated. It answers (1/5 + 1/4 + 1/3 + 1/2 + 1) / 5 = 45.7 % without copying anything,
    where chance among all choices is 10 %.

    The values of an assignment are in an order of their own: there guessing reaches chance.

    Args:
      task: Name of the primitive.
      chance: Of guessing among all choices.
    """
    return max(chance, _COPYING) if task.startswith("copying") else chance


def point_fields(point: Any, at: int) -> dict[str, Any]:
    """What a curve row has of one seed.

    Args:
      point: A `train.points.Point`.
      at: Which of its seeds.
    """
    by_source = {name: finite(values[at]) for name, values in point.by_source.items()}
    return {
        "tokens": point.tokens,
        "flops": point.flops,
        "seconds": point.seconds,
        "loss": finite(point.loss[at]),
        "eval_nll": finite(point.eval_nll[at]),
        "eval_nll_by_source": by_source,
        "reason": point.reason[at],
    }


def final_fields(
    point: Any, at: int, asked: Sequence[Question], right_Q: np.ndarray
) -> dict[str, Any]:
    """What a final row has of one seed: its last point, throughput and answers.

    Args:
      point: The last `train.points.Point`.
      at: Which of its seeds.
      asked: The questions.
      right_Q: Which were answered.

    Returns:
      Losses and accuracies are None for a seed that has diverged: its parameters are those
      of some step before. `mfu` is None where the peak is not known.
    """
    found = {name: value for name, value in point_fields(point, at).items() if name != "loss"}
    found |= {"tokens_per_second": point.tokens / point.seconds, "mfu": point.mfu}
    found |= accuracies(asked, right_Q)
    if not point.reason[at]:
        return found
    by_task = {task: each | {"accuracy": None} for task, each in found["accuracy_by_task"].items()}
    found |= {"eval_nll": None, "accuracy": None, "accuracy_by_task": by_task}
    return found | {"eval_nll_by_source": dict.fromkeys(found["eval_nll_by_source"])}


def diverged(rows: Iterable[Row], arm: str) -> set[int]:
    """The seeds of an arm that ended because a loss or a gradient was not finite."""
    finals = (row for row in rows if row.get("kind") == FINAL and row["arm"] == arm)
    return {row["seed"] for row in finals if row["reason"]}


def stopped(rows: Iterable[Row]) -> set[tuple[str, int]]:
    """Arm and seed of all that have diverged so far.

    Beside seeds that go on, one that has stopped has rows to the end, with the finite losses of
    parameters that no longer change: they say nothing about its arm.
    """
    return {(row["arm"], row["seed"]) for row in rows if "arm" in row and row["reason"]}


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: for each arm `seeds`, `diverged`, `steps`, `tokens`, `flops`, of one seed; means
      over the seeds of `seconds`, `tokens_per_second` and `mfu`; for `eval_nll` and
      `accuracy` a dict of `mean`, `ci95` over seeds, and the difference from the baseline
      with the same seeds, `against_baseline` and its `against_ci95` (Student's, paired); and
      `accuracy_by_task`, of each primitive `mean` over seeds, its `ci95` over questions (see
      `_answered`), `chance` and number of `questions`. What cannot be had is None. A seed that
      has diverged counts in no mean; where all have, they count in the three of speed.
    """
    finals = [row for row in rows if row.get("kind") == FINAL]
    by_arm: dict[str, dict[int, Row]] = {}
    for row in finals:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    baseline = by_arm.get(BASELINE, {})
    arms = {}
    for arm, seeds in by_arm.items():
        first = max(seeds.values(), key=lambda row: row["step"])
        arms[arm] = {
            "seeds": sorted(seeds),
            "diverged": sorted(seed for seed, row in seeds.items() if row["reason"]),
            "steps": first["step"],
            "tokens": first["tokens"],
            "flops": first["flops"],
            **{field: _mean(field, seeds) for field in ("seconds", "tokens_per_second", "mfu")},
            "chance": first["chance"],
            **{field: _compared(field, seeds, baseline) for field in ("eval_nll", "accuracy")},
            "accuracy_by_task": {
                task: _answered([row["accuracy_by_task"][task] for row in seeds.values()])
                for task in first["accuracy_by_task"]
            },
        }
    return {"arms": arms}


def _compared(field: str, seeds: Mapping[int, Row], baseline: Mapping[int, Row]) -> dict[str, Any]:
    values = {seed: row[field] for seed, row in seeds.items() if row[field] is not None}
    other = {seed: baseline[seed][field] for seed in values if seed in baseline}
    differences = [values[seed] - other[seed] for seed in other if other[seed] is not None]
    found = {"mean": None, "ci95": None, "against_baseline": None, "against_ci95": None}
    if values:
        mean = float(np.mean([*values.values()]))
        found |= {"mean": mean, "ci95": _interval([*values.values()])}
    if differences:
        found |= {"against_baseline": float(np.mean(differences))}
        found |= {"against_ci95": _interval(differences)}
    return found


def _answered(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What an arm answers of one primitive, from the accuracies of its seeds.

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


def _mean(field: str, seeds: Mapping[int, Row]) -> float | None:
    # One that stops early has taken less time than those whose steps stand beside it.
    living = [row for row in seeds.values() if not row["reason"]]
    values = [row[field] for row in living or seeds.values()]
    return None if None in values else float(np.mean(values))


def _interval(values: Sequence[float]) -> list[float] | None:
    return seeds_interval(values).ends

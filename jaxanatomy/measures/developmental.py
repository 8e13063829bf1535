"""Rows and summary of the developmental experiment (AH section 4.6.3, Tables 8 and 9)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms import by_seed, difference, difference_fields, family_level
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import seeds_interval
from jaxanatomy.measures.tuning import CURVE, FINAL, losses_by_rate, of_purpose, rate_at_edge
from jaxanatomy.records import Row

BASELINE = "uniform_100"
TUNED_BY = "final_nll"
# Losses of a final row, and the field with the same by validation sentence.
UNITS = {"final_nll": "unit_nll", "min_nll": "min_unit_nll"}


def developmental_rows(
    trained: Any,
    replica: int,
    prompts: Sequence[tuple[str, str]],
    completions: Sequence[str],
) -> list[dict[str, Any]]:
    """The curve of a replica and its final row.

    Args:
      trained: A `train.growing.PhaseResult`.
      replica: Which of its replicas.
      prompts: Pairs (beginning, the rest that was taught).
      completions: What the replica wrote after each beginning.

    Returns:
      Rows `kind: curve` with `stage`, `step`, `tokens`, `seconds`, `loss` (mean training
      loss since the row before; None at the start of a stage) and `eval_nll`; then a row
      `kind: final` with the last of them as `final_nll`, the lowest as `min_nll` at
      `min_step`, both also by validation sentence, summed (`unit_nll`, `min_unit_nll`, with
      the predictions of each in `unit_tokens`), `train_nll`, `completions`,
      `exact_completions` and `wall_seconds` of all replicas together. A loss that is not
      finite is None, and a final row says why; a replica whose last validation loss is not
      finite has diverged, too.
    """
    rows = _curve(trained, replica)
    diverged = trained.diverged[replica]
    if diverged is None and rows[-1]["eval_nll"] is None:
        diverged = rows[-1]["step"]
    finished = diverged is None
    reached = [row for row in rows if row["eval_nll"] is not None]
    best = min(reached, key=lambda row: row["eval_nll"]) if finished else {}
    lowest = trained.points[rows.index(best)] if finished else None
    exact = sum(text == rest for text, (_, rest) in zip(completions, prompts, strict=True))
    last = {name: rows[-1][name] for name in ("stage", "step", "tokens", "seconds", "loss")}
    final = {
        "kind": FINAL,
        **last,
        "eval_nll": rows[-1]["eval_nll"],
        "final_nll": rows[-1]["eval_nll"] if finished else None,
        "min_nll": best.get("eval_nll"),
        "min_step": best.get("step"),
        "unit_nll": list(trained.points[-1].unit_nll[replica]) if finished else None,
        "min_unit_nll": list(lowest.unit_nll[replica]) if lowest else None,
        "unit_tokens": list(trained.unit_tokens),
        "train_nll": finite(trained.train_nll[replica]) if finished else None,
        "completions": list(completions),
        "exact_completions": exact,
        "diverged_step": diverged,
        "reason": None if finished else f"the loss was not finite at step {diverged}",
        "wall_seconds": trained.wall_seconds,
    }
    return [*rows, final]


def _curve(trained: Any, replica: int) -> list[dict[str, Any]]:
    return [
        {
            "kind": CURVE,
            "stage": point.stage,
            "step": point.step,
            "tokens": point.tokens[replica],
            "seconds": point.seconds,
            "loss": finite(point.loss[replica]),
            "eval_nll": finite(point.eval_nll[replica]),
        }
        for point in trained.points
    ]


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: of each the number of seeds, learning rate and whether it is `rate_at_edge` of
      those that were tried, steps, those in which the core trains, FLOPs, seconds of a seed,
      means and 95 % intervals over seeds of `final_nll`, `min_nll` and `train_nll`, exact
      completions, and seeds that diverged; `tuning`: final validation loss by arm and
      learning rate, in pairs; `differences`: `arm - uniform_100` over seeds and sentences, with
      intervals of `differences_level`, which hold for all arms at once; `wall_seconds`.
    """
    rows = list(rows)
    finals = of_purpose(rows, FINAL)
    arms = {
        name: _arm(
            [row for row in finals if row["arm"] == name], rate_at_edge(rows, name, TUNED_BY)
        )
        for name in dict.fromkeys(row["arm"] for row in finals)
    }
    level = family_level(len(arms) - 1)
    others = [name for name in arms if name != BASELINE]
    return {
        "arms": arms,
        "differences_level": level,
        "differences": {name: differences(finals, name, level=level) for name in others},
        "tuning": {
            arm: list(rates.items()) for arm, rates in losses_by_rate(rows, TUNED_BY).items()
        },
        "wall_seconds": _wall_seconds(rows),
    }


def differences(
    finals: Iterable[Row], arm: str, other: str = BASELINE, level: float = 0.95
) -> dict[str, Any]:
    """How much an arm's losses differ from another's, over the seeds of both and the sentences.

    Args:
      finals: Final rows of results.
      arm: Its name.
      other: What it is compared with.
      level: Coverage of each interval.

    Returns:
      For `final_nll` and `min_nll`: `mean` (arm minus other, nats per token) with `low` and
      `high`; None where no two seeds are there; and the number of `seeds`.
    """
    finals = list(finals)
    own, others = (by_seed(finals, name) for name in (arm, other))
    return {
        measure: difference_fields(difference(own, others, level, units))
        for measure, units in UNITS.items()
    }


def _arm(finals: Sequence[Row], rate_at_edge: bool) -> dict[str, Any]:
    first = finals[0]
    found: dict[str, Any] = {
        "seeds": len(finals),
        "learning_rate": first["learning_rate"],
        "rate_at_edge": rate_at_edge,
        "steps": first["step"],
        "core_steps": first["core_steps"],
        "flops": first["flops"],
        "seconds": float(np.mean([row["seconds"] for row in finals])),
        "exact_completions": float(np.mean([row["exact_completions"] for row in finals])),
        "diverged_seeds": [row["seed"] for row in finals if row["diverged_step"] is not None],
    }
    for measure in ("final_nll", "min_nll", "train_nll"):
        values = [row[measure] for row in finals if row[measure] is not None]
        found[measure] = _mean(values)
    return found


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """The mean over seeds and its 95 % interval; None where there is none."""
    found = seeds_interval(values)
    return {"mean": finite(found.value), "low": finite(found.low), "high": finite(found.high)}


def _wall_seconds(rows: Iterable[Row]) -> dict[str, float]:
    """Time by arm with compilation, evaluation and tuning: each group of replicas once."""
    groups = {
        (row["arm"], row["purpose"]): row["wall_seconds"]
        for row in rows
        if row.get("kind") == FINAL
    }
    total: dict[str, float] = {}
    for (arm, _), seconds in groups.items():
        total[arm] = total.get(arm, 0.0) + seconds
    return total

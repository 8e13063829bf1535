"""Rows and summary of the developmental experiment (AH section 4.6.3, Tables 8 and 9)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms.finals import Losses, difference_fields, family_level
from jaxanatomy.measures.arms.tuning import FINAL, losses_by_rate, of_purpose, rate_at_edge
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import seeds_interval
from jaxanatomy.records import Row

BASELINE = "uniform_100"
TUNED_BY = "final_nll"
# Losses of a final row, and the field with the same by validation sentence.
UNITS = {"final_nll": "unit_nll", "min_nll": "min_unit_nll"}


def curve_fields(point: Any, at: int) -> dict[str, Any]:
    """What a curve row has of one seed's losses; None where they are not finite.

    Args:
      point: A `train.points.Evaluation`.
      at: Which of its seeds.
    """
    return {"loss": finite(point.loss[at]), "eval_nll": finite(point.eval_nll[at])}


def note_lowest(point: Any, memory: dict[str, Any]) -> None:
    """Keeps the lowest validation loss of each seed, and where it was, by number of the seed."""
    (rows,) = point.units.values()
    for at, nll in enumerate(point.eval_nll):
        best = memory.get(str(at))
        if finite(nll) is not None and (best is None or nll < best["min_nll"]):
            units = {"min_nll": nll, "min_step": point.step, "min_unit_nll": rows.nll[at]}
            memory[str(at)] = units


def final_fields(
    point: Any, at: int, memory: Mapping[str, Any], train_nll: float
) -> dict[str, Any]:
    """What a final row has of one seed's losses.

    Args:
      point: The last `train.points.Evaluation`.
      at: Which of its seeds.
      memory: Of `note_lowest`.
      train_nll: Loss on the whole training split at the end.

    Returns:
      The last losses, the validation loss as `final_nll`, the lowest as `min_nll` at `min_step`,
      both also by validation sentence, summed (`unit_nll`, `min_unit_nll`, with the predictions
      of each in `unit_tokens`), `train_nll` and `wall_seconds` of all seeds together. A loss that
      is not finite is None, and `reason` says why; a seed whose last validation loss is not
      finite has diverged, too.
    """
    (rows,) = point.units.values()
    losses, diverged = curve_fields(point, at), point.stopped[at]
    if diverged is None and losses["eval_nll"] is None:
        diverged = point.step
    finished = diverged is None
    lowest = memory.get(str(at), {}) if finished else {}
    return {
        **losses,
        "final_nll": losses["eval_nll"] if finished else None,
        "unit_nll": list(rows.nll[at]) if finished else None,
        **{name: lowest.get(name) for name in ("min_nll", "min_step", "min_unit_nll")},
        "unit_tokens": list(rows.tokens),
        "train_nll": finite(train_nll) if finished else None,
        "diverged_step": diverged,
        "reason": None if finished else f"the loss was not finite at step {diverged}",
        "wall_seconds": point.account.wall_seconds,
    }


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
        "differences": differences(rows, others, BASELINE, level),
        "tuning": {
            arm: list(rates.items()) for arm, rates in losses_by_rate(rows, TUNED_BY).items()
        },
        "wall_seconds": _wall_seconds(rows),
    }


def differences(
    rows: Iterable[Row], arms: Iterable[str], other: str, level: float
) -> dict[str, dict[str, Any]]:
    """How much arms' losses differ from another's, over the seeds of both and the sentences.

    Args:
      rows: Of the run.
      arms: Their names.
      other: What they are compared with.
      level: Coverage of each interval, which is as wide as the choice of both rates leaves it.

    Returns:
      Of each arm for `final_nll` and `min_nll`: `mean` (arm minus other, nats per token) with `low`
      and `high`; None where no two seeds are there; and the number of `seeds`.
    """
    rows = list(rows)
    losses = {measure: Losses.of(rows, measure) for measure in UNITS}
    return {
        arm: {
            measure: difference_fields(losses[measure].difference((arm, other), level, units))
            for measure, units in UNITS.items()
        }
        for arm in arms
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

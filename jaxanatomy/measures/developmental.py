"""Rows and summary of the developmental experiment (AH section 4.6.3, Tables 8 and 9)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics import seeds_interval

Row = Mapping[str, Any]
BASELINE = "uniform_100"
CURVE, FINAL = "curve", "final"


def developmental_rows(
    trained: Any,
    replica: int,
    prompts: Sequence[tuple[str, str]],
    completions: Sequence[str],
) -> list[dict[str, Any]]:
    """The curve of a replica and its final row.

    Args:
      trained: A `train.growing.Trained`.
      replica: Which of its replicas.
      prompts: Pairs (beginning, the rest that was taught).
      completions: What the replica wrote after each beginning.

    Returns:
      Rows `kind: curve` with `stage`, `step`, `tokens`, `seconds`, `loss` (mean training
      loss since the row before; None at the start of a stage) and `eval_nll`; then a row
      `kind: final` with the last of them as `final_nll`, the lowest as `min_nll` at
      `min_step`, `train_nll`, `completions`, `exact_completions` and `wall_seconds` of all
      replicas together. A loss that is not finite is None, and a final row says why; a
      replica whose last validation loss is not finite has diverged, too.
    """
    rows = [
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
    diverged = trained.diverged[replica]
    if diverged is None and rows[-1]["eval_nll"] is None:
        diverged = rows[-1]["step"]
    finished = diverged is None
    reached = [row for row in rows if row["eval_nll"] is not None]
    best = min(reached, key=lambda row: row["eval_nll"]) if finished else {}
    exact = sum(text == rest for text, (_, rest) in zip(completions, prompts, strict=True))
    last = {name: rows[-1][name] for name in ("stage", "step", "tokens", "seconds", "loss")}
    final = {
        "kind": FINAL,
        **last,
        "eval_nll": rows[-1]["eval_nll"],
        "final_nll": rows[-1]["eval_nll"] if finished else None,
        "min_nll": best.get("eval_nll"),
        "min_step": best.get("step"),
        "train_nll": finite(trained.train_nll[replica]) if finished else None,
        "completions": list(completions),
        "exact_completions": exact,
        "diverged_step": diverged,
        "reason": None if finished else f"the loss was not finite at step {diverged}",
        "wall_seconds": trained.wall_seconds,
    }
    return [*rows, final]


def of_purpose(rows: Iterable[Row], kind: str, purpose: str = "main") -> list[Row]:
    """Rows of one kind ("curve" or "final") and purpose ("main" or "tuning")."""
    return [row for row in rows if row.get("kind") == kind and row.get("purpose") == purpose]


def choose_rate(rows: Iterable[Row], arm: str) -> float | None:
    """The learning rate of lowest final validation loss, the mean of the tuning seeds.

    Args:
      rows: Of a run.
      arm: Whose tuning rows are read.

    Returns:
      The rate; of equal ones the lower. None where no tuning run stayed finite.
    """
    found: dict[float, list[float | None]] = {}
    for row in of_purpose(rows, FINAL, "tuning"):
        if row["arm"] == arm:
            found.setdefault(row["learning_rate"], []).append(row["final_nll"])
    means = {rate: float(np.mean(values)) for rate, values in found.items() if None not in values}
    return min(means, key=lambda rate: (means[rate], rate)) if means else None


def rate_at_edge(rows: Iterable[Row], arm: str) -> bool:
    """Whether an arm took the lowest or highest rate that was tried: another may be better.

    A rate that diverged was tried, so the highest that did not is not at the edge.
    """
    tried = {row["learning_rate"] for row in of_purpose(rows, FINAL, "tuning") if row["arm"] == arm}
    return choose_rate(rows, arm) in (min(tried), max(tried)) if len(tried) > 1 else False


def summarise(rows: Iterable[Row]) -> dict[str, Any]:
    """The figures that the experiment is about.

    Returns:
      `arms`: of each the number of seeds, learning rate and whether it is `rate_at_edge` of
      those that were tried, steps, FLOPs, seconds of a seed, means and 95 % intervals over
      seeds of `final_nll`, `min_nll` and `train_nll`, exact completions, and seeds that
      diverged; `tuning`: final validation loss by arm and learning rate; `differences`:
      `arm - uniform_100`, paired over seeds; `wall_seconds`.
    """
    rows = list(rows)
    finals = of_purpose(rows, FINAL)
    arms = {
        name: _arm([row for row in finals if row["arm"] == name], rate_at_edge(rows, name))
        for name in dict.fromkeys(row["arm"] for row in finals)
    }
    tuning: dict[str, list[dict[str, Any]]] = {}
    for row in of_purpose(rows, FINAL, "tuning"):
        fields = ("learning_rate", "seed", "final_nll", "min_nll")
        tuning.setdefault(row["arm"], []).append({name: row[name] for name in fields})
    return {
        "arms": arms,
        "differences": {name: differences(finals, name) for name in arms if name != BASELINE},
        "tuning": tuning,
        "wall_seconds": _wall_seconds(rows),
    }


def differences(finals: Iterable[Row], arm: str, other: str = BASELINE) -> dict[str, Any]:
    """How much an arm's losses differ from another's, paired over the seeds of both.

    Returns:
      For `final_nll` and `min_nll`: `mean` (arm minus other, nats per token) with `low` and
      `high`, the 95 % interval; None where no two seeds are there.
    """
    finals = list(finals)
    found = {}
    for measure in ("final_nll", "min_nll"):
        own, others = (
            {row["seed"]: row[measure] for row in finals if row["arm"] == name}
            for name in (arm, other)
        )
        pairs = [
            own[seed] - others[seed]
            for seed in own
            if own[seed] is not None and others.get(seed) is not None
        ]
        found[measure] = {"seeds": len(pairs), **_mean(pairs)}
    return found


def _arm(finals: Sequence[Row], rate_at_edge: bool) -> dict[str, Any]:
    first = finals[0]
    found: dict[str, Any] = {
        "seeds": len(finals),
        "learning_rate": first["learning_rate"],
        "rate_at_edge": rate_at_edge,
        "steps": first["step"],
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

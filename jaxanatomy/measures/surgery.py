"""What cuts, repeats and other orders of layers cost, each operation looked at whole.

The best of hundreds of variants is good by chance: intervals here hold for all variants of an
operation on a text at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import Estimate, simultaneous_intervals
from jaxanatomy.measures.statistics.many_looks import differences, may_be_smallest
from jaxanatomy.records import Row

CUT = "cut"


def operations(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each text and operation, by both; those of the unchanged model are left out.

    In an order of their own: intervals are drawn, and a run that was stopped has other rows last.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    changed = [row for row in rows if row["variant"] != BASELINE]
    for row in sorted(changed, key=lambda row: (row["size"], row["start"], row["op"])):
        found.setdefault((row["text"], row["op"]), []).append(row)
    return found


def baselines(rows: Iterable[Row]) -> dict[str, Row]:
    """The unchanged model's row on each text."""
    return {row["text"]: row for row in rows if row["variant"] == BASELINE}


def looked_at(rows: Sequence[Row], baseline: Row) -> list[Row]:
    """Rows of one operation with intervals that hold for all of them at once.

    Args:
      rows: The variants of one operation on one text.
      baseline: The unchanged model on it.

    Returns:
      The rows with `change` (perplexity in percent) and `kl` (nats a token, 0 or above), each an
      Estimate with its simultaneous 95 % interval, none where a loss is not finite or the text is
      one unit; and `told_apart`, whether the interval of the change excludes 0. KL has no such
      verdict: it is above 0 for any change, and below 1e-5 no more than rounding.
    """
    changes, kls = (
        [
            Estimate(*map(float, each))
            for each in simultaneous_intervals(*differences(rows, baseline, field))
        ]
        for field in ("unit_nll", "unit_kl")
    )
    return [
        row
        | {
            "change": change.degradation_percent(),
            "kl": kl.map(lambda value: np.maximum(value, 0.0)),
            "told_apart": change.low > 0 or change.high < 0,
        }
        for row, change, kl in zip(rows, changes, kls, strict=True)
    ]


def summarise(rows: Iterable[Row], documents: Mapping[str, int]) -> dict[str, Any]:
    """By text and operation: how many variants do harm or good, and the best of each length.

    Args:
      rows: Of a whole run.
      documents: Of each text by its name, how many documents it has.

    Returns:
      `texts`, for each `baseline_ppl`, `tokens`, `documents`, `units` (of the intervals: blocks
      where documents are few, see `sampling_units`) and `operations`: `variants`, `worse` and
      `better` (told apart from the unchanged model by the simultaneous interval), `below`
      (perplexity below the unchanged model's, told apart or not) and `best` (see
      `best_of_each_length`).
    """
    rows = list(rows)
    by_operation = operations(rows)
    return {
        "texts": {
            text: {
                "baseline_ppl": baseline["ppl"],
                "tokens": baseline["tokens"],
                "documents": documents[text],
                "units": len(baseline["unit_tokens"]),
                "operations": {
                    op: _digest(looked_at(own, baseline), baseline)
                    for (its_text, op), own in by_operation.items()
                    if its_text == text
                },
            }
            for text, baseline in baselines(rows).items()
        }
    }


def best_of_each_length(looked: Sequence[Row], baseline: Row) -> list[dict[str, Any]]:
    """The variant of each length that loses least, ready for JSON.

    Args:
      looked: From `looked_at`, the variants of one operation on one text.
      baseline: The unchanged model on it.

    Returns:
      `variant`, `size`, `start`, `ppl`, `degradation_percent`, `kl`, with intervals `ci95` and
      `kl_ci95` that hold for all variants of the operation, so also for one that was picked; of
      cuts `may_be_best`, the starts of those of its length that are not told apart from it (with
      probability 0.95 the best one is among them, for each length). Lengths of which no loss is
      finite are left out.
    """
    found = []
    for size in sorted({row["size"] for row in looked}):
        own = [row for row in looked if row["size"] == size and row["nll"] is not None]
        if not own:
            continue
        best = min(own, key=lambda row: row["nll"])
        entry = {name: best[name] for name in ("variant", "size", "start", "ppl")}
        entry |= _both_readings(best)
        if best["op"] == CUT:
            may_V = may_be_smallest(*differences(own, baseline))
            starts = [row["start"] for row, may in zip(own, may_V, strict=True) if may]
            entry["may_be_best"] = starts
        found.append(entry)
    return found


def _both_readings(row: Mapping[str, Any]) -> dict[str, Any]:
    change, kl = row["change"], row["kl"]
    return {
        "degradation_percent": finite(change.value),
        "ci95": change.ends,
        "kl": finite(kl.value),
        "kl_ci95": kl.ends,
    }


def _digest(looked: Sequence[Row], baseline: Row) -> dict[str, Any]:
    return {
        "variants": len(looked),
        "worse": sum(row["told_apart"] and row["change"].value > 0 for row in looked),
        "better": sum(row["told_apart"] and row["change"].value < 0 for row in looked),
        "below": sum(row["change"].value < 0 for row in looked),
        "best": best_of_each_length(looked, baseline),
    }

"""What the rows of the manipulation experiment say, in a few figures."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.calibration import calibrated
from jaxanatomy.measures.compounding import compounding
from jaxanatomy.measures.readings.attention import LOCAL
from jaxanatomy.records import Row

MAP = "neighbour_mean"
# Survival, in percent of perplexity: what the paper calls viable costs it +19 or +49 %.
VIABLE_PERCENT = 100.0
# What changes nothing, such as all of a layer's own singular values, differs by rounding.
ROUNDING_PERCENT = 0.01


def sweep_rows(rows: Iterable[Row], text: str | None = None) -> list[Row]:
    """The rows of variants' losses, of one text if it is named."""
    return [row for row in rows if "kind" not in row and (text is None or row["text"] == text)]


def map_degradation(rows: Iterable[Row], text: str, num_layers: int) -> dict[int, float]:
    """The neighbour mean's degradation of each inner layer, in percent, by layer.

    It decides which layers are the set `measured`, and `least_K`; infinite where the
    perplexity is not finite.

    Raises:
      InputError: The map has not been measured on this text.
    """
    found = {
        row["layers"][0]: math.inf if row["ppl"] is None else row["degradation_percent"]
        for row in sweep_rows(rows, text)
        if row["strategy"] == MAP
        and row["set"].isdecimal()
        and 0 < row["layers"][0] < num_layers - 1
    }
    if not found:
        raise InputError(
            f"the sets are chosen by the neighbour means on {text!r}, which are not measured; "
            "start the run again"
        )
    return {layer: math.inf if value is None else value for layer, value in found.items()}


def improved(rows: Iterable[Row], text: str) -> list[str]:
    """The variants whose perplexity is below the baseline's on a text, by name.

    Random perturbations are left out: half of any small ones are improvements. So are
    differences of less than 0.01 %, which rounding makes.
    """
    return [
        row["variant"]
        for row in sweep_rows(rows, text)
        if row["strategy"] not in ("none", "perturb")
        and row["degradation_percent"] is not None
        and row["degradation_percent"] < -ROUNDING_PERCENT
    ]


def calibration_digest(rows: Iterable[Row], fit_texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every improvement before and after temperature scaling; see `calibration.calibrated`.

    Args:
      rows: All rows, those of kind "temperature" among them.
      fit_texts: For each text the one that temperatures are fitted on.
    """
    rows = list(rows)
    found = {(row["text"], row["variant"]): row for row in rows if row.get("kind") == "temperature"}
    return [
        calibrated(
            found[fit, name],
            found[fit, BASELINE],
            found[text, name],
            found[text, BASELINE],
        )
        for text, fit in fit_texts.items()
        for name in improved(rows, text)
    ]


def compounding_digest(rows: Iterable[Row], text: str) -> dict[str, dict[str, Any]]:
    """Whether noise in several layers compounds, by alpha; see `compounding.compounding`.

    Returns:
      For each alpha, of the change in mean NLL (nats; the perplexity would grow faster only
      because it is an exponential): `ratio_all_to_sum` (1: effects add up) with `ratio_ci95`,
      which decides; of its size, the `exponent` in the number of layers with `exponent_ci95`;
      `ratio_reason` and `exponent_reason` where one of them or its interval is None; the number
      of `seeds`; and `degradation_all_percent` and `by_count`, the mean degradations. Empty
      where no noise was measured.
    """
    own = [row for row in sweep_rows(rows, text) if row["strategy"] in ("none", "perturb")]
    if not any(row["strategy"] == "perturb" for row in own):
        return {}
    digest = {}
    for each in compounding(own):
        exponent, ratio = each["exponents"]["absolute_delta_nll"], each["all_to_singles"]
        reasons = {"ratio_reason": ratio.get("reason"), "exponent_reason": exponent.get("reason")}
        digest[f"{each['alpha']:g}"] = {
            "seeds": len(each["seeds"]),
            "ratio_all_to_sum": ratio["ratio"],
            "ratio_ci95": ratio["ci95"],
            "exponent": exponent["value"],
            "exponent_ci95": exponent["ci95"],
            **{name: reason for name, reason in reasons.items() if reason},
            "degradation_all_percent": each["counts"][-1]["degradation_percent"],
            "by_count": {
                str(count["count"]): count["degradation_percent"] for count in each["counts"]
            },
        }
    return digest


def attention_digest(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """How far noise moves attention, by component and alpha: means over layers and seeds."""
    groups = defaultdict(list)
    for row in rows:
        if row.get("kind") == "attention":
            alpha = "matched_noise" if row["alpha"] is None else f"{row['alpha']:g}"
            for figure in ("total_variation", "argmax_changed"):
                name = figure if row["spread"] == LOCAL else f"{row['spread']}_{figure}"
                groups[row["component"], alpha, name].append(row[figure])
    digest: dict[str, dict[str, dict[str, float]]] = {}
    for (component, alpha, name), values in groups.items():
        digest.setdefault(component, {}).setdefault(alpha, {})[name] = statistics.fmean(values)
    return digest


def summarise_text(rows: Iterable[Row], text: str, main_sets: Sequence[str]) -> dict[str, Any]:
    """The figures of one text.

    Returns:
      A dict ready for JSON: `baseline_ppl`, `variants`; for each main set `strategies`
      (degradation in percent by strategy with its setting) and `viable` (those below
      +100 %); `improvements`, the variants whose whole interval is below 0.
    """
    # By name: a row that was measured anew stands at the end of its file.
    own = sorted(sweep_rows(rows, text), key=lambda row: row["variant"])
    (baseline,) = [row for row in own if row["strategy"] == "none"]
    by_set = {
        name: {
            row["variant"].partition("/")[0]: row["degradation_percent"]
            for row in own
            if row["set"] == name
        }
        for name in main_sets
    }
    return {
        "baseline_ppl": baseline["ppl"],
        "variants": len(own),
        "strategies": by_set,
        "viable": {
            name: [
                strategy
                for strategy, value in strategies.items()
                if value is not None and value < VIABLE_PERCENT
            ]
            for name, strategies in by_set.items()
        },
        "improvements": [
            row["variant"]
            for row in own
            if row["strategy"] not in ("none", "perturb") and row["ci95"] and row["ci95"][1] < 0
        ],
    }

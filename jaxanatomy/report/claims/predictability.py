"""AH section 4.2, Table 2: predicted weights, in weight space and at work."""

import functools
import statistics
from collections.abc import Sequence

from jaxanatomy.forensics.prediction import READINGS, targets
from jaxanatomy.interventions.predicted import prediction_sets
from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.papers import paper_table
from jaxanatomy.report.cells import Row, number
from jaxanatomy.report.claims.claim import (
    FAILS,
    HOLDS,
    Answer,
    Claim,
    Evidence,
    Finding,
    combine,
    effect,
    every,
    harms_more,
    mean_nll,
    most,
    negated,
    padded,
    per_text_of_depth,
    percent,
    reaches,
    some,
)

PREDICTABLE = 0.7  # least R2 that the paper calls predictable (0.716)
MARGIN = 0.02  # least R2, and least distance from the null, that means anything
SAME = 0.1  # greatest difference of two tables' R2 that are the same finding
TOLERABLE, CRITICAL = THRESHOLDS_PERCENT[1:]
NINE = 9
OUT_OF_SAMPLE = "extrapolate"

_TABLE2 = paper_table("table2_r2")
_PERCENT = paper_table("table2_percent")
_CALLED_PREDICTABLE = [name for name, (average, _) in _TABLE2.items() if average >= PREDICTABLE]


def _readings(evidence: Evidence) -> dict[str, dict[str, Row]]:
    """The means over target layers, by reading and component."""
    readings: dict[str, dict[str, Row]] = {}
    for row in evidence.rows("predictability"):
        if "r2" in row and row.get("target") is None:
            readings.setdefault(row["reading"], {})[row["component"]] = row
    return readings


def _high(evidence: Evidence) -> tuple[Answer, dict[str, Row], list[str]]:
    """Whether the components that the paper calls predictable are so out of sample.

    Returns:
      The answer, the rows of those that were measured, and the others.
    """
    rows = _readings(evidence).get(OUT_OF_SAMPLE, {})
    called = {name: rows[name] for name in _CALLED_PREDICTABLE if name in rows}
    absent = [f"the R2 of {name}" for name in _CALLED_PREDICTABLE if name not in called]
    answers = [None if row["r2"] is None else row["r2"] >= PREDICTABLE for row in called.values()]
    return every(padded(answers, absent)), called, absent


def _r2_high(evidence: Evidence) -> Finding | None:
    answer, rows, absent = _high(evidence)
    if not rows:
        return None
    undefined = [name for name, row in rows.items() if row["r2"] is None]
    reason = f"undefined: {', '.join(undefined)}" if answer is None and undefined else ""
    return Finding.of(answer, _r2(rows), _null(rows), reason, absent)


def _r2_reproduced(evidence: Evidence) -> Finding | None:
    """Whether one reading gives all of Table 2."""
    readings = {name: rows for name, rows in _readings(evidence).items() if name in READINGS}
    if not readings:
        return None
    answers, distances, absent = [], {}, []
    for reading in READINGS:
        rows = readings.get(reading, {})
        missing = [name for name in _TABLE2 if name not in rows]
        known = {name: row["r2"] for name, row in rows.items() if name in _TABLE2}
        off = [None if r2 is None else abs(r2 - _TABLE2[name][0]) for name, r2 in known.items()]
        near = [None if distance is None else distance <= SAME for distance in off]
        answers.append(every(padded(near, missing)))
        if not missing and None not in off:
            distances[reading] = max(off)
        absent += [f"{reading} of {name}" for name in missing] if rows else [reading]
    if not distances:
        return Finding.of(some(answers), "no reading of all components", absent=absent)
    nearest = min(distances, key=distances.get)
    return Finding.of(
        some(answers),
        f"nearest reading {nearest}: {_r2(readings[nearest])}",
        _null(readings[nearest]),
        f"of {len(distances)} readings {nearest} comes nearest, within {distances[nearest]:.2f}",
        absent,
    )


def _beats_null(evidence: Evidence) -> Finding | None:
    rows = _readings(evidence).get(OUT_OF_SAMPLE, {})
    if not rows:
        return None
    answers = []
    for row in rows.values():
        known = row.get("r2") is not None and row.get("null_high") is not None
        answers.append(row["r2"] >= max(0.0, row["null_high"]) + MARGIN if known else None)
    absent = [name for name in _TABLE2 if name not in rows]
    return Finding.of(
        most(padded(answers, absent)),
        _r2(rows),
        _null(rows),
        f"better than noise and than the mean: {answers.count(True)} of {len(answers)} components",
        absent,
    )


def _r2(rows: dict[str, Row]) -> str:
    return ", ".join(f"{name} {_plain(row.get('r2'))}" for name, row in rows.items())


def _null(rows: dict[str, Row]) -> str:
    words = ", ".join(f"{name} {_plain(row.get('null_r2'))}" for name, row in rows.items())
    return f"independent Gaussians: {words}"


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}".replace("-", "−")


def _function(
    rows: list[Row], least: int, most_: int | None = None
) -> list[tuple[Row, Row | None]]:
    """Rows of predicted sets of so many layers, each with the same layers deleted."""
    zero = {tuple(row["layers"]): row for row in rows if row.get("strategy") == "zero"}
    return [
        (row, zero.get(tuple(row["layers"])))
        for row in rows
        if row.get("strategy") == "predicted"
        and least <= len(row["layers"]) <= (most_ or len(row["layers"]))
    ]


def _paradox(evidence: Evidence) -> Finding | None:
    high, rows, absent = _high(evidence)
    texts = evidence.texts("predictability")
    broken = combine(
        {
            text: each
            for text, part in texts.items()
            if (each := _nine(part, evidence.depth, CRITICAL))
        }
    )
    if not rows and broken is None:
        return None
    ruined = {HOLDS: True, FAILS: False}.get(broken.verdict) if broken else None
    absent += [] if broken else ["the function of nine layers"]
    said = {True: "is", False: "is not", None: "may be"}
    return Finding.of(
        every([high, ruined]),
        f"R2 {_r2(rows) or 'not measured'}; nine layers: "
        f"{broken.measured if broken else 'not measured'}",
        "; ".join(filter(None, [_null(rows) if rows else "", broken.null if broken else ""])),
        f"R2 {said[high]} high out of sample; the model {said[ruined]} destroyed",
        absent,
    ).on([broken.text] if broken and broken.text else [])


def _one(rows: list[Row], depth: int) -> Finding | None:
    pairs = _function(rows, 1, 1)
    if not pairs:
        return None
    answers = [negated(reaches(row, TOLERABLE)) for row, _ in pairs]
    absent = _absent_targets(pairs, depth)
    return Finding.of(
        most(padded(answers, absent)),
        f"median {percent(_median([row for row, _ in pairs]))} over {len(pairs)} layers",
        "the same layers deleted: " + _deleted(pairs),
        f"settled below {TOLERABLE:g} %: {answers.count(True)}, not below: {answers.count(False)} "
        f"of {len(answers)} layers",
        absent,
    )


def _absent_targets(pairs: Sequence[tuple[Row, Row | None]], depth: int) -> list[str]:
    """The layers that can be predicted and were not, in words."""
    found = {row["layers"][0] for row, _ in pairs}
    return [f"L{layer}" for layer in targets(depth) if layer not in found]


def _nine(rows: list[Row], depth: int, threshold: float) -> Finding | None:
    """Whether every set of nine or more predicted layers costs at least so many percent."""
    pairs = _function(rows, NINE)
    if not pairs:
        return None
    found = {tuple(row["layers"]) for row, _ in pairs}
    wanted = prediction_sets(depth, (NINE,)) if depth else {}
    absent = [
        name
        for name, layers in wanted.items()
        if len(layers) >= NINE and tuple(layers) not in found
    ]
    least = min((row for row, _ in pairs), key=mean_nll)
    return Finding.of(
        every(padded((reaches(row, threshold) for row, _ in pairs), absent)),
        f"least of {len(pairs)} sets: {effect(least)}",
        "the same layers deleted: " + _deleted(pairs),
        absent=absent,
    )


def _against_deletion(rows: list[Row], depth: int) -> Finding | None:
    pairs = [(row, other) for row, other in _function(rows, 1, 1) if other]
    if not pairs:
        return None
    answers = [harms_more(other, row) for row, other in pairs]
    absent = _absent_targets(pairs, depth)
    return Finding.of(
        most(padded(answers, absent)),
        f"median {percent(_median([row for row, _ in pairs]))} over {len(pairs)} layers",
        "the same layers deleted: " + _deleted(pairs),
        f"better than nothing in {answers.count(True)}, worse in {answers.count(False)} of "
        f"{len(pairs)} layers",
        absent,
    )


def _median(rows: Sequence[Row]) -> float:
    return statistics.median(number(row, "degradation_percent") for row in rows)


def _deleted(pairs: Sequence[tuple[Row, Row | None]]) -> str:
    others = [other for _, other in pairs if other]
    return f"median {percent(_median(others))}" if others else "not measured"


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test, **more) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=("predictability",), **more)


_PRINTED = ", ".join(f"{name} {_plain(average)}" for name, (average, _) in _TABLE2.items())

CLAIMS = (
    _claim(
        "r2_high",
        "AH section 4.2, Table 2",
        "The weights of most components are highly predictable from earlier layers.",
        _PRINTED,
        f"Predicting a layer from those before it, the mean R2 over layers is at least "
        f"{PREDICTABLE} in each of the {len(_CALLED_PREDICTABLE)} components called predictable.",
        _r2_high,
    ),
    _claim(
        "r2_reproduced",
        "AH Table 2",
        "The protocol gives the R2 of Table 2.",
        _PRINTED,
        f"In one of {len(READINGS)} readings of the protocol all seven mean R2 lie within {SAME} "
        "of the table's.",
        _r2_reproduced,
        papers_model=True,
    ),
    _claim(
        "later_layers_predictable",
        "AH hypothesis H2",
        "Later layers' weights can be predicted from earlier ones: there is a pattern.",
        "H2, from R2",
        "In more than half of the components the out-of-sample R2 exceeds 0, and the upper end "
        f"of what independent Gaussians give, by at least {MARGIN}.",
        _beats_null,
    ),
    _claim(
        "r2_perplexity_paradox",
        "AH section 4.2",
        "Weights can be predicted with high R2, and yet the predicted weights destroy the model.",
        f"R2 0.91; nine layers > {percent(_PERCENT['predicted_9_at_least'])}",
        f"Both halves hold: out-of-sample R2 of at least {PREDICTABLE} as above, and the whole "
        f"interval of every set of nine or more predicted layers at or above {CRITICAL:g} %.",
        _paradox,
    ),
    _claim(
        "one_predicted_layer",
        "AH section 4.2",
        "One layer with predicted weights costs little.",
        f"{percent(_PERCENT['predicted_1'])} (which layer is not said)",
        f"In more than half of the layers the whole interval lies below {TOLERABLE:g} %.",
        per_text_of_depth("predictability", _one),
    ),
    _claim(
        "predicted_beats_deleted",
        "AH section 4.2 (our control)",
        "A predicted layer is better than none.",
        "no such control",
        "In more than half of the layers a paired interval says that deleting it harms more.",
        per_text_of_depth("predictability", _against_deletion),
    ),
    _claim(
        "nine_predicted_layers",
        "AH section 4.2",
        "Nine or more layers with predicted weights cost more than 442,000 %.",
        f"> {percent(_PERCENT['predicted_9_at_least'])}",
        "The whole interval of every such set (nine spread evenly, the last nine, and others that "
        f"were measured) lies at or above {_PERCENT['predicted_9_at_least']:,} %.",
        per_text_of_depth(
            "predictability",
            functools.partial(_nine, threshold=_PERCENT["predicted_9_at_least"]),
        ),
    ),
)

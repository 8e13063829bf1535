"""AH sections 1.2, 4.2 and 5.3: improvements, small errors, and where attention looks."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Evidence,
    Finding,
    beyond,
    combine,
    every,
    negated,
    percent,
)

EPSILON = 0.01  # the paper's size of a small error
ADDITIVE = 1.0  # exponent of errors that only add up
HARMLESS = THRESHOLDS_PERCENT[0]
REDIRECTED = 0.5  # share of queries whose largest attention weight moves


def _improvement(evidence: Evidence) -> Finding | None:
    """Whether a variant improves every text beyond what a temperature does."""
    lists = evidence.summaries("manipulation", "calibration").values()
    texts = list(evidence.texts("manipulation"))
    if not lists or len(texts) < 2:  # a temperature is fitted on another text
        return None
    entries = [entry for found in lists for entry in found]
    improved, survives = _by_variant(entries, (True, False)), _by_variant(entries, (False,))
    everywhere = [name for name, on in survives.items() if on == set(texts)]
    return Finding.of(
        True if everywhere else None if survives else False,
        f"{len(improved)} variants are better on a text, {len(survives)} of them also after "
        f"calibration: {_first(list(survives))}",
        "both models at a temperature fitted on other text",
        f"better on every text after calibration: {_first(everywhere)}",
    ).on(texts)


def _by_variant(entries: Iterable[Mapping[str, Any]], kept: Sequence[bool]) -> dict[str, set[str]]:
    """The texts on which each variant improves and its explanation is one of those kept."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry["explained_by_calibration"] in kept:
            found[entry["variant"]].add(entry["text"])
    return dict(found)


def _first(names: Sequence[str], shown: int = 3) -> str:
    words = ", ".join(names[:shown]) or "none"
    return words + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _compounds(evidence: Evidence) -> Finding | None:
    """Whether 1 % of noise in every layer does damage that grows faster than a sum."""
    findings = {}
    for text, doses in evidence.summaries("manipulation", "compounding").items():
        dose = _dose(doses, EPSILON)
        if dose is None:
            continue
        whole = dose["degradation_all_percent"]
        harmful = None if whole is None else whole >= HARMLESS
        findings[text] = Finding.of(
            every([harmful, _exceeds(dose["exponent_ci95"], ADDITIVE)]),
            f"all layers at {EPSILON:.0%}: {percent(math.nan if whole is None else whole)}; "
            f"exponent {_plain(dose['exponent'])} {_interval(dose['exponent_ci95'])}",
            f"exponent {ADDITIVE:g} if errors only add up; all layers at once do "
            f"{_plain(dose['ratio_all_to_sum'])} times the sum of each alone",
            "the damage is " + ("not " if harmful is False else "") + f"{HARMLESS:g} % or more",
        )
    return combine(findings)


def _dose(doses: Mapping[str, Any], alpha: float) -> Mapping[str, Any] | None:
    """The entry of a dose; JSON keeps the doses as text."""
    return next((each for name, each in doses.items() if math.isclose(float(name), alpha)), None)


def _exceeds(ends: Sequence[float] | None, threshold: float) -> Answer:
    """Whether an interval lies above a threshold that it may not touch."""
    return None if ends is None else negated(beyond([-ends[1], -ends[0]], -threshold))


def _redirects(evidence: Evidence) -> Finding | None:
    """Whether 1 % of noise in q or k moves the largest attention weight of most queries."""
    rows = [row for row in evidence.rows("manipulation") if row.get("kind") == "attention"]
    shifts: dict[tuple, list] = defaultdict(list)
    for row in rows:
        key = row["alpha"], row["component"], row["spread"], row["layer"]
        shifts[key].append((row["argmax_changed"], row["total_variation"]))
    mean = {key: tuple(map(fmean, zip(*each, strict=True))) for key, each in shifts.items()}
    small = {key: each for key, each in mean.items() if key[0] and math.isclose(key[0], EPSILON)}
    if not small:
        return None
    largest = max(small, key=small.get)
    _, component, spread, layer = largest
    share, moved = small[largest]
    noise = [each for key, each in mean.items() if key[0] is None]
    return Finding.of(
        share >= REDIRECTED,
        f"largest effect, {component} of L{layer} ({spread}): the largest weight moves for "
        f"{share:.1%} of the queries, {moved:.1%} of the attention moves",
        f"nothing but noise instead: {max(noise)[0]:.1%} of the queries" if noise else "",
        f"{share:.1%} against {REDIRECTED:.0%}",
    ).on(dict.fromkeys(str(row["text"]) for row in rows))


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "without interval" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=("manipulation",))


CLAIMS = (
    _claim(
        "improvement_beyond_temperature",
        "AH abstract, hypothesis H4",
        "Removing or perturbing some layers improves the model.",
        "L14 and L17",
        "The same variant lowers the loss on every text after both models got a temperature fitted "
        "on other text (whole interval below 0); it fails if none does on any text.",
        _improvement,
    ),
    _claim(
        "errors_compound",
        "AH section 4.2",
        "An error of 1 % in each layer compounds through the layers until the model fails.",
        "explanation without a figure",
        f"With noise of {EPSILON:.0%} in every layer the degradation is at least {HARMLESS:g} %, "
        "and the loss grows with the number of layers to a power whose whole interval exceeds "
        f"{ADDITIVE:g}.",
        _compounds,
    ),
    _claim(
        "attention_redirected",
        "AH section 5.3",
        "A perturbation of 1 % in q or k can completely redirect attention.",
        "explanation without a figure",
        f"In some layer noise of {EPSILON:.0%} in q or k moves the largest attention weight of at "
        f"least {REDIRECTED:.0%} of the queries, mean over seeds and heads.",
        _redirects,
    ),
)

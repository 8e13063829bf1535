"""AH sections 1.2, 4.2 and 5.3: improvements, small errors, and where attention looks."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.attention import COMPONENTS, LOCAL, PROPAGATED
from jaxanatomy.measures.calibration import nll_at
from jaxanatomy.measures.manipulation import VIABLE_PERCENT
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Evidence,
    Finding,
    agreed,
    beyond,
    effect,
    every,
    negated,
    padded,
    reaches,
    some,
)
from jaxanatomy.report.claims.manipulation import ALPHAS, GENTLE, absent_strategies
from jaxanatomy.report.claims.tried import RULE as IMPROVED
from jaxanatomy.report.claims.tried import gains

EPSILON = 0.01  # the paper's size of a small error
ADDITIVE = 1.0  # all layers at once against the sum of each alone, if errors only add up
REDIRECTED = 0.5  # share of queries whose largest attention weight moves


def _improvement(evidence: Evidence) -> Finding | None:
    """Whether a variant improves every text beyond what a temperature does, and chance."""
    lists = evidence.summaries("manipulation", "calibration").values()
    texts = evidence.texts("manipulation")
    if not lists or len(texts) < 2:  # a temperature is fitted on another text
        return None
    shared = set.intersection(*(_tried(rows) for rows in texts.values()))
    if not shared:
        return None
    entries = [entry for found in lists for entry in found]
    kept = _by_variant(entry for entry in entries if _remains(entry))
    everywhere = [name for name in kept if name in shared and kept[name].keys() == texts.keys()]
    curves = {
        (row["text"], row["variant"]): row
        for row in evidence.rows("manipulation")
        if row.get("kind") == "temperature"
    }
    proven = [
        name
        for name in everywhere
        if all(_gains(entry, curves, len(shared)) for entry in kept[name].values())
    ]
    open_ = kept or any(_remains(entry) is None for entry in entries)
    absent = absent_strategies(
        [row for row in next(iter(texts.values())) if row.get("set") == "measured"],
        evidence.depth,
        alphas=(GENTLE, *ALPHAS),
    )
    return Finding.of(
        True if proven else None if open_ or absent else False,
        f"{len(_by_variant(entries))} variants are better on a text, {len(kept)} of them also "
        f"after calibration: {_first(list(kept))}; on every text {_first(everywhere)}",
        "both models at a temperature fitted on other text; of the "
        f"{len(shared)} variants tried on every text {0.025 * len(shared):.1f} remain by chance on "
        "one",
        f"better on every text, as the best of {len(shared)}: {_first(proven)}",
        () if proven else absent,
    ).on(texts)


def _tried(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The variants that might improve a text; random noise and the baseline are none."""
    return {row["variant"] for row in rows if row.get("strategy") not in ("none", "perturb", None)}


def _remains(entry: Mapping[str, Any]) -> Answer:
    """Whether a gain remains after calibration; None where a temperature may lie off the grid."""
    if entry["temperature_at_edge"] or entry["baseline_temperature_at_edge"]:
        return None
    return entry["gain_remains"]


def _gains(
    entry: Mapping[str, Any], curves: Mapping[tuple[str, str], Mapping[str, Any]], tried: int
) -> bool:
    """Whether a calibrated gain is beyond chance, as the best of so many."""
    pair = [curves.get((entry["text"], name)) for name in (entry["variant"], BASELINE)]
    if None in pair:
        return False
    temperatures = entry["temperature"], entry["baseline_temperature"]
    own, base = (
        {**row, "unit_nll": nll_at(row, temperature)}
        for row, temperature in zip(pair, temperatures, strict=True)
    )
    return gains(own, base, tried)


def _by_variant(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Entries by variant and text."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for entry in entries:
        found[entry["variant"]][entry["text"]] = entry
    return dict(found)


def _first(names: Sequence[str], shown: int = 3) -> str:
    words = ", ".join(names[:shown]) or "none"
    return words + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _compounds(evidence: Evidence) -> Finding | None:
    """Whether 1 % of noise in every layer does damage that grows faster than a sum."""
    doses = next(iter(evidence.summaries("manipulation", "compounding").values()), {})
    dose = _dose(doses, EPSILON)
    if dose is None:
        return None
    noisy = [
        row
        for row in evidence.rows("manipulation")
        if row.get("strategy") == "perturb" and "kind" not in row and _is(row["alpha"], EPSILON)
    ]
    depth = evidence.depth or max((row["count"] for row in noisy), default=0)
    whole = [row for row in noisy if row["count"] == depth]
    harmful = agreed(reaches(row, VIABLE_PERCENT) for row in whole)
    absent = [] if whole else [f"noise in all {depth} layers"]
    said = {
        True: f"{VIABLE_PERCENT:g} % or more",
        False: f"below {VIABLE_PERCENT:g} %",
        None: "not settled",
    }
    return Finding.of(
        every([harmful, _exceeds(dose["ratio_ci95"], ADDITIVE)]),
        f"all layers at {EPSILON:.0%}: {'; '.join(map(effect, whole)) or 'not measured'}; "
        f"{_plain(dose['ratio_all_to_sum'])} {_interval(dose['ratio_ci95'])} times the sum of "
        "each layer alone",
        f"{ADDITIVE:g} times if errors only add up",
        f"the damage is {said[harmful]}",
        absent,
    ).on(dict.fromkeys(row["text"] for row in noisy))


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
    small = {key: each for key, each in shifts.items() if key[0] and _is(key[0], EPSILON)}
    if not small:
        return None
    largest = max(small, key=lambda key: fmean(share for share, _ in small[key]))
    _, component, spread, layer = largest
    shares, moved = zip(*small[largest], strict=True)
    answers = [
        agreed(share >= REDIRECTED for share, _ in each) if len(each) > 1 else None
        for each in small.values()
    ]
    found = {key[1:] for key in small}
    absent = [
        f"{name} of L{number} ({kind})"
        for name in COMPONENTS
        for kind in (LOCAL, PROPAGATED)
        for number in range(evidence.depth)
        if (name, kind, number) not in found
    ]
    noise = [fmean(share for share, _ in each) for key, each in shifts.items() if key[0] is None]
    return Finding.of(
        some(padded(answers, absent)),
        f"largest effect, {component} of L{layer} ({spread}): the largest weight moves for "
        f"{fmean(shares):.1%} of the queries ({min(shares):.1%} to {max(shares):.1%} over "
        f"{len(shares)} seeds), {fmean(moved):.1%} of the attention moves",
        f"nothing but noise instead: {max(noise):.1%} of the queries" if noise else "",
        f"at most {max(share for each in small.values() for share, _ in each):.1%} in any layer "
        f"and seed against {REDIRECTED:.0%}"
        + ("" if len(shares) > 1 else "; one seed has no spread"),
        absent,
    ).on(dict.fromkeys(str(row["text"]) for row in rows))


def _is(alpha: float | None, epsilon: float) -> bool:
    return alpha is not None and math.isclose(alpha, epsilon)


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
        "One of the K variants that were tried on every text lowers the loss on each after both "
        "models got a temperature fitted on other text: by the 95 % interval of the paired "
        f"bootstrap, and beyond chance ({IMPROVED}). It fails if Table 4 was tried on the measured "
        "set and no variant's gain remains on any text by the bootstrap. A temperature at the edge "
        "of its grid decides nothing.",
        _improvement,
    ),
    _claim(
        "errors_compound",
        "AH section 4.2",
        "An error of 1 % in each layer compounds through the layers until the model fails.",
        "explanation without a figure",
        f"With noise of {EPSILON:.0%} in every layer the whole interval of each seed lies at or "
        f"above {VIABLE_PERCENT:g} % (it fails if each lies below), and the loss rises by more "
        f"than the sum of each layer alone: the whole interval of the ratio exceeds {ADDITIVE:g}.",
        _compounds,
    ),
    _claim(
        "attention_redirected",
        "AH section 5.3",
        "A perturbation of 1 % in q or k can completely redirect attention.",
        "explanation without a figure",
        f"In some layer noise of {EPSILON:.0%} in q or k moves the largest attention weight of at "
        f"least {REDIRECTED:.0%} of the queries, mean over heads, with every seed of at least two; "
        "it fails if in each layer it does with none.",
        _redirects,
    ),
)

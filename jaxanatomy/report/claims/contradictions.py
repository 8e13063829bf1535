"""Where the paper's own figures agree or disagree with each other: arithmetic, no model.

Each statement is the paper's; "does not hold" says that its other figures contradict it.
"""

import math
from statistics import median

from jaxanatomy.measures.importance import categorise
from jaxanatomy.papers import paper_table
from jaxanatomy.report.claims.claim import Claim, Finding, layers, percent

SAME = 0.01  # relative difference of two figures that are the same
ROUNDING = 0.5  # in the last digit of a printed percentage
ALIKE = 3.0  # a factor within which two orders of magnitude are called the same
FACTORS = (2.0, 1.5, 1.1)  # thresholds of Table 5, times the baseline

_BASELINE = paper_table("baseline_ppl")
_TABLE1, _TABLE5 = paper_table("table1"), paper_table("table5_recovery")
_PPL4, _PERCENT4 = paper_table("table4_ppl"), paper_table("table4_percent")
_DEGRADATION = _TABLE1["degradation_percent"]


def is_same(value: float, other: float, tolerance: float = SAME) -> bool:
    """Whether two figures agree within a relative tolerance."""
    return math.isclose(value, other, rel_tol=tolerance)


def implied_baselines() -> dict[str, float]:
    """The baseline perplexity behind each row of Table 4: PPL / (1 + percent / 100)."""
    return {name: _PPL4[name] / (1 + value / 100) for name, value in _PERCENT4.items()}


def _baseline() -> Finding:
    implied = implied_baselines()
    others = [name for name, value in implied.items() if not is_same(value, _BASELINE)]
    words = ", ".join(f"{name} {value:.2f}" for name, value in implied.items())
    return Finding.of(
        not others,
        f"implied: {words}",
        reason=f"{len(others)} of {len(implied)} rows imply another",
    )


def _abstract() -> Finding:
    stated, printed = paper_table("abstract")["scale_0.9_percent"], _PERCENT4["scale_0.9"]
    other = median(implied_baselines().values())
    gone = 100 * (_PPL4["scale_0.9"] / other - 1)
    return Finding.of(
        abs(stated - printed) <= ROUNDING,
        f"Table 4: {percent(printed)}",
        reason=f"{_PPL4['scale_0.9']} is {percent(gone)} of {other:.2f}, the baseline that the "
        "other rows imply",
    )


def _recovery_thresholds() -> Finding:
    other = median(implied_baselines().values())
    counts = {baseline: _misfits(baseline) for baseline in (_BASELINE, other)}
    words = ", ".join(f"with {baseline:.2f}: {layers(those)}" for baseline, those in counts.items())
    return Finding.of(
        not counts[_BASELINE],
        f"rows that contradict their thresholds, {words}",
        reason=f"{len(counts[_BASELINE])} rows contradict {_BASELINE}, {len(counts[other])} "
        f"contradict {other:.2f}",
    )


def _misfits(baseline: float) -> list[int]:
    """Layers with a threshold that is, or is not, met at step 0 against the printed step."""
    found = []
    for name, (noised, *steps, _) in _TABLE5["layers"].items():
        met = [noised < factor * baseline for factor in FACTORS]
        if any(now != (step == 0) for now, step in zip(met, steps, strict=True)):
            found.append(int(name))
    return found


def _noise_improves() -> Finding:
    other = median(implied_baselines().values())
    noised = {layer: _TABLE5["layers"][str(layer)][0] for layer in _TABLE1["anti_layers"]}
    words = ", ".join(f"L{layer} {value}" for layer, value in noised.items())
    return Finding.of(
        all(value < other for value in noised.values()),
        f"with noise: {words}; baseline that the step counts fit: {other:.2f}",
        reason=f"below {_BASELINE}, but not below {other:.2f}",
    )


def _categories() -> Finding:
    wrong = [
        layer
        for name, members in _TABLE1["categories"].items()
        for layer in members
        if categorise(_DEGRADATION[layer]) != name
    ]
    words = ", ".join(
        f"L{layer} {percent(_DEGRADATION[layer])} is {categorise(_DEGRADATION[layer])}"
        for layer in wrong
    )
    return Finding.of(not wrong, words or "all agree", reason=f"otherwise: {layers(wrong)}")


def _distribution() -> Finding:
    listed = {name: len(members) for name, members in _TABLE1["categories"].items()}
    differs = [name for name, count in listed.items() if count != _TABLE1["distribution"][name]]
    return Finding.of(
        not differs, _counts(listed), reason=f"differs in: {', '.join(differs) or 'none'}"
    )


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


def _thirty_layers() -> Finding:
    count = len(_DEGRADATION)
    alone = [layer for layer in range(count) if not 0 < layer < count - 1]
    return Finding.of(
        not alone,
        f"{count - len(alone)} layers have two neighbours",
        reason=f"no mean of two neighbours exists for {layers(alone)}, printed as "
        f"{' and '.join(percent(_DEGRADATION[layer]) for layer in alone)}",
    )


def _range() -> Finding:
    ratio = max(_DEGRADATION) / _least()
    return Finding.of(
        ratio >= _TABLE1["range_factor"],
        f"{max(_DEGRADATION)} / {_least()} = {ratio:.2g}",
        reason="the ratio of the printed extremes",
    )


def _least() -> float:
    return min(abs(value) for value in _DEGRADATION if value)


def _layer_11_over_17() -> Finding:
    ratio, stated = _DEGRADATION[11] / abs(_DEGRADATION[17]), _TABLE1["layer_11_over_layer_17"]
    return Finding.of(
        1 / ALIKE <= ratio / stated <= ALIKE,
        f"{_DEGRADATION[11]} / {abs(_DEGRADATION[17])} = {ratio:.2g}",
        reason="the ratio of the two printed degradations",
    )


def _anti_layer_sign() -> Finding:
    worse = [layer for layer in _TABLE1["anti_layers"] if _DEGRADATION[layer] > 0]
    words = ", ".join(
        f"L{layer} {percent(_DEGRADATION[layer])}" for layer in _TABLE1["anti_layers"]
    )
    return Finding.of(not worse, words, reason=f"worse without it: {layers(worse)}")


def _layer_23_critical() -> Finding:
    found = categorise(_DEGRADATION[23])
    return Finding.of(
        found == "critical", f"L23 {percent(_DEGRADATION[23])}", reason=f"Table 1 has it as {found}"
    )


def _nine_at_once() -> Finding:
    skipped, removed = _PPL4["skip_2_layers"], _PPL4["scale_0.0"]
    return Finding.of(
        is_same(skipped, removed),
        f"skip/zero {skipped:,}, scale 0.0 {removed:,}: a factor of {removed / skipped:.0f}",
        reason="both set the same matrices to zero; the rows marked '2 layers' edit two, "
        "which the paper does not name",
    )


def _function_test() -> Finding:
    ppl, stated = paper_table("table2_ppl"), paper_table("table2_percent")
    one = 100 * (ppl["predicted_1"] / ppl["baseline"] - 1)
    nine = 100 * (ppl["predicted_9_at_least"] / ppl["baseline"] - 1)
    agree = abs(one - stated["predicted_1"]) <= ROUNDING and is_same(
        nine, stated["predicted_9_at_least"]
    )
    return Finding.of(
        agree,
        f"{percent(one)}, {percent(nine)}",
        reason=f"against {ppl['baseline']}, not the baseline of Table 4",
    )


def arithmetic(id: str, source: str, statement: str, paper: str | float, rule: str, test) -> Claim:
    """A claim that reads the paper's figures alone."""
    return Claim(id, source, statement, paper, rule, lambda _: test())


PERCENT_RULE = f"The printed percentages agree with the figures to {ROUNDING} of their last digit."

CLAIMS = (
    arithmetic(
        "one_baseline",
        "AH Table 4",
        "All degradations of Table 4 are relative to one baseline.",
        _BASELINE,
        f"PPL / (1 + percent / 100) is the printed baseline within {SAME:.0%} in every row.",
        _baseline,
    ),
    arithmetic(
        "gentle_scaling_stated_twice",
        "AH abstract, Table 4",
        "Scaling by 0.9 costs 49 %.",
        percent(paper_table("abstract")["scale_0.9_percent"]),
        f"Abstract and Table 4 agree to {ROUNDING} %.",
        _abstract,
    ),
    arithmetic(
        "recovery_thresholds",
        "AH Table 5",
        "The steps of Table 5 are to 2, 1.5 and 1.1 times the baseline of 22.60.",
        _BASELINE,
        "A layer needs 0 steps to a threshold just if its perplexity with noise is below it, in "
        "every row.",
        _recovery_thresholds,
    ),
    arithmetic(
        "noise_improves",
        "AH section 4.5, Table 5",
        "Layers 14 and 17 with noise are better than the baseline before any training.",
        f"below {_BASELINE}",
        "Both perplexities lie below the baseline that the other rows of Table 4 imply and the "
        "steps of Table 5 fit.",
        _noise_improves,
    ),
    arithmetic(
        "categories_follow_thresholds",
        "AH section 3.2, Table 1",
        "The categories of Table 1 follow from its degradations.",
        "< 10, < 30, < 100 %",
        "Every layer's printed category is the one of the thresholds.",
        _categories,
    ),
    arithmetic(
        "distribution",
        "AH section 4.1",
        "The categories count as printed.",
        _counts(_TABLE1["distribution"]),
        "The counts are those of the layers listed in Table 1.",
        _distribution,
    ),
    arithmetic(
        "thirty_layers_ablated",
        "AH section 1.3, Table 1",
        "The map covers all 30 layers.",
        "30 layers",
        "Every layer has the two neighbours that the method averages.",
        _thirty_layers,
    ),
    arithmetic(
        "range_printed",
        "AH section 4.1",
        "The degradations range over more than 10^7.",
        "> 10^7",
        f"Largest over smallest non-zero degradation is at least {_TABLE1['range_factor']:.0e}.",
        _range,
    ),
    arithmetic(
        "layer_11_over_layer_17",
        "AH section 4.1",
        "Layer 11 is about 10^6 times more important than layer 17.",
        "10^6",
        f"The ratio of their degradations is within a factor of {ALIKE:g} of 10^6.",
        _layer_11_over_17,
    ),
    arithmetic(
        "anti_layer_sign",
        "AH section 3.2, Table 1",
        "Layers 14 and 17 are anti-layers: as good or better when replaced.",
        layers(_TABLE1["anti_layers"]),
        "Neither has a printed degradation above 0.",
        _anti_layer_sign,
    ),
    arithmetic(
        "layer_23_critical",
        "AH section 4.5",
        "Layers 23 and 24 are critical by ablation.",
        "critical",
        "Table 1 puts layer 23 in that category.",
        _layer_23_critical,
    ),
    arithmetic(
        "nine_layers_at_once",
        "AH section 4.4, Table 4",
        "All strategies of Table 4 act on the same nine layers.",
        "9 layers",
        f"Skip/zero and scale 0.0 are the same change: their perplexities agree within {SAME:.0%}.",
        _nine_at_once,
    ),
    arithmetic(
        "function_test_percentages",
        "AH section 4.2",
        "One predicted layer costs 16 %, nine more than 442,000 %.",
        "16 %, 442,000 %",
        PERCENT_RULE + f" The larger agrees within {SAME:.0%}.",
        _function_test,
    ),
)

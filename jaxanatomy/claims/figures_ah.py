"""Where AH's own figures agree or disagree with each other: arithmetic, no model.

Each statement is the paper's; "does not hold" says that its other figures contradict it.
"""

import functools
import math
from statistics import median

from jaxanatomy.claims.core import Check, Claim, enter_figures
from jaxanatomy.measures.importance import categorise
from jaxanatomy.papers import paper_table
from jaxanatomy.words import layers, percent

SAME = 0.01  # relative difference of two figures that are the same
ROUNDING = 0.5  # in the last digit of a printed percentage
ALIKE = 3.0  # a factor within which two orders of magnitude are called the same
STEPS_ALIKE = 1.5  # a factor within which two epochs are called alike
FACTORS = (2.0, 1.5, 1.1)  # thresholds of Table 5, times the baseline

_BASELINE = paper_table("baseline_ppl")
_ABSTRACT = paper_table("abstract")
_TABLE1, _TABLE5 = paper_table("table1"), paper_table("table5_recovery")
_PPL4, _PERCENT4 = paper_table("table4_ppl"), paper_table("table4_percent")
_DEGRADATION = _TABLE1["degradation_percent"]
_TABLE8, _CLAIMS8 = paper_table("table8"), paper_table("table8_claims")
_PHASES = paper_table("table7_phases")

_AS_PRINTED = f"The printed percentages agree with the figures to {ROUNDING} of their last digit."

CLAIMS: list[Claim] = []
_claim = functools.partial(enter_figures, CLAIMS)


def is_same(value: float, other: float, tolerance: float = SAME) -> bool:
    """Whether two figures agree within a relative tolerance."""
    return math.isclose(value, other, rel_tol=tolerance)


def is_printed(value: float, printed: float) -> bool:
    """Whether a percentage rounds to a printed one."""
    return abs(value - printed) <= ROUNDING


def implied_baselines() -> dict[str, float]:
    """The baseline perplexity behind each row of Table 4: PPL / (1 + percent / 100)."""
    return {name: _PPL4[name] / (1 + value / 100) for name, value in _PERCENT4.items()}


_IMPLIED = median(implied_baselines().values())


def _misfits(baseline: float) -> list[int]:
    """Layers with a threshold that is, or is not, met at step 0 against the printed step."""
    return [
        int(name)
        for name, (noised, *steps, _) in _TABLE5["layers"].items()
        if any(
            (noised < factor * baseline) != (step == 0)
            for factor, step in zip(FACTORS, steps, strict=True)
        )
    ]


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


@_claim(
    "AH Table 4",
    "All degradations of Table 4 are relative to one baseline.",
    f"{_BASELINE}",
    f"PPL / (1 + percent / 100) is the printed baseline within {SAME:.0%} in every row.",
)
def _one_baseline() -> Check:
    implied = implied_baselines()
    others = [name for name, value in implied.items() if not is_same(value, _BASELINE)]
    words = ", ".join(f"{name} {value:.2f}" for name, value in implied.items())
    return not others, f"implied: {words}", f"{len(others)} of {len(implied)} rows imply another"


@_claim(
    "AH abstract, Table 4",
    "Scaling by 0.9 costs 49 %.",
    percent(_ABSTRACT["scale_0.9_percent"]),
    f"Abstract and Table 4 agree to {ROUNDING} %.",
)
def _gentle_scaling_stated_twice() -> Check:
    printed = _PERCENT4["scale_0.9"]
    other = percent(100 * (_PPL4["scale_0.9"] / _IMPLIED - 1))
    reason = f"{_PPL4['scale_0.9']} is {other} of {_IMPLIED:.2f}, which the other rows imply"
    agree = is_printed(printed, _ABSTRACT["scale_0.9_percent"])
    return agree, f"Table 4: {percent(printed)}", reason


@_claim(
    "AH Table 5",
    "The steps of Table 5 are to 2, 1.5 and 1.1 times the baseline of 22.60.",
    f"{_BASELINE}",
    "A layer needs 0 steps to a threshold just if its perplexity with noise is below it, in "
    "every row.",
)
def _recovery_thresholds() -> Check:
    wrong = {baseline: _misfits(baseline) for baseline in (_BASELINE, _IMPLIED)}
    words = ", ".join(f"with {baseline:.2f}: {layers(those)}" for baseline, those in wrong.items())
    reason = (
        f"{len(wrong[_BASELINE])} rows contradict {_BASELINE}, {len(wrong[_IMPLIED])} contradict "
        f"{_IMPLIED:.2f}"
    )
    return not wrong[_BASELINE], f"rows that contradict their thresholds, {words}", reason


@_claim(
    "AH section 4.5, Table 5",
    "Layers 14 and 17 with noise are better than the baseline before any training.",
    f"below {_BASELINE}",
    "Both perplexities lie below the baseline that the other rows of Table 4 imply and the "
    "steps of Table 5 fit.",
)
def _noise_improves() -> Check:
    noised = {layer: _TABLE5["layers"][str(layer)][0] for layer in _TABLE1["anti_layers"]}
    words = ", ".join(f"L{layer} {value}" for layer, value in noised.items())
    measured = f"with noise: {words}; baseline that the step counts fit: {_IMPLIED:.2f}"
    reason = f"below {_BASELINE}, but not below {_IMPLIED:.2f}"
    return all(value < _IMPLIED for value in noised.values()), measured, reason


@_claim(
    "AH section 3.2, Table 1",
    "The categories of Table 1 follow from its degradations.",
    "< 10, < 30, < 100 %",
    "Every layer's printed category is the one of the thresholds.",
)
def _categories_follow_thresholds() -> Check:
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
    return not wrong, words or "all agree", f"otherwise: {layers(wrong)}"


@_claim(
    "AH section 4.1",
    "The categories count as printed.",
    _counts(_TABLE1["distribution"]),
    "The counts are those of the layers listed in Table 1.",
)
def _distribution() -> Check:
    listed = {name: len(members) for name, members in _TABLE1["categories"].items()}
    differs = [name for name, count in listed.items() if count != _TABLE1["distribution"][name]]
    return not differs, _counts(listed), f"differs in: {', '.join(differs) or 'none'}"


@_claim(
    "AH section 1.3, Table 1",
    "The map covers all 30 layers.",
    "30 layers",
    "Every layer has the two neighbours that the method averages.",
)
def _thirty_layers_ablated() -> Check:
    last = len(_DEGRADATION) - 1
    printed = " and ".join(percent(_DEGRADATION[layer]) for layer in (0, last))
    reason = f"no mean of two neighbours exists for {layers((0, last))}, printed as {printed}"
    return False, f"{last - 1} layers have two neighbours", reason


@_claim(
    "AH section 4.1",
    "The degradations range over more than 10^7.",
    "> 10^7",
    f"Largest over smallest non-zero degradation is at least {_TABLE1['range_factor']:.0e}.",
)
def _range_printed() -> Check:
    top, least = max(_DEGRADATION), min(abs(value) for value in _DEGRADATION if value)
    words = f"{top} / {least} = {top / least:.2g}"
    return top / least >= _TABLE1["range_factor"], words, "the ratio of the printed extremes"


@_claim(
    "AH section 4.1",
    "Layer 11 is about 10^6 times more important than layer 17.",
    "10^6",
    f"The ratio of their degradations is within a factor of {ALIKE:g} of 10^6.",
)
def _layer_11_over_layer_17() -> Check:
    top, least = _DEGRADATION[11], abs(_DEGRADATION[17])
    alike = 1 / ALIKE <= top / least / _TABLE1["layer_11_over_layer_17"] <= ALIKE
    words = f"{top} / {least} = {top / least:.2g}"
    return alike, words, "the ratio of the two printed degradations"


@_claim(
    "AH section 3.2, Table 1",
    "Layers 14 and 17 are anti-layers: as good or better when replaced.",
    layers(_TABLE1["anti_layers"]),
    "Neither has a printed degradation above 0.",
)
def _anti_layer_sign() -> Check:
    anti = _TABLE1["anti_layers"]
    worse = [layer for layer in anti if _DEGRADATION[layer] > 0]
    words = ", ".join(f"L{layer} {percent(_DEGRADATION[layer])}" for layer in anti)
    return not worse, words, f"worse without it: {layers(worse)}"


@_claim(
    "AH section 4.5",
    "Layers 23 and 24 are critical by ablation.",
    "critical",
    "Table 1 puts layer 23 in that category.",
)
def _layer_23_critical() -> Check:
    found = categorise(_DEGRADATION[23])
    return found == "critical", f"L23 {percent(_DEGRADATION[23])}", f"Table 1 has it as {found}"


@_claim(
    "AH section 4.4, Table 4",
    "All strategies of Table 4 act on the same nine layers.",
    "9 layers",
    f"Skip/zero and scale 0.0 are the same change: their perplexities agree within {SAME:.0%}.",
)
def _nine_layers_at_once() -> Check:
    skipped, removed = _PPL4["skip_2_layers"], _PPL4["scale_0.0"]
    factor = f"a factor of {removed / skipped:.0f}"
    reason = (
        "both set the same matrices to zero; the rows marked '2 layers' edit two, which the paper "
        "does not name"
    )
    measured = f"skip/zero {skipped:,}, scale 0.0 {removed:,}: {factor}"
    return is_same(skipped, removed), measured, reason


@_claim(
    "AH section 4.2",
    "One predicted layer costs 16 %, nine more than 442,000 %.",
    "16 %, 442,000 %",
    f"{_AS_PRINTED} The larger agrees within {SAME:.0%}.",
)
def _function_test_percentages() -> Check:
    ppl, stated = paper_table("table2_ppl"), paper_table("table2_percent")
    one, nine = (
        100 * (ppl[name] / ppl["baseline"] - 1) for name in ("predicted_1", "predicted_9_at_least")
    )
    agree = is_printed(one, stated["predicted_1"]) and is_same(nine, stated["predicted_9_at_least"])
    reason = f"against {ppl['baseline']}, not the baseline of Table 4"
    return agree, f"{percent(one)}, {percent(nine)}", reason


@_claim(
    "AH Table 10",
    "The budget of Table 10 adds up to 2,760 steps.",
    "2,760",
    f"It is the total of the ranges' low ends, high ends or midpoints within {SAME:.0%}; it "
    "fails if it lies outside the ranges.",
)
def _budget_total() -> Check:
    table = paper_table("table10_budget")
    low, high = (
        table["steps_per_layer"] * sum(len(each["layers"]) * each[end] for each in table["groups"])
        for end in ("low", "high")
    )
    stated, middle = table["total_growth"], (low + high) / 2
    answer = True if any(is_same(stated, value) for value in (low, middle, high)) else None
    if not low <= stated <= high:
        answer = False
    words = f"low ends {low:,.0f}, midpoints {middle:,.0f}, high ends {high:,.0f}"
    return (
        answer,
        words,
        "inside the ranges, but neither end nor midpoint" if answer is None else "",
    )


@_claim(
    "AH abstract, section 5.4",
    "The budget saves 54 %.",
    "54 %",
    _AS_PRINTED,
)
def _budget_saved() -> Check:
    table = paper_table("table10_budget")
    saved = 100 * (1 - table["total_growth"] / table["total_uniform"])
    return is_printed(saved, _ABSTRACT["budget_reduction_percent"]), f"{saved:.1f} %", ""


@_claim(
    "AH abstract, Table 8",
    "Growth reaches a 4.7 times lower loss, 13 % faster.",
    "4.7 times, 13 %",
    f"{_AS_PRINTED} The ratio agrees within {2 * SAME:.0%}.",
)
def _growth_gains() -> Check:
    ratio = _TABLE8["uniform_100"]["val_loss"] / _TABLE8["growth_100"]["val_loss"]
    faster = 100 * (1 - _TABLE8["growth_100"]["seconds"] / _TABLE8["uniform_100"]["seconds"])
    agree = is_same(ratio, _ABSTRACT["val_loss_ratio"], 2 * SAME)
    agree = agree and is_printed(faster, _CLAIMS8["growth_100_faster_percent"])
    return agree, f"{ratio:.2f} times, {faster:.1f} % faster", ""


@_claim(
    "AH section 4.6.3, Table 8",
    "'Growth 50 %' has half the budget.",
    "50 %",
    f"Its steps are {_CLAIMS8['growth_50_budget_percent']} % of the full ones to {ROUNDING} %.",
)
def _half_budget() -> Check:
    steps = _TABLE8["growth_50"]["steps"]
    share = 100 * steps / _TABLE8["uniform_100"]["steps"]
    holds = is_printed(share, _CLAIMS8["growth_50_budget_percent"])
    return holds, f"{steps} steps are {share:.0f} %", ""


@_claim(
    "AH section 4.6.2, Table 7",
    "The core trains for about 95 effective epochs.",
    "95",
    f"The epochs of the phases that it is said to train in add up to that within {SAME:.0%}.",
)
def _core_epochs() -> Check:
    stated = paper_table("core_effective_epochs")
    named = sum(phase["epochs"] for phase in _PHASES if phase["name"] in stated["phases"])
    in_table = sum(phase["epochs"] for phase in _PHASES if phase["train"] in ([4, 5], "all"))
    words = f"the phases named add up to {named}; by Table 7's layers to {in_table}"
    reason = f"section 4.6.4 has {stated['section_4.6.4']}"
    return is_same(named, stated["section_4.6.2"]), words, reason


@_claim(
    "AH section 4.6.4, Tables 7, 8",
    "Growth and uniform training compare by epochs.",
    "85 against 11 epochs",
    f"An epoch has as many steps in both, within a factor of {STEPS_ALIKE}.",
)
def _steps_of_an_epoch() -> Check:
    epochs = sum(phase["epochs"] for phase in _PHASES)
    growth = _TABLE8["growth_100"]["steps"] / epochs
    uniform = _TABLE8["uniform_100"]["steps"] / _CLAIMS8["uniform_epochs"]
    alike = max(growth, uniform) <= STEPS_ALIKE * min(growth, uniform)
    words = f"growth {growth:.1f} steps an epoch ({epochs} epochs), uniform {uniform:.1f}"
    return alike, words, "an epoch is not the same in both"

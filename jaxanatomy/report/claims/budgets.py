"""AH Tables 7, 8 and 10: whether the figures of budgets and training agree: arithmetic."""

from jaxanatomy.papers import paper_table
from jaxanatomy.report.claims.claim import Answer, Finding
from jaxanatomy.report.claims.contradictions import (
    PERCENT_RULE,
    ROUNDING,
    SAME,
    arithmetic,
    is_same,
)

STEPS_ALIKE = 1.5  # a factor within which two epochs are called alike

_TABLE8, _CLAIMS8 = paper_table("table8"), paper_table("table8_claims")


def _budget_total() -> Finding:
    table = paper_table("table10_budget")
    low, high = (
        table["steps_per_layer"] * sum(len(each["layers"]) * each[end] for each in table["groups"])
        for end in ("low", "high")
    )
    stated, middle = table["total_growth"], (low + high) / 2
    answer: Answer = None
    if any(is_same(stated, value) for value in (low, middle, high)):
        answer = True
    elif not low <= stated <= high:
        answer = False
    return Finding.of(
        answer,
        f"low ends {low:,.0f}, midpoints {middle:,.0f}, high ends {high:,.0f}",
        reason="inside the ranges, but neither end nor midpoint" if answer is None else "",
    )


def _budget_saved() -> Finding:
    table = paper_table("table10_budget")
    saved = 100 * (1 - table["total_growth"] / table["total_uniform"])
    stated = paper_table("abstract")["budget_reduction_percent"]
    return Finding.of(abs(saved - stated) <= ROUNDING, f"{saved:.1f} %")


def _loss_ratio() -> Finding:
    ratio = _TABLE8["uniform_100"]["val_loss"] / _TABLE8["growth_100"]["val_loss"]
    faster = 100 * (1 - _TABLE8["growth_100"]["seconds"] / _TABLE8["uniform_100"]["seconds"])
    stated = paper_table("abstract")["val_loss_ratio"], _CLAIMS8["growth_100_faster_percent"]
    agree = is_same(ratio, stated[0], 2 * SAME) and abs(faster - stated[1]) <= ROUNDING
    return Finding.of(agree, f"{ratio:.2f} times, {faster:.1f} % faster")


def _half_budget() -> Finding:
    share = 100 * _TABLE8["growth_50"]["steps"] / _TABLE8["uniform_100"]["steps"]
    return Finding.of(
        abs(share - _CLAIMS8["growth_50_budget_percent"]) <= ROUNDING,
        f"{_TABLE8['growth_50']['steps']} steps are {share:.0f} %",
    )


def _core_epochs() -> Finding:
    stated, phases = paper_table("core_effective_epochs"), paper_table("table7_phases")
    named = sum(phase["epochs"] for phase in phases if phase["name"] in stated["phases"])
    in_table = sum(phase["epochs"] for phase in phases if phase["train"] in ([4, 5], "all"))
    return Finding.of(
        is_same(named, stated["section_4.6.2"]),
        f"the phases named add up to {named}; by Table 7's layers to {in_table}",
        reason=f"section 4.6.4 has {stated['section_4.6.4']}",
    )


def _steps_of_an_epoch() -> Finding:
    epochs = sum(phase["epochs"] for phase in paper_table("table7_phases"))
    growth = _TABLE8["growth_100"]["steps"] / epochs
    uniform = _TABLE8["uniform_100"]["steps"] / _CLAIMS8["uniform_epochs"]
    return Finding.of(
        max(growth, uniform) <= STEPS_ALIKE * min(growth, uniform),
        f"growth {growth:.1f} steps an epoch ({epochs} epochs), uniform {uniform:.1f}",
        reason="an epoch is not the same in both",
    )


CLAIMS = (
    arithmetic(
        "budget_total",
        "AH Table 10",
        "The budget of Table 10 adds up to 2,760 steps.",
        "2,760",
        f"It is the total of the ranges' low ends, high ends or midpoints within {SAME:.0%}; it "
        "fails if it lies outside the ranges.",
        _budget_total,
    ),
    arithmetic(
        "budget_saved",
        "AH abstract, section 5.4",
        "The budget saves 54 %.",
        "54 %",
        PERCENT_RULE,
        _budget_saved,
    ),
    arithmetic(
        "growth_gains",
        "AH abstract, Table 8",
        "Growth reaches a 4.7 times lower loss, 13 % faster.",
        "4.7 times, 13 %",
        PERCENT_RULE + f" The ratio agrees within {2 * SAME:.0%}.",
        _loss_ratio,
    ),
    arithmetic(
        "half_budget",
        "AH section 4.6.3, Table 8",
        "'Growth 50 %' has half the budget.",
        "50 %",
        f"Its steps are {_CLAIMS8['growth_50_budget_percent']} % of the full ones to {ROUNDING} %.",
        _half_budget,
    ),
    arithmetic(
        "core_epochs",
        "AH section 4.6.2, Table 7",
        "The core trains for about 95 effective epochs.",
        "95",
        f"The epochs of the phases that it is said to train in add up to that within {SAME:.0%}.",
        _core_epochs,
    ),
    arithmetic(
        "steps_of_an_epoch",
        "AH section 4.6.4, Tables 7, 8",
        "Growth and uniform training compare by epochs.",
        "85 against 11 epochs",
        f"An epoch has as many steps in both, within a factor of {STEPS_ALIKE}.",
        _steps_of_an_epoch,
    ),
)

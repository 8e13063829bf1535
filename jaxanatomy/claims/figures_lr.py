"""Where LR's own figures agree or disagree with each other: arithmetic, no model.

Each statement is the paper's; "does not hold" says that its other figures contradict it.
"""

import functools
import math

from jaxanatomy.claims.core import Check, Claim, enter_figures
from jaxanatomy.papers import paper_table

ABOUT = 0.1  # relative difference of two counts that are approximately the same
LAST_DIGIT = 0.05  # half of the last digit of a printed factor

_SECTION5, _SECTION6 = paper_table("lr_section5"), paper_table("lr_section6")
_SECTION7 = paper_table("lr_section7")
_SECTION8, _SECTION9 = paper_table("lr_section8"), paper_table("lr_section9")

CLAIMS: list[Claim] = []
_claim = functools.partial(enter_figures, CLAIMS)


@_claim(
    "LR section 5",
    "Learned decay flattens layers 3, 4 and 5.",
    "3.5, 6.6 and 11.4 times",
    "Each factor is the ratio of the two printed CVs, rounded.",
)
def _flattening_factors() -> Check:
    ratios = {layer: _SECTION5["cv"][layer] for layer in _SECTION5["flattening"]}
    ratios = {layer: before / after for layer, (before, after) in ratios.items()}
    agree = all(
        abs(ratios[layer] - printed) <= LAST_DIGIT
        for layer, printed in _SECTION5["flattening"].items()
    )
    return agree, ", ".join(f"L{layer} {ratio:.2f}" for layer, ratio in ratios.items()), ""


@_claim(
    "LR section 5",
    "The number of saturated positions is approximately preserved: what three layers lose is "
    "gained by later ones.",
    "'approximately preserved'",
    f"As many are gained as are lost within {ABOUT:.0%}, by the counts that are printed.",
)
def _saturated_counts_add_up() -> Check:
    changes = {
        layer: after - (before or 0) for layer, (before, after) in _SECTION5["saturated"].items()
    }
    lost = -sum(change for change in changes.values() if change < 0)
    gained = sum(change for change in changes.values() if change > 0)
    before, after = (
        sum(pair[run] or 0 for pair in _SECTION5["saturated"].values()) for run in (0, 1)
    )
    measured = f"{lost} lost, {gained} gained: {before} before, {after} after"
    reason = "the other layers' counts are not printed, nor that of layer 8 before, taken as 0"
    return math.isclose(lost, gained, rel_tol=ABOUT), measured, reason


@_claim(
    "LR section 6",
    "Of layer 10's FFN positions 609 of 3,504 lie more than three standard deviations above the "
    "layer's mean.",
    "17.4 %",
    "No more lie there than can: 1 / (1 + 9) of any numbers whatever (Cantelli).",
)
def _saturated_share_is_possible() -> Check:
    layer, sigmas = _SECTION6["uniform"]["L10"], _SECTION6["sigmas"]
    most = layer["neurons"] / (1 + sigmas**2)
    share = 100 * layer["saturated"] / layer["neurons"]
    measured = f"{layer['saturated']} of {layer['neurons']:,} are {share:.1f} %"
    reason = f"{sigmas} standard deviations above their mean lie {most:.0f} of them at most"
    return layer["saturated"] <= most, measured, reason


@_claim(
    "LR section 7",
    "Layers of the reward-driven model differ ten times as much in attention's share as the "
    "baseline's.",
    "standard deviations 0.13 and 0.014, 'ten times the baseline'",
    f"The ratio of the two is ten within {ABOUT:.0%}.",
)
def _ten_times_the_baseline() -> Check:
    spread = _SECTION7["write_ratio_std"]
    times = spread["reward_driven"] / spread["vanilla"]
    return math.isclose(times, 10, rel_tol=ABOUT), f"{times:.1f} times", ""


@_claim(
    "LR section 8",
    "Late layers' gates of a pathological run have spectral norms 30 to 100 times their peers'.",
    "87 and 141, peers 5 to 12",
    "Some ratio of these figures lies in that range.",
)
def _norms_of_a_pathological_run() -> Check:
    own, peers = _SECTION8["gate_spectral_norms"], _SECTION8["peer_spectral_norms"]
    least, most = min(own) / max(peers), max(own) / min(peers)
    low, high = _SECTION8["times_peers"]
    return most >= low and least <= high, f"{least:.0f} to {most:.0f} times", ""


@_claim(
    "LR section 9",
    "The RMS of the registers' embeddings moved by 5e-4.",
    "0.01807 to 0.01812, 'a change of 5 x 10^-4'",
    f"It is the difference of the two within {ABOUT:.0%}.",
)
def _change_of_registers() -> Check:
    before, after = _SECTION9["rms"]
    change, printed = after - before, _SECTION9["rms_change"]
    reason = f"printed {printed / change:.0f} times as large" if printed > change else ""
    return math.isclose(change, printed, rel_tol=ABOUT), f"{change:.0e}", reason

"""AH section 4.5, Tables 5 and 10: whether layers recover from noise as the paper says.

A layer has recovered as far as its perplexity is that of the same training without noise: trained
longer on its text, the undamaged model gets better, too. Draws of the noise are a source of spread.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.importance import RANK_AGREEMENT
from jaxanatomy.claims.quantities import (
    Estimates,
    Gather,
    Quantity,
    certain,
    degradation,
    deviation,
    printed,
    rank_correlation,
)
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table, every_layer
from jaxanatomy.claims.rules import ALL, Rule, any_differs
from jaxanatomy.measures.recovery import curves
from jaxanatomy.measures.statistics.estimates import Estimate, paired_difference
from jaxanatomy.papers import paper_table
from jaxanatomy.words import PERCENT, PLAIN

HEALED, HALF, TWICE = 1.1, 1.5, 2.0  # multiples of the control's perplexity
FEW_STEPS = 10  # "0-10 steps to converge"
DRAWS = 2  # of the noise of a layer; fewer say nothing about others
NOISED, SOON, LAST = "noised", "soon", "last"

_TABLE5, _TABLE10 = paper_table("table5_recovery"), paper_table("table10_budget")
_STEPS = _TABLE5["steps_max"]
_PRINTED = {int(layer): values for layer, values in _TABLE5["layers"].items()}
_GROUPS = {group["group"]: group["layers"] for group in _TABLE10["groups"]}
_ANTI, _INSTANT = _GROUPS["anti"], _GROUPS["instant_recovery_redundant"]
_R = {
    layer: (group["low"] + group["high"]) / 2
    for group in _TABLE10["groups"]
    for layer in group["layers"]
}
_SAVED = paper_table("abstract")["budget_reduction_percent"]


def _points(table: Table) -> list[Row]:
    """Points of the curves with noise, and of the same training without, by `when`.

    With noise and no training; the last evaluation in a few steps; the last of a finished curve
    (one that diverged has no finite loss); and the whole curve. Nothing where the training text is
    the evaluation text, which shows no recovery.
    """
    baseline, record = table.baseline, table.record
    if baseline is None or record.summary.get("warnings"):
        return []
    points = []
    for (layer, seed), curve in curves(table.rows).items():
        if curve[0]["text"] == curve[0]["train_text"]:
            continue
        named = {"layer": layer, "noise": seed is not None, "text": table.text}
        if curve[0]["step"] == 0:
            points.append({**(baseline if seed is None else curve[0]), **named, "when": NOISED})
        if curve[-1]["step"] != record.config.get("steps") and curve[-1]["nll"] is not None:
            continue  # still in training
        few = [row for row in curve if row["step"] <= FEW_STEPS]
        points += [{**row, **named, "when": SOON} for row in few[-1:]]
        points.append({**curve[-1], **named, "when": LAST, "long": curve[-1]["step"] >= _STEPS})
        points.append({**curve[-1], **named, "when": "curve", "curve": curve})
    maps = [row for row in table.rows if row.get("intervention") == "neighbour_mean"]
    return [*points, *maps, baseline]


POINTS = Rows("recovery", _points).where(noise=True)
NOISE, END = POINTS.where(when=NOISED), POINTS.where(when=LAST).drawn(DRAWS)
CURVES = POINTS.where(when="curve").drawn(DRAWS)
WITHOUT = Rows("recovery", _points).where(noise=False)
WITHOUT_END = WITHOUT.where(when=LAST)
EVERY_END = END.at(layer=every_layer)


def _gap_at(when: str) -> Quantity:
    """The gap to the same training without noise, at the same step."""
    words = "the same training without noise"
    return degradation(
        WITHOUT.where(when=when), words, spread=POINTS.where(when=when).at(layer=every_layer)
    )


GAP = _gap_at(LAST)
DAMAGE = degradation()


def _times(factor: float) -> float:
    """A multiple of a perplexity as a change in percent."""
    return 100 * (factor - 1)


def _gap(points: Rows, named, rule: Rule) -> Criterion:
    when = points.fields["when"]
    return Criterion(
        points.at(layer=named),
        _gap_at(when),
        rule,
        control=WITHOUT.where(when=when).at(layer=named),
        by=DAMAGE,
        beside="the control: the same training without noise against the undamaged model",
    )


def _importance(part: Part, level: float) -> Estimate:
    """The degradation of the layer's neighbour mean, as the run's own map has it."""
    rows = part.partners({"intervention": "neighbour_mean"})
    if not rows or rows[0]["degradation_percent"] is None:
        raise MissingError("its importance was not measured")
    return certain(rows[0]["degradation_percent"])


def _share(part: Part, level: float) -> Estimate:
    """R(l): the share of the steps until a layer is healed, 1 if it never is; mean over draws.

    The bounds are the first step at which the interval of the gap reaches the multiple and the
    first at which all of it lies below.
    """
    control = part.partners(WITHOUT.where(when="curve").fields)
    if not control:
        raise MissingError("the same training without noise was not measured")
    without = {row["step"]: row for row in control[0]["curve"]}
    found = [_share_of(row["curve"], without, level) for row in part.rows]
    return Estimate(*(float(np.mean(each)) for each in zip(*found, strict=True)))


def _share_of(curve: Sequence[Row], without: dict[int, Row], level: float) -> list[float]:
    limit, steps = math.log(HEALED), curve[-1]["step"]
    gaps = [
        (row["step"] / steps, paired_difference(row, without[row["step"]], level))
        for row in curve
        if row["nll"] is not None and row["step"] in without
    ]
    ends = ("value", "low", "high")
    return [next((at for at, gap in gaps if getattr(gap, end) <= limit), 1.0) for end in ends]


def _saved(parts: Sequence[Part], shares: Callable[[float], Estimates], level: float) -> Estimate:
    """What budgets of R(l) save of the steps of uniform training, in percent."""
    value, high, low = (
        100 * (1 - float(np.mean([getattr(each, end) for each in shares(level)])))
        for end in ("value", "low", "high")
    )
    return Estimate(value, low, high)


_SHARE = Quantity(f"the share of the steps until a gap of {HEALED}×", PLAIN, _share)


def _ranked(
    over: Rows, quantity: Quantity, reference: Quantity, words: str, least: float = RANK_AGREEMENT
) -> Criterion:
    gather = rank_correlation(quantity, reference, words)
    return Criterion(over, gather, ALL.above(least), beside="0 for unrelated rankings")


def _table5(*named: int, column: int) -> str:
    return ", ".join(f"L{layer} {_PRINTED[layer][column]:,}" for layer in named)


def _never(id: str, statement: str, layer: int, factor: float) -> Claim:
    return Claim(
        id,
        "AH section 4.5, Table 5",
        f"{statement} In {_STEPS} steps it stays above {factor:g}× of the same training without "
        "noise.",
        f"{_PRINTED[layer][0]:,} with noise, {_PRINTED[layer][-1]} after {_STEPS} steps",
        _gap(END.where(long=True), [layer], ALL.above(_times(factor))),
        papers_model=True,
    )


CLAIMS = (
    Claim(
        "recovery_differs",
        "AH hypothesis H3, section 4.5",
        "Layers differ in how far they recover from noise.",
        f"0 steps (L14, L17) to never (L11, L29) to {HEALED}×",
        Criterion(
            EVERY_END,
            deviation(
                EVERY_END,
                WITHOUT_END,
                "a layer's gap to the same training without noise, less the mean over layers,",
            ),
            any_differs(_times(1 / HEALED), _times(HEALED)),
        ),
    ),
    Claim(
        "recovery_follows_importance",
        "AH hypothesis H3",
        "Recovery is slower in more important layers.",
        "'correlating with importance'",
        _ranked(
            EVERY_END,
            GAP,
            Quantity("importance", PERCENT, _importance),
            "the degradation of the neighbour mean",
            0.0,
        ),
    ),
    Claim(
        "noise_improves_anti_layers",
        "AH hypothesis H4, Table 5",
        "Layers 14 and 17 are better with noise than with their trained weights.",
        f"{_table5(*_ANTI, column=0)} against {paper_table('baseline_ppl')}",
        Criterion(
            NOISE.drawn(DRAWS).at(layer=_ANTI),
            DAMAGE,
            ALL.below(0.0),
            control=NOISE.at(layer=every_layer),
            beside="the control: every layer",
        ),
        papers_model=True,
    ),
    Claim(
        "noise_and_training_improve_anti_layers",
        "AH hypothesis H4, Table 5",
        "Layers 14 and 17 end below the undamaged model because of the noise: lower than by the "
        "same training without it.",
        f"{_table5(*_ANTI, column=-1)} against {paper_table('baseline_ppl')}",
        _gap(END, _ANTI, ALL.below(0.0)),
        papers_model=True,
    ),
    _never("layer_3_never_converges", "Layer 3 does not converge.", 3, HEALED),
    _never("layer_11_unrecoverable", "Layer 11 is practically unrecoverable.", 11, TWICE),
    _never("layer_29_unrecoverable", "Layer 29 does not get within 2×.", 29, TWICE),
    Claim(
        "critical_output_instant",
        "AH section 4.5, Table 5",
        f"Layers 23 and 24 recover instantly: with noise and no training they are within {HALF:g}× "
        "of the undamaged model.",
        f"{_table5(23, 24, column=0)} with noise: 0 steps to {HALF:g}×",
        _gap(NOISE.drawn(DRAWS), (23, 24), ALL.below(_times(HALF))),
        papers_model=True,
    ),
    Claim(
        "redundant_instant",
        "AH Table 10",
        f"Layers {', '.join(map(str, _INSTANT))} converge in 0 to {FEW_STEPS} steps: to "
        f"{HEALED}× of the same training without noise.",
        f"0 to {FEW_STEPS} steps; Table 5 has {_TABLE5['layers']['3'][3] or 'never'} for L3",
        _gap(POINTS.where(when=SOON).drawn(DRAWS), _INSTANT, ALL.below(_times(HEALED))),
        papers_model=True,
    ),
    Claim(
        "table5_noise_ranking",
        "AH Table 5",
        "Noise hurts the layers in the order of Table 5.",
        "column 'PPL+noise'",
        _ranked(
            NOISE.at(layer=tuple(_PRINTED)),
            DAMAGE,
            printed({layer: values[0] for layer, values in _PRINTED.items()}),
            "Table 5",
        ),
        papers_model=True,
    ),
    Claim(
        "table5_final_ranking",
        "AH Table 5",
        "The layers recover in the order of Table 5.",
        "column 'Final PPL'",
        _ranked(
            END.at(layer=tuple(_PRINTED)),
            GAP,
            printed({layer: values[-1] for layer, values in _PRINTED.items()}),
            "Table 5",
        ),
        papers_model=True,
    ),
    Claim(
        "budget_from_recovery",
        "AH section 5.4, Table 10",
        "Budgets from recovery save 54 % of the steps of uniform training.",
        f"{_SAVED} %",
        Criterion(
            CURVES.at(layer=every_layer),
            Gather("the saving", PERCENT, _SHARE, _saved),
            ALL.above(_SAVED - 0.5),
            beside="100 % where noise does no harm",
        ),
    ),
    Claim(
        "budget_follows_recovery",
        "AH section 5.4, Table 10",
        "The budget of Table 10 follows from recovery.",
        "'empirically grounded'",
        _ranked(CURVES.at(layer=tuple(_R)), _SHARE, printed(_R), "Table 10"),
        papers_model=True,
    ),
)

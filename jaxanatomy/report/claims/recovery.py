"""AH section 4.5, Tables 5 and 10: whether layers heal as the paper says, and what follows.

Of a curve its lowest point counts, because a later rise is overfitting.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxanatomy.measures.statistics import paired_difference, spearman, spearman_interval
from jaxanatomy.papers import paper_table
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Evidence,
    Finding,
    agreed,
    beyond,
    every,
    layers,
    negated,
    padded,
)
from jaxanatomy.report.claims.healing import (
    WITHIN,
    Healing,
    listed,
    nats,
    parts,
    ppl,
    read_healing,
    shown,
)
from jaxanatomy.report.claims.importance import RANK_AGREEMENT
from jaxanatomy.report.claims.tried import LEVEL

HEALED, HALF, TWICE = 1.1, 1.5, 2.0  # multiples of the undamaged perplexity in Table 5
FEW_STEPS = 10  # "0-10 steps to converge"
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
Test = Callable[[Healing], Finding | None]


def _tested(test: Test) -> Callable[[Evidence], Finding | None]:
    """A test of the curves; "cannot tell" where they trained on the evaluation text."""

    def whole(evidence: Evidence) -> Finding | None:
        healing = read_healing(evidence)
        found = test(healing) if healing else None
        if found is None:
            return None
        text, train_text = healing.texts
        if text == train_text or evidence.records["recovery"].summary.get("warnings"):
            reason = "trained on documents that it is evaluated on, which shows no recovery"
            found = Finding.of(None, found.measured, found.null, reason)
        return found.on([text])

    return whole


def _differ(healing: Healing) -> Finding | None:
    """Whether the slowest layer is left with a larger loss than the fastest."""
    last = {layer: own[0][-1] for layer, own in healing.trained.items()}
    if len(last) < 2:
        return None
    ordered = sorted(last, key=lambda layer: last[layer]["ppl"])
    ends, pairs = (ordered[0], ordered[-1]), math.comb(len(last), 2)
    low = paired_difference(last[ends[1]], last[ends[0]], 1 - LEVEL / pairs).low
    shares = {layer: healing.shares(layer, HEALED)[0] for layer in sorted(last)}
    alike = len(set(shares.values())) == 1 and max(shares.values()) < 1
    answer: Answer = True if low > 0 else False if alike else None
    spread = [max(map(ppl, own)) / min(map(ppl, own)) for own in healing.noised.values()]
    return Finding.of(
        answer,
        " to ".join(healing.said(layer) for layer in ends)
        + f"; never at {HEALED}×: "
        + layers(layer for layer, share in shares.items() if share == 1),
        f"{healing.controls_said(ends)}; noise seeds of one layer differ by a factor of "
        f"{np.median(spread):.2f} (median) before training",
    )


def _follows_importance(healing: Healing) -> Finding | None:
    shared = [layer for layer in healing.trained if layer in healing.degradation]
    if len(shared) < 4:
        return None
    importance = [healing.degradation[layer] for layer in shared]
    steps = [healing.shares(layer, HEALED)[0] for layer in shared]
    rank = spearman_interval(steps, importance)
    noised = [float(np.median([*map(ppl, healing.noised[layer])])) for layer in shared]
    return Finding.of(
        True if rank.low > 0 else False if rank.high < 0 else None,
        f"rank correlation of the steps to {HEALED}× with the neighbour mean's degradation "
        + _correlation(steps, importance),
        "0 for unrelated rankings; of the perplexity with noise and no training "
        + _correlation(noised, importance),
    )


def _noise_improves(healing: Healing) -> Finding | None:
    """Whether layers with noise, not trained, are better than undamaged ones."""
    here, absent = parts(_ANTI, healing.noised)
    if not here:
        return None
    answers = [healing.within(row, 1.0) for layer in here for row in healing.noised[layer]]
    others = [row for layer, own in healing.noised.items() if layer not in here for row in own]
    better = sum(healing.within(row, 1.0) is True for row in others)
    return Finding.of(
        every(padded(answers, absent)),
        "; ".join(f"L{i} {listed(healing.noised[i])}" for i in here)
        + f" (a figure for each noise seed), undamaged {shown(healing.baseline)}",
        f"better than undamaged of the noise seeds of other layers: {better} of {len(others)}",
        absent=absent,
    )


def _noise_beats_weights(healing: Healing) -> Finding | None:
    """Whether layers end lower with noise than by the same training without noise."""
    gaps = {
        layer: [gap for curve in own if (gap := healing.gap(layer, curve))]
        for layer, own in healing.trained.items()
    }
    here, absent = parts(_ANTI, {layer: own for layer, own in gaps.items() if own})
    if not here:
        return None
    answers = [agreed(negated(beyond(gap[1:], 0.0)) for gap in gaps[layer]) for layer in here]
    differences = ", ".join(f"L{i} {nats(gap)}" for i in here for gap in gaps[i])
    return Finding.of(
        every(padded(answers, absent)),
        f"noise less none at the last step: {differences} nats per token; "
        + "; ".join(healing.said(layer) for layer in here),
        healing.controls_said(here),
        absent=absent,
    )


def _never(healing: Healing, layer: int, factor: float) -> Finding | None:
    """Whether a layer stays above a multiple of the undamaged perplexity to the last step."""
    if layer not in healing.trained:
        return None
    reached = {
        each: agreed(healing.within(healing.lowest(curve), factor) for curve in own)
        for each, own in healing.trained.items()
    }
    answer = negated(reached.pop(layer))
    too_short = answer is True and healing.steps < _STEPS
    return Finding.of(
        None if too_short else answer,
        f"{healing.said(layer)}; undamaged {shown(healing.baseline)}",
        f"{healing.controls_said([layer])}; of {len(reached)} other layers above {factor:g}×: "
        + layers(each for each, found in sorted(reached.items()) if found is False),
        f"trained for {healing.steps} steps only" if too_short else "",
    )


def _soon(healing: Healing, named: Sequence[int], factor: float, steps: int) -> Finding | None:
    """Whether layers are within a multiple of the undamaged perplexity after few steps."""
    if steps:
        curves = {i: [healing.lowest(c, steps) for c in own] for i, own in healing.trained.items()}
    else:
        curves = dict(healing.noised)
    here, absent = parts(named, curves)
    if not here:
        return None
    answers = {layer: [healing.within(row, factor) for row in own] for layer, own in curves.items()}
    each = [answer for layer in here for answer in answers[layer]]
    others = [answer for layer, own in answers.items() if layer not in named for answer in own]
    return Finding.of(
        every(padded(each, absent)),
        f"within {factor:g}× {_counted(each)}: "
        + ", ".join(f"L{layer} {listed(curves[layer])}" for layer in here)
        + f"; undamaged {shown(healing.baseline)}",
        f"other layers: {_counted(others)}" if others else "",
        absent=absent,
    )


def _noise_ranking(healing: Healing) -> Finding | None:
    """Whether noise hurts the layers of Table 5 in its order."""
    here, absent = parts(_PRINTED, healing.noised)
    if len(here) < 4:
        return None
    seeds = min(len(healing.noised[layer]) for layer in here)
    printed = [_PRINTED[layer][0] for layer in here]
    by_seed = [
        spearman([ppl(healing.noised[layer][seed]) for layer in here], printed)
        for seed in range(seeds)
    ]
    own = [float(np.median([*map(ppl, healing.noised[layer])])) for layer in here]
    spread = f"; noise seeds one by one {min(by_seed):.2f} to {max(by_seed):.2f}"
    return _agreement(own, printed, absent, spread if seeds > 1 else "")


def _final_ranking(healing: Healing) -> Finding | None:
    """Whether the layers of Table 5 heal in its order."""
    here, absent = parts(_PRINTED, healing.trained)
    if len(here) < 4:
        return None
    own = [min(ppl(healing.lowest(curve)) for curve in healing.trained[layer]) for layer in here]
    null, trained = "", [layer for layer in here if layer in healing.controls]
    if len(trained) > 3:
        last = [ppl(healing.lowest(healing.controls[layer])) for layer in trained]
        null = f"; trained without noise {_correlation(last, [_PRINTED[i][-1] for i in trained])}"
    return _agreement(own, [_PRINTED[layer][-1] for layer in here], absent, null)


def _budget_saved(healing: Healing) -> Finding | None:
    """Whether R(l) by our rule saves as much as Table 10."""
    here, absent = parts(range(healing.depth) or healing.trained, healing.trained)
    if not here:
        return None
    found = np.mean([healing.shares(layer, HEALED) for layer in here], axis=0)
    value, high, low = 100 * (1 - found)
    ranges = [
        100 * (1 - sum(len(each["layers"]) * each[end] for each in _TABLE10["groups"]) / len(_R))
        for end in ("high", "low")
    ]
    return Finding.of(
        None if absent else beyond((low, high), _SAVED),
        f"{value:.0f} % [{low:.0f}, {high:.0f}] of {healing.steps} steps for each of {len(here)} "
        "layers",
        f"Table 10's ranges: {ranges[0]:.0f} to {ranges[1]:.0f} %; without noise every layer is "
        f"within {HEALED}× at step 0, which saves 100 %",
        absent=absent,
    )


def _budget_ranking(healing: Healing) -> Finding | None:
    """Whether measured shares rank the layers as Table 10 does."""
    here, absent = parts(_R, healing.trained)
    if len(here) < 4:
        return None
    own = [healing.shares(layer, HEALED)[0] for layer in here]
    null, ranked = "", [layer for layer in here if layer in healing.degradation]
    if len(ranked) > 3:
        importance = [healing.degradation[layer] for layer in ranked]
        null = "; importance, which needs no training, instead of recovery "
        null += _correlation(importance, [_R[layer] for layer in ranked])
    return _agreement(own, [_R[layer] for layer in here], absent, null)


def _agreement(
    own: Sequence[float], printed: Sequence[float], absent: Sequence[str], null: str
) -> Finding:
    """Whether a ranking of layers agrees with a printed one."""
    answer = beyond(spearman_interval(own, printed).ends, RANK_AGREEMENT)
    return Finding.of(
        None if absent else answer,
        f"rank correlation {_correlation(own, printed)}",
        f"0 for unrelated rankings{null}",
        absent=absent,
    )


def _correlation(x: Sequence[float], y: Sequence[float]) -> str:
    found = spearman_interval(x, y)
    if math.isnan(found.value):
        return f"without a value: all of {len(x)} layers are alike"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] over {len(x)} layers".replace(
        "-", "−"
    )


def _counted(answers: Sequence[Answer]) -> str:
    return f"{answers.count(True)}, not within {answers.count(False)} of {len(answers)}"


def _claim(
    id: str, source: str, statement: str, paper: str, rule: str, test: Test, **more
) -> Claim:
    return Claim(id, source, statement, paper, rule, _tested(test), needs=("recovery",), **more)


def _table5(*named: int, column: int) -> str:
    return ", ".join(f"L{layer} {_PRINTED[layer][column]:,}" for layer in named)


_NAMED = functools.partial(_claim, papers_model=True)


def _never_claim(id: str, statement: str, layer: int, factor: float) -> Claim:
    return _NAMED(
        id,
        "AH section 4.5, Table 5",
        statement,
        f"{_PRINTED[layer][0]:,} with noise, {_PRINTED[layer][-1]} after {_STEPS} steps",
        f"It is above {factor:g}× even at its lowest point in at least {_STEPS} steps; it fails if "
        f"that is within ({WITHIN}).",
        functools.partial(_never, layer=layer, factor=factor),
    )


CLAIMS = (
    _claim(
        "recovery_differs",
        "AH hypothesis H3, section 4.5",
        "Layers differ in how fast they recover from noise.",
        f"0 steps (L14, L17) to never (L11, L29) to {HEALED}×",
        "The layer with the highest last perplexity loses more than the one with the lowest: "
        f"Student's interval over documents at level 1 − {LEVEL} / pairs of layers lies "
        f"above 0. It fails if all layers reach {HEALED}× at the same step.",
        _differ,
    ),
    _claim(
        "recovery_follows_importance",
        "AH hypothesis H3",
        "Recovery is slower in more important layers.",
        "'correlating with importance'",
        f"The interval of Spearman's correlation of the steps to {HEALED}× with the degradation of "
        "the neighbour mean lies above 0; it fails if it lies below.",
        _follows_importance,
    ),
    _NAMED(
        "noise_improves_anti_layers",
        "AH hypothesis H4, Table 5",
        "Layers 14 and 17 are better with noise than with their trained weights.",
        f"{_table5(*_ANTI, column=0)} against {paper_table('baseline_ppl')}",
        "With noise and no training, the whole interval of the loss against the undamaged model "
        "lies below 0, in every noise seed of both; it fails if one lies above.",
        _noise_improves,
    ),
    _NAMED(
        "noise_and_training_improve_anti_layers",
        "AH hypothesis H4, Table 5",
        "Layers 14 and 17 end below the undamaged model because of the noise.",
        f"{_table5(*_ANTI, column=-1)} against {paper_table('baseline_ppl')}",
        "Both end lower than by the same training without noise: the whole interval of the "
        "difference at the last step lies below 0; it fails if one lies above.",
        _noise_beats_weights,
    ),
    _never_claim("layer_3_never_converges", "Layer 3 does not converge.", 3, HEALED),
    _never_claim("layer_11_unrecoverable", "Layer 11 is practically unrecoverable.", 11, TWICE),
    _never_claim("layer_29_unrecoverable", "Layer 29 does not get within 2×.", 29, TWICE),
    _NAMED(
        "critical_output_instant",
        "AH section 4.5, Table 5",
        "Layers 23 and 24 recover instantly.",
        f"{_table5(23, 24, column=0)} with noise: 0 steps to {HALF:g}×",
        f"With noise and no training, every noise seed of both is within {HALF:g}× ({WITHIN}); it "
        "fails if one is above.",
        functools.partial(_soon, named=(23, 24), factor=HALF, steps=0),
    ),
    _NAMED(
        "redundant_instant",
        "AH Table 10",
        f"Layers {', '.join(map(str, _INSTANT))} converge in 0 to {FEW_STEPS} steps.",
        f"0 to {FEW_STEPS} steps; Table 5 has {_TABLE5['layers']['3'][3] or 'never'} for L3",
        f"Each is within {HEALED}× after at most {FEW_STEPS} steps ({WITHIN}); it fails if one is "
        "above.",
        functools.partial(_soon, named=_INSTANT, factor=HEALED, steps=FEW_STEPS),
    ),
    _NAMED(
        "table5_noise_ranking",
        "AH Table 5",
        "Noise hurts the layers in the order of Table 5.",
        "column 'PPL+noise'",
        "The interval of Spearman's correlation with Table 5 (median over noise seeds) lies at or "
        f"above {RANK_AGREEMENT}.",
        _noise_ranking,
    ),
    _NAMED(
        "table5_final_ranking",
        "AH Table 5",
        "The layers heal in the order of Table 5.",
        "column 'Final PPL'",
        "The interval of Spearman's correlation of the lowest perplexity with Table 5's last one "
        f"lies at or above {RANK_AGREEMENT}.",
        _final_ranking,
    ),
    _claim(
        "budget_from_recovery",
        "AH section 5.4, Table 10",
        "Budgets from recovery save 54 % of the steps of uniform training.",
        f"{_SAVED} %",
        f"R(l) is the first step within {HEALED}× over all steps, 1 if never. The saved share lies "
        f"at or above {_SAVED} % whatever values in their intervals the points of the curves have; "
        "it fails if it lies below.",
        _budget_saved,
    ),
    _NAMED(
        "budget_follows_recovery",
        "AH section 5.4, Table 10",
        "The budget of Table 10 follows from recovery.",
        "'empirically grounded'",
        f"The interval of Spearman's correlation of R(l), the first step within {HEALED}× over all "
        f"steps, with the middle of Table 10's ranges lies at or above {RANK_AGREEMENT}.",
        _budget_ranking,
    ),
)

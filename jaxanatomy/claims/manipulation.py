"""AH sections 4.2, 4.4, 5.3, Table 4: layers scaled, deleted, cloned, blended, perturbed."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity, certain, degradation, over_draws
from jaxanatomy.claims.rows import MissingError, Part, Row, Rows, Table, every_layer
from jaxanatomy.claims.rules import ALL, ANY, Rule
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.registry import INTERVENTIONS
from jaxanatomy.interventions.sets import PAPER, pairs
from jaxanatomy.interventions.variants import BASELINE
from jaxanatomy.measures.calibration import TOLERANCE_PERCENT, at_temperature
from jaxanatomy.measures.manipulation import VIABLE_PERCENT, improved
from jaxanatomy.measures.readings.attention import COMPONENTS, LOCAL, PROPAGATED
from jaxanatomy.measures.statistics.estimates import Estimate, paired_difference
from jaxanatomy.papers import NEAR, paper_table
from jaxanatomy.words import PERCENT, percent

DESTROYED = 100_000.0  # percent; the least that Table 4 has for a replacement is 173,242
COLLAPSED = 1_000.0  # percent; Table 4 has 5,035 for scale 0.7
GENTLE = 0.9
ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7)  # the paper's others
EPSILON = 0.01  # the paper's size of a small error
REDIRECTED = 0.5  # share of queries whose largest attention weight moves
# What Table 4 has beside scaling, in each reading of the text; of low rank the paper's full one.
REPLACEMENTS = ("zero", "clone", "clone_high", "blend_2", "blend_4", "low_rank")
SETS = {
    "paper": "the paper's nine layers",
    "paper_inner": "the paper's set without the two layers that it never ablated",
    "measured": "the layers that are redundant on this model",
}

_PPL, _PERCENT = paper_table("table4_ppl"), paper_table("table4_percent")
_GENTLE_PERCENT = (_PERCENT["scale_0.9"], paper_table("abstract")["scale_0.9_percent"])
_PAIRS = {
    "zero": "skip_2_layers",
    "clone": "clone_2_layers",
    "low_rank": "low_rank_blend_2_layers",
    "blend_2": "blend_2_layers",
}
HARM = degradation()


def _dosed(table: Table) -> list[Row]:
    """All rows, with strategy, alpha and rank as one field."""
    fields = ("strategy", "alpha", "rank")
    return [{**row, "dose": tuple(row.get(field) for field in fields)} for row in table.rows]


TRIALS = Rows("manipulation", _dosed)


def _scaled(*alphas: float) -> tuple[tuple, ...]:
    return tuple(("scale", alpha, None) for alpha in alphas)


def _replaced(name: str, scaled: Iterable[tuple] = ()):
    """The strategies of Table 4 that exist on a set of layers."""

    def values(table: Table) -> list[tuple]:
        sizes = [len(row["layers"]) for row in table.find({"set": name})]
        outside = len(table.layers) - sizes[0] if sizes else math.inf
        there = [each for each in REPLACEMENTS if INTERVENTIONS[each].sources.count <= outside]
        ranks = ((each, None, "full" if each == "low_rank" else None) for each in there)
        return [*ranks, *scaled]

    return values


def _on(name: str, values, rule: Rule) -> Criterion:
    """A rule on strategies on a set, with the set without the boundary layers, or with, beside."""
    others = {"paper": "paper_inner", "paper_inner": "paper"}
    control = others.get(name)
    beside = TRIALS.where(set=control or name)
    return Criterion(
        TRIALS.where(set=name).at(dose=values),
        HARM,
        rule,
        control=beside.at(dose=(("zero", None, None), *_scaled(GENTLE))),
        beside=f"the control: on the set {control}" if control else "",
    )


def _pair(strategy: str) -> Criterion:
    """Whether some pair of the paper's layers comes near what is printed for two layers."""
    printed = _PPL[_PAIRS[strategy]] / _PPL["baseline"]
    rank = "full" if strategy == "low_rank" else None
    return Criterion(
        TRIALS.where(strategy=strategy, rank=rank).at(set=pairs(PAPER)),
        HARM,
        ANY.within(100 * (printed / NEAR - 1), 100 * (printed * NEAR - 1)),
    )


def _calibrated(table: Table) -> list[Row]:
    """Every variant that was tried, each with the baseline, at temperatures fitted on other text.

    A variant that is no better at temperature 1 is not calibrated. A temperature at the edge of
    its grid leaves no pair: a better one may lie beyond.
    """
    if table.baseline is None:
        return []
    curves = {row["variant"]: row for row in table.find({"kind": "temperature"})}
    fitted = {
        entry["variant"]: entry
        for entry in table.record.summary.get("calibration", ())
        if entry["text"] == table.text
    }
    plain = (None, "none", "perturb")
    tried = [row for row in table.find({}) if row.get("strategy") not in plain]
    better = set(improved(tried, table.text))
    found = []
    for row in tried:
        pair, name = (row, table.baseline), row["variant"]
        if name in fitted:
            pair = _at_temperatures(fitted[name], curves)
        elif name in better:
            pair = "its temperature is not fitted yet"
        found.append({"variant": name, "text": table.text, "pair": pair})
    return found


def _at_temperatures(entry: Row, curves: Mapping[str, Row]) -> tuple[Row, Row] | str:
    """The losses of a variant and of the baseline, each at its temperature; else why not."""
    rows = curves.get(entry["variant"]), curves.get(BASELINE)
    if None in rows or entry["temperature_at_edge"] or entry["baseline_temperature_at_edge"]:
        return "its temperature lies at the edge of the grid"
    own, base = rows
    try:
        own = at_temperature(own, entry["temperature"])
        return own, at_temperature(base, entry["baseline_temperature"])
    except InputError as error:  # losses that are not finite
        return str(error)


def _calibrated_change(part: Part, level: float) -> Estimate:
    pair = part.rows[0]["pair"]
    if isinstance(pair, str):
        raise MissingError(pair)
    if None in pair[0]["unit_nll"]:
        return certain(math.inf)
    return paired_difference(*pair, level).degradation_percent()


def _tried(table: Table) -> list[str]:
    """The variants that were tried on every text of the run."""
    texts = _CALIBRATED.tables(table.record)
    return sorted(set.intersection(*({row["variant"] for row in each.rows} for each in texts)))


def _excess(table: Table) -> list[Row]:
    """By seed what noise in all layers costs above the sum of each alone, and the baseline."""
    noisy, base = table.find({"strategy": "perturb", "alpha": EPSILON}), table.baseline
    if base is None:
        return []
    found = [base]
    for whole in (row for row in noisy if row["count"] == len(table.layers)):
        alone = [
            row for row in noisy if row["seed"] == whole["seed"] and str(row["set"]).isdecimal()
        ]
        if len(alone) < len(table.layers) or any(row["nll"] is None for row in (whole, *alone)):
            continue
        none_U, *alone_SU = (np.asarray(row["unit_nll"]) for row in (base, *alone))
        above_U = np.asarray(whole["unit_nll"]) - sum(one_U - none_U for one_U in alone_SU)
        fields = {"kind": "excess", "unit_nll": above_U.tolist(), "nll": float(above_U.sum())}
        found.append({**whole, **fields})
    return found


def _whole_depth(table: Table) -> tuple[int]:
    """Noise in every layer at once."""
    return (len(table.layers),)


_CALIBRATED = Rows("manipulation", _calibrated)
_SHAKEN = TRIALS.where(strategy="perturb", alpha=EPSILON)
_EXCESS = Rows("manipulation", _excess).where(kind="excess").drawn(2)
_ATTENTION = TRIALS.where(kind="attention").drawn(2)
_REPLACED = (
    f"{percent(_PERCENT['blend_2_layers'])} (blend) to {percent(_PERCENT['skip_2_layers'])} (zero)"
)

CLAIMS = (
    *(
        Claim(
            f"only_scaling_viable_{name}",
            "AH abstract, section 4.4, Table 4",
            f"Only scaling by 0.9 is viable: on {words}.",
            f"scale 0.9 {percent(_PERCENT['scale_0.9'])}, next {percent(_PERCENT['scale_0.7'])}",
            (
                _on(name, _scaled(GENTLE), ALL.below(VIABLE_PERCENT)),
                _on(name, _replaced(name, _scaled(*ALPHAS)), ALL.above(VIABLE_PERCENT)),
            ),
            papers_model=name != "measured",
        )
        for name, words in SETS.items()
    ),
    Claim(
        "gentle_scaling_cost",
        "AH Table 4, abstract",
        "Scaling the nine layers by 0.9 costs 19 (Table 4) or 49 % (abstract).",
        " or ".join(map(percent, _GENTLE_PERCENT)),
        _on("paper", _scaled(GENTLE), ALL.within(*_GENTLE_PERCENT)),
        papers_model=True,
    ),
    Claim(
        "scaling_collapses",
        "AH section 4.4, Table 4",
        "Scaling redundant layers by 0.7 or less destroys the model, also without layers 0 and 29, "
        "which were never shown to be redundant.",
        f"×0.7 {percent(_PERCENT['scale_0.7'])}, ×0.5 {percent(_PERCENT['scale_0.5'])}, "
        f"×0 {percent(_PERCENT['scale_0.0'])}",
        _on("paper_inner", _scaled(*ALPHAS), ALL.above(COLLAPSED)),
        papers_model=True,
    ),
    *(
        Claim(
            f"replacement_destroys_{name}",
            "AH abstract, section 4.4, Table 4",
            f"Zeroing, cloning and blending destroy the model: on {words}.",
            _REPLACED,
            (_on(name, _replaced(name), ALL.above(DESTROYED)),),
            papers_model=name != "measured",
        )
        for name, words in SETS.items()
    ),
    Claim(
        "pairs_destroy",
        "AH Table 4, rows marked '2 layers'",
        "Replacing two of the nine layers is enough to destroy the model: for each strategy some "
        f"pair comes within a factor of {NEAR:g} of what is printed.",
        ", ".join(f"{name} {_PPL[row]:,}" for name, row in _PAIRS.items()),
        tuple(map(_pair, _PAIRS)),
        papers_model=True,
    ),
    Claim(
        "prune_anti_layers",
        "AH section 5.4, Table 10",
        "Layers 14 and 17 can be pruned: they harm performance.",
        "budget 0.00",
        _on("14,17", (("zero", None, None),), ALL.below(0.0)),
        papers_model=True,
    ),
    Claim(
        "improvement_beyond_temperature",
        "AH abstract, hypothesis H4",
        "Removing or perturbing some layers improves the model.",
        "L14 and L17",
        Criterion(
            _CALIBRATED.at(variant=_tried),
            Quantity(
                "the change of perplexity, both models at a temperature fitted on other text,",
                PERCENT,
                _calibrated_change,
            ),
            ANY.below(-TOLERANCE_PERCENT),
            everywhere=2,
        ),
    ),
    Claim(
        "errors_compound",
        "AH section 4.2",
        "An error of 1 % in each layer compounds through the layers until the model fails.",
        "explanation without a figure",
        (
            Criterion(
                _SHAKEN.at(count=_whole_depth).drawn(2),
                degradation(words="the unedited model, over seeds of noise in every layer,"),
                ALL.above(VIABLE_PERCENT),
            ),
            Criterion(
                _EXCESS.at(strategy=("perturb",)),
                degradation(words="the sum of what each layer alone costs"),
                ALL.above(0.0),
                beside="0 if errors only add up",
            ),
        ),
    ),
    Claim(
        "attention_redirected",
        "AH section 5.3",
        "A perturbation of 1 % in q or k can completely redirect attention.",
        "explanation without a figure",
        Criterion(
            _ATTENTION.where(alpha=EPSILON).at(
                component=COMPONENTS, spread=(LOCAL, PROPAGATED), layer=every_layer
            ),
            over_draws(
                "argmax_changed",
                PERCENT,
                "the share of queries whose largest attention weight moves",
                scale=100,
            ),
            ANY.above(100 * REDIRECTED),
            control=_ATTENTION.where(alpha=None).at(
                component=COMPONENTS, spread=(LOCAL, PROPAGATED), layer=every_layer
            ),
            beside="the control: nothing but noise instead",
        ),
    ),
)

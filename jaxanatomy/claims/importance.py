"""AH sections 4.1 and 5, Table 1: what the importance map says about each layer."""

import math

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import (
    degradation,
    largest_ratio,
    of_partners,
    printed,
    rank_correlation,
)
from jaxanatomy.claims.rows import Rows, Table, inner_layers, outer_layers
from jaxanatomy.claims.rules import ALL, ANY, MOST
from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.papers import paper_table, table1
from jaxanatomy.words import layers, percent

REDUNDANT, CRITICAL = THRESHOLDS_PERCENT[0], THRESHOLDS_PERCENT[-1]
RADICAL = CRITICAL / REDUNDANT  # a radical difference: what is between the categories
RANK_AGREEMENT = 0.5  # least Spearman correlation of two rankings that agree
DRAWS = 2  # of random weights; fewer say nothing about others

_PAPER = paper_table("table1")
_PRINTED, _RANGE = _PAPER["degradation_percent"], _PAPER["range_factor"]
_ANTI, _CORE = _PAPER["anti_layers"], _PAPER["critical_core"]
_CRITICAL_LAYERS = _PAPER["categories"]["critical"]
_REDUNDANT_LAYERS = [
    layer for layer in _PAPER["categories"]["redundant"] if layer not in _PAPER["not_ablated"]
]
_TOP = _PRINTED.index(max(_PRINTED))

MAP = Rows("importance").where(intervention="neighbour_mean", scope="layer", positions="all")
SKIPPED = MAP.where(intervention="zero")
RESCALED = MAP.where(intervention="rescaled_mean")
NOISED = MAP.where(intervention="matched_noise").drawn(DRAWS)
HARM = degradation()


def _most_damaging(table: Table) -> tuple[int, ...]:
    """The inner layer whose neighbour mean harms most; none unless all were measured."""
    rows = table.find(MAP.fields)
    loss = {row["layer"]: math.inf if row["nll"] is None else row["nll"] for row in rows}
    inner = inner_layers(table)
    return (max(inner, key=loss.__getitem__),) if inner and loss.keys() >= {*inner} else ()


def _others(table: Table) -> list[int]:
    return [layer for layer in inner_layers(table) if layer != _TOP]


def _layers(
    named, rule, over: Rows = MAP, control: Rows = SKIPPED, quantity=HARM, **more
) -> Criterion:
    """A rule on what the damage to some layers costs."""
    return Criterion(over.at(layer=named), quantity, rule, control=control.at(layer=named), **more)


def _printed(names) -> str:
    return ", ".join(f"L{layer} {percent(_PRINTED[layer])}" for layer in names)


CLAIMS = (
    Claim(
        "non_equivalence",
        "AH hypothesis H1, section 4.1",
        "Layers are not interchangeable: replacing them does radically different damage.",
        f"{percent(min(_PRINTED))} to {percent(max(_PRINTED))}",
        _layers(inner_layers, ALL.above(RADICAL), quantity=largest_ratio(HARM)),
    ),
    Claim(
        "importance_range",
        "AH section 4.1",
        "The damage of the layers ranges over a factor of more than 10^7.",
        "> 10^7",
        _layers(inner_layers, ALL.above(_RANGE), quantity=largest_ratio(HARM)),
    ),
    Claim(
        "table1_ranking",
        "AH Table 1",
        "The ranking of the layers is the one of Table 1.",
        "Table 1",
        _layers(
            inner_layers,
            ALL.above(RANK_AGREEMENT),
            quantity=rank_correlation(HARM, printed(dict(enumerate(table1()))), "Table 1"),
            beside="0 for unrelated rankings",
        ),
        papers_model=True,
    ),
    Claim(
        "map_is_importance",
        "AH section 3.2",
        "The neighbour mean measures how important a layer is.",
        "used as the measure",
        _layers(
            inner_layers,
            ALL.above(RANK_AGREEMENT),
            quantity=rank_correlation(
                HARM, of_partners(SKIPPED, HARM), "what skipping the layer costs"
            ),
            beside="0 for unrelated rankings",
        ),
    ),
    Claim(
        "most_important_layer_reasons",
        "AH sections 4.1, 5.1",
        "The most important layer is the model's brain: it works on the text, not on its first "
        "token alone.",
        "L11, 'model brain', by interpretation alone",
        Criterion(
            MAP.where(positions="others").at(layer=_most_damaging),
            HARM,
            ALL.above(CRITICAL),
            control=MAP.where(positions="first").at(layer=_most_damaging),
            beside="the control: at the first token of each document alone",
            chosen=lambda table: max(1, len(inner_layers(table))),
        ),
    ),
    Claim(
        "boundary_layers_redundant",
        "AH Table 1",
        "The first and the last layer are redundant.",
        "L0 0.0 %, L29 0.0 %",
        Criterion(
            Rows("importance")
            .where(scope="layer", positions="all")
            .at(intervention=("neighbour_mean", "zero"), layer=outer_layers),
            HARM,
            ALL.below(REDUNDANT),
            control=MAP.at(layer=inner_layers),
        ),
    ),
    Claim(
        "averaging_cancels",
        "AH section 5.2",
        "Averaging neighbours cancels their directions, which is why even minor layers are "
        "sensitive to it: with the norms restored it does less damage.",
        "explanation without a figure",
        Criterion(
            RESCALED.at(layer=inner_layers),
            degradation(MAP, "the plain neighbour mean"),
            MOST.below(0.0),
            control=MAP.where(intervention="aligned_mean").at(layer=inner_layers),
            beside="the control: neurons aligned before averaging",
        ),
    ),
    Claim(
        "critical_layers",
        "AH Table 1",
        "The nine layers listed as critical are critical.",
        _printed(_CRITICAL_LAYERS),
        _layers(_CRITICAL_LAYERS, ALL.above(CRITICAL)),
        papers_model=True,
    ),
    Claim(
        "critical_core",
        "AH abstract, section 4.1",
        "Layers 8 to 11 form a critical core.",
        _printed(_CORE),
        _layers(_CORE, ALL.above(CRITICAL)),
        papers_model=True,
    ),
    Claim(
        "redundant_layers",
        "AH Table 1",
        "The inner layers listed as redundant are redundant.",
        _printed(_REDUNDANT_LAYERS),
        _layers(_REDUNDANT_LAYERS, ALL.below(REDUNDANT)),
        papers_model=True,
    ),
    Claim(
        "most_important_layer",
        "AH section 4.1, Table 1",
        f"Layer {_TOP} is the most important one: every other inner layer harms less.",
        f"L11 {percent(_PRINTED[11])}, next L10 {percent(_PRINTED[10])}",
        Criterion(
            MAP.at(layer=_others),
            degradation(MAP.where(layer=_TOP), f"layer {_TOP}'s neighbour mean"),
            ALL.below(0.0),
        ),
        papers_model=True,
    ),
    Claim(
        "anti_layers_named",
        "AH abstract, Table 1",
        "Layers 14 and 17 are anti-layers: the model is better without them.",
        _printed(_ANTI),
        _layers(_ANTI, ALL.below(0.0), everywhere=1),
        papers_model=True,
    ),
    Claim(
        "anti_layers_exist",
        "AH hypothesis H4",
        "Some layers harm the model.",
        layers(_ANTI),
        _layers(inner_layers, ANY.below(0.0), everywhere=2),
    ),
    Claim(
        "random_weights_better",
        "AH hypothesis H4, section 1.2",
        "The model performs better with random weights in layers 14 and 17.",
        "H4, called confirmed",
        _layers(_ANTI, ALL.below(0.0), over=NOISED, control=MAP, everywhere=1),
        papers_model=True,
    ),
)

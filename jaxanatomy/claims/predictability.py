"""AH section 4.2, Table 2: whether earlier layers predict the weights of later ones."""

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity, beyond_null, certain, degradation, exact
from jaxanatomy.claims.rows import MissingError, Part, Rows, Table
from jaxanatomy.claims.rules import ALL, ANY, MOST, Rule
from jaxanatomy.forensics.prediction import READINGS, targets
from jaxanatomy.interventions.function_test import prediction_sets
from jaxanatomy.measures.importance import THRESHOLDS_PERCENT
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.papers import paper_table
from jaxanatomy.words import PLAIN, percent, plain

MARGIN = 0.02  # least distance from a null that means anything
PREDICTABLE = 0.7  # least R2 that the paper calls predictable (0.716)
SAME = 0.1  # greatest difference of two tables' R2 that are the same finding
NINE = 9
TOLERABLE, CRITICAL = THRESHOLDS_PERCENT[1:]

_TABLE2, _PERCENT = paper_table("table2_r2"), paper_table("table2_percent")
_CALLED_PREDICTABLE = [name for name, (average, _) in _TABLE2.items() if average >= PREDICTABLE]


def _from_table2(part: Part, level: float) -> Estimate:
    """The largest distance of a reading's R2 from the table's, over components."""
    found = {row["component"]: row["r2"] for row in part.rows}
    if not found.keys() >= _TABLE2.keys() or None in found.values():
        raise MissingError("not of all components")
    return certain(max(abs(found[name] - average) for name, (average, _) in _TABLE2.items()))


def _single(table: Table) -> list[tuple[int]]:
    """Each layer that can be predicted, alone."""
    return [(layer,) for layer in targets(len(table.layers))]


def _nine(table: Table) -> list[tuple[int, ...]]:
    """Sets of nine predicted layers or more: those of the experiment, and others measured."""
    wanted = [where.layers for where in prediction_sets(len(table.layers), (NINE,))]
    found = [row["layers"] for row in table.find(PREDICTED.fields)]
    named = (tuple(layers) for layers in (*wanted, *found) if len(layers) >= NINE)
    return list(dict.fromkeys(named))


SCORES = Rows("predictability").where(target=None)
AHEAD = SCORES.where(reading="extrapolate")
PREDICTED = Rows("predictability").where(strategy="predicted")
DELETED = PREDICTED.where(strategy="zero")

_HIGH = Criterion(
    AHEAD.at(component=_CALLED_PREDICTABLE),
    exact("r2", words="the mean R2 over layers, each predicted from those before it,"),
    ALL.above(PREDICTABLE),
    control=AHEAD.at(component=_CALLED_PREDICTABLE),
    by=exact("null_r2"),
    beside="the control: independent Gaussians",
)


def _predicted(layers, rule: Rule) -> Criterion:
    control = DELETED.at(layers=layers)
    return Criterion(PREDICTED.at(layers=layers), degradation(), rule, control=control)


_PRINTED = ", ".join(f"{name} {plain(average)}" for name, (average, _) in _TABLE2.items())

CLAIMS = (
    Claim(
        "r2_high",
        "AH section 4.2, Table 2",
        "The weights of most components are highly predictable from earlier layers.",
        _PRINTED,
        _HIGH,
    ),
    Claim(
        "r2_reproduced",
        "AH Table 2",
        "The protocol gives the R2 of Table 2, in one of its readings.",
        _PRINTED,
        Criterion(
            SCORES.at(reading=READINGS),
            Quantity(
                "the largest distance of R2 from Table 2 over components", PLAIN, _from_table2
            ),
            ANY.below(SAME),
        ),
        papers_model=True,
    ),
    Claim(
        "later_layers_predictable",
        "AH hypothesis H2",
        "Later layers' weights can be predicted from earlier ones: there is a pattern.",
        "H2, from R2",
        Criterion(
            AHEAD.at(component=_TABLE2),
            # The mean over parameters reaches 0: what Gaussians do worse is no null.
            beyond_null(
                "r2", "null_r2", "the R2 less the larger of 0 and independent Gaussians'", least=0.0
            ),
            MOST.above(MARGIN),
        ),
    ),
    Claim(
        "r2_perplexity_paradox",
        "AH section 4.2",
        "Weights can be predicted with high R2, and yet the predicted weights destroy the model.",
        f"R2 0.91; nine layers > {percent(_PERCENT['predicted_9_at_least'])}",
        (_HIGH, _predicted(_nine, ALL.above(CRITICAL))),
    ),
    Claim(
        "one_predicted_layer",
        "AH section 4.2",
        "One layer with predicted weights costs little, in most layers.",
        f"{percent(_PERCENT['predicted_1'])} (which layer is not said)",
        _predicted(_single, MOST.below(TOLERABLE)),
    ),
    Claim(
        "predicted_beats_deleted",
        "AH section 4.2 (our control)",
        "A predicted layer is better than none, in most layers.",
        "no such control",
        Criterion(
            PREDICTED.at(layers=_single),
            degradation(DELETED, "the same layer deleted"),
            MOST.below(0.0),
        ),
    ),
    Claim(
        "nine_predicted_layers",
        "AH section 4.2",
        "Nine or more layers with predicted weights cost more than 442,000 %.",
        f"> {percent(_PERCENT['predicted_9_at_least'])}",
        _predicted(_nine, ALL.above(_PERCENT["predicted_9_at_least"])),
    ),
)

"""AH section 4.3, Table 3: what the weights of neighbouring layers have in common."""

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import beyond_null, exact
from jaxanatomy.claims.rows import Rows
from jaxanatomy.claims.rules import ALL, Rule
from jaxanatomy.papers import paper_table
from jaxanatomy.words import plain

FIGURE, TOLERANCE = -0.5, 0.01  # the paper's seven components lie within 0.005 of -0.5
MARGIN = 0.02  # least distance from a null that means anything
NULLS = ("closed_form", "gaussian", "shuffled_layers", "random_init")

_TABLE3 = paper_table("table3_delta_correlation")
MEANS = Rows("structure").where(layer=None)


def _reading(metric: str, rule: Rule) -> Criterion:
    quantity = beyond_null("value", "null_value", "the mean over layers less its null")
    over = MEANS.where(metric=metric).at(component=_TABLE3, null=NULLS)
    return Criterion(over, quantity, rule)


CLAIMS = (
    Claim(
        "delta_correlation",
        "AH section 4.3, Table 3",
        "The delta correlation is about -0.50 in every component.",
        ", ".join(f"{name} {plain(value, 3)}" for name, value in _TABLE3.items()),
        Criterion(
            MEANS.where(metric="delta_correlation", null="closed_form").at(component=_TABLE3),
            exact("value", words="the mean delta correlation"),
            ALL.within(FIGURE - TOLERANCE, FIGURE + TOLERANCE),
            beside="−0.5 for independent layers",
        ),
    ),
    Claim(
        "layers_undo_each_other",
        "AH sections 4.3, 5.2",
        "The delta correlation says that each layer partly undoes the previous one's change: it "
        "lies below every null.",
        "read off −0.50",
        _reading("delta_correlation", ALL.below(-MARGIN)),
    ),
    Claim(
        "standing_wave",
        "AH sections 4.3, 5.2",
        "Weights form a standing wave in layer space: deltas two layers apart correlate more than "
        "in every null.",
        "read off −0.50",
        _reading("lag2_delta_correlation", ALL.above(MARGIN)),
    ),
)

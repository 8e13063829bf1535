"""DG section 4.1 and the paper that it builds on: how much late layers do for later tokens."""

import math
from collections.abc import Sequence
from typing import Any

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.depth_score import changes, depth_score_difference
from jaxanatomy.measures.depth_use import UNTRAINED, of_model
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.words import PERCENT

PROMPTS = 3  # fewer cannot tell
# Percent of the depth: two untrained models differ by about one, which no prompt tells.
MARGIN = 5.0


def _changes(table: Table) -> Sequence[dict[str, Any]]:
    """For each convention and part what layers change of later predictions, [E, L]."""
    depth = len(table.layers)
    # First comes the model, then what stands beside it.
    given = next((row["model"] for row in table.rows if "model" in row), "")
    rows = [row for row in table.rows if "model" in row]
    untrained = changes(of_model(rows, f"{UNTRAINED}{given}"), "output")
    return [
        {"convention": key[0], "part": key[1], "own_EL": own_EL, "null_EL": untrained.get(key)}
        for key, own_EL in changes(of_model(rows, given), "output").items()
        if own_EL.shape[1] == depth
    ]


def _beyond_untrained(part: Part, level: float) -> Estimate:
    own_EL, null_EL = (part.rows[0][name] for name in ("own_EL", "null_EL"))
    if null_EL is None:
        raise MissingError("the untrained model was not measured")
    if len(own_EL) < PROMPTS:
        raise MissingError(f"{len(own_EL)} prompts where the rule needs {PROMPTS}")
    found = depth_score_difference(own_EL, null_EL, level)
    if math.isnan(found.value):
        raise MissingError("no layer makes a change, or one that is not finite")
    return found.map(lambda layers: 100 * layers / (own_EL.shape[1] - 1))


CLAIMS = (
    Claim(
        "late_layers_do_less_for_later_tokens",
        "CS abstract (arXiv 2505.13898); DG sections 1 and 4.1",
        "Training leaves late layers less to do for later tokens: the depth score lies below that "
        f"of the untrained model by {MARGIN:g} % of the depth or more.",
        "'layers in the second half contribute much less than those in the first half'",
        Criterion(
            Rows("depth_use", _changes).where(convention="paper").at(part=("layer",)),
            Quantity("the depth score less the untrained model's", PERCENT, _beyond_untrained),
            ALL.below(-MARGIN),
            beside="0 as untrained, where late layers do less, too: fewer with attention follow",
        ),
    ),
)

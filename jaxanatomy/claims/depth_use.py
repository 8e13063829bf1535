"""DG section 4.1 and the paper that it builds on: how much late layers do for later tokens."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.depth_score import changes, depth_score, relabelled
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.words import PLAIN

PROMPTS = 3  # fewer cannot tell


def _changes(table: Table) -> Sequence[dict[str, Any]]:
    """For each convention and part what layers change of later predictions, [E, L]."""
    depth = len(table.layers)
    # First comes the model, then what stands beside it.
    given = next((row["model"] for row in table.rows if "model" in row), None)
    own = [row for row in table.rows if row.get("model") == given]
    return [
        {"convention": convention, "part": part, "change_EL": change_EL}
        for (convention, part), change_EL in changes(own, "output").items()
        if change_EL.shape[1] == depth
    ]


def _beyond_random_order(part: Part, level: float) -> Estimate:
    change_EL = part.rows[0]["change_EL"]
    if len(change_EL) < PROMPTS:
        raise MissingError(f"{len(change_EL)} prompts where the rule needs {PROMPTS}")
    score = depth_score(change_EL, level)
    if math.isnan(score.value):
        raise MissingError("no layer makes a change, or one that is not finite")
    mean, deviation = relabelled(change_EL.mean(axis=0))
    of_order = NormalDist().inv_cdf((1 + level) / 2) * deviation
    beyond = score.value - mean
    low, high = score.value - score.low, score.high - score.value
    return Estimate(beyond, beyond - math.hypot(low, of_order), beyond + math.hypot(high, of_order))


CLAIMS = (
    Claim(
        "late_layers_do_less_for_later_tokens",
        "CS abstract (arXiv 2505.13898); DG sections 1 and 4.1",
        "Layers of the second half do less for later tokens than those of the first: the depth "
        "score lies below that of the same layers in random order.",
        "'layers in the second half contribute much less than those in the first half'",
        Criterion(
            Rows("depth_use", _changes).where(convention="paper").at(part=("layer",)),
            Quantity(
                "the depth score less that of layers in random order", PLAIN, _beyond_random_order
            ),
            ALL.below(0.0),
            beside="0 for layers in random order; their deviation is part of the interval",
        ),
    ),
)

"""DG section 4.1 and the paper that it builds on: how much late layers do for later tokens."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxanatomy.claims.core import Claim, Criterion
from jaxanatomy.claims.quantities import Quantity
from jaxanatomy.claims.rows import MissingError, Part, Rows, Table
from jaxanatomy.claims.rules import ALL
from jaxanatomy.measures.depth_score import (
    changes,
    depth_score,
    depth_score_beyond_draws,
    untrained_draws,
)
from jaxanatomy.measures.depth_use import of_model
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.words import PERCENT

PROMPTS, DRAWS = 3, 2  # fewer cannot tell
# Percent of the depth: what a difference must come to, and the standard deviation of untrained
# draws must be shown to stay below.
MARGIN = 5.0
SHOWN = 0.95  # the level of that


def _changes(table: Table) -> Sequence[dict[str, Any]]:
    """For each convention and part what layers change of later predictions, [E, L].

    `nulls` has the same of each untrained draw.
    """
    depth = len(table.layers)
    # First comes the model, then what stands beside it.
    given = next((row["model"] for row in table.rows if "model" in row), "")
    rows = [row for row in table.rows if "model" in row]
    drawn = untrained_draws(given, dict.fromkeys(row["model"] for row in rows))
    nulls = [changes(of_model(rows, model), "output") for model in drawn]
    return [
        {"convention": key[0], "part": key[1], "own_EL": own_EL}
        | {"nulls": [null[key] for null in nulls if key in null]}
        for key, own_EL in changes(of_model(rows, given), "output").items()
        if own_EL.shape[1] == depth
    ]


def _beyond_untrained(part: Part, level: float) -> Estimate:
    own_EL, nulls = (part.rows[0][name] for name in ("own_EL", "nulls"))
    nulls = [null_EL for null_EL in nulls if null_EL.shape == own_EL.shape]
    for name, count, needed in (
        ("untrained draws", len(nulls), DRAWS),
        ("prompts", len(own_EL), PROMPTS),
        ("layers", own_EL.shape[1], 2),
    ):
        if count < needed:
            raise MissingError(f"{count} {name} where the rule needs {needed}")
    percent = 100 / (own_EL.shape[1] - 1)
    found = depth_score_beyond_draws(own_EL, np.stack(nulls), level)
    if math.isnan(found.value):
        raise MissingError("no layer makes a change, or one that is not finite")
    deviation = percent * _largest_deviation([depth_score(null_EL).value for null_EL in nulls])
    if deviation > MARGIN:
        raise MissingError(
            f"the scores of {len(nulls)} untrained draws may have a standard deviation of "
            f"{deviation:.1f} % of the depth where the rule allows {MARGIN:g}; measure more draws"
        )
    return found.map(lambda layers: percent * layers)


def _largest_deviation(scores: Sequence[float]) -> float:
    """The upper confidence bound of the standard deviation of normal draws, from chi-squared."""
    from scipy.special import chdtri

    freedom = len(scores) - 1
    return float(np.std(scores, ddof=1) * np.sqrt(freedom / chdtri(freedom, SHOWN)))


CLAIMS = (
    Claim(
        "late_layers_do_less_for_later_tokens",
        "CS abstract (arXiv 2505.13898); DG sections 1 and 4.1",
        "Training leaves late layers less to do for later tokens: the depth score lies below that "
        f"of untrained models by {MARGIN:g} % of the depth or more.",
        "'layers in the second half contribute much less than those in the first half'",
        Criterion(
            Rows("depth_use", _changes).where(convention="paper").at(part=("layer",)),
            Quantity(
                "the depth score less the mean of untrained draws", PERCENT, _beyond_untrained
            ),
            ALL.below(-MARGIN),
            beside="0 as untrained, where late layers do less, too: fewer with attention follow",
        ),
    ),
)

"""What each sublayer adds to the residual stream, and how large that is (DG section 4.3)."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy.interventions.variants import OTHERS
from jaxanatomy.measures.layer_means import layer_means
from jaxanatomy.measures.readings import contributions
from jaxanatomy.records import Row
from jaxanatomy.sweep import EVERYTHING, Context, Measured, Reading

RESIDUAL_NORM = "residual_norm"
POSITIONS = ("all", "others")  # others: without the first token, which many models use as a sink


def norm(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """A measure: the norm of the stream at each token, [C, R, T]."""
    return jnp.linalg.norm(streams[0], axis=-1)


READINGS = {
    **contributions(reduction=EVERYTHING),
    RESIDUAL_NORM: Reading(norm, "block_out"),
}


def contribution_rows(measured: Mapping[str, Measured], variant: str) -> list[Row]:
    """Rows of kind "contribution", by metric, positions and layer: means over tokens."""
    rows = []
    for name in READINGS:
        each = measured[name]
        for positions in POSITIONS:
            counted_N = np.ones(len(each.positions), bool)
            if positions == "others":
                counted_N = OTHERS.select(each.positions)
            labels = {"kind": "contribution", "metric": name, "positions": positions}
            rows += layer_means(each, variant, labels, counted_N)
    return rows

"""What each sublayer adds to the residual stream, and how large that is (DG section 4.3)."""

import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy.forensics import blocks
from jaxanatomy.measures.readings.layer_means import layer_means
from jaxanatomy.measures.readings.ready import contributions
from jaxanatomy.records import Row
from jaxanatomy.sweep import EVERYTHING, Context, Measured, Reading

RESIDUAL_NORM = "residual_norm"
POSITIONS = ("all", "others")  # others: without the first token, which many models use as a sink


def norm(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """A measure: the norm of the stream at each token, [C, R, T]."""
    return jnp.linalg.norm(streams[0], axis=-1)


# Of attention to h, of the MLP to h + a, as the paper has them.
PERIODIC = (
    "attention_norm",
    "attention_cosine",
    "mlp_norm_after_attention",
    "mlp_cosine_after_attention",
)
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
                counted_N = each.positions > 0
            labels = {"kind": "contribution", "metric": name, "positions": positions}
            rows += layer_means(each, variant, labels, counted_N)
    return rows


def looks(sizes: Sequence[int]) -> int:
    """How many rows `period_rows` has: looks at whether anything repeats."""
    return len(PERIODIC) * len(POSITIONS) * sum(size > 1 for size in sizes)


def period_rows(rows: Sequence[Row], sizes: Sequence[int], samples: int, seed: int) -> list[Row]:
    """Rows of kind "periodicity": whether contributions repeat at the size of a block (DG 4.3).

    Args:
      rows: Of kind "contribution", of one model and text.
      sizes: Of blocks.
      samples: Random orders of the layers, the null.
      seed: Of these.

    Returns:
      By `metric` (of `PERIODIC`), `positions` and `block` what `blocks.periodicity_of` has.
    """
    found = []
    for metric, positions in itertools.product(PERIODIC, POSITIONS):
        own = [row for row in rows if (row["metric"], row["positions"]) == (metric, positions)]
        own.sort(key=lambda row: row["layer"])
        value_L = [math.nan if row["value"] is None else row["value"] for row in own]
        for size in (size for size in sizes if size > 1):
            labels = {"kind": "periodicity", "metric": metric, "positions": positions}
            beside = blocks.periodicity_of(value_L, size, samples, seed)
            found.append({**labels, "block": size, **beside})
    return found

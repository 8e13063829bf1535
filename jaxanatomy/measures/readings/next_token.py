"""How well an edited model predicts next tokens, and whether it says what the unedited one does."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxanatomy.measures.readings.lens import TOP, Final, final, ranks, read_out
from jaxanatomy.measures.readings.ready import OVER_ALL
from jaxanatomy.sweep import Beside, Context, Reading
from jaxanatomy.sweep.reading import END


def next_token_scores(
    streams: tuple[Sequence[jax.Array], Final], context: Context
) -> dict[str, jax.Array]:
    """A measure beside the unedited end: scores of each prediction, [C, P] by name of `SCORES`."""
    x_CRTD, unedited = streams
    target_P1 = context.text.target_P[:, None]

    def of_one(x_RTD: jax.Array) -> dict[str, jax.Array]:
        (log_q_PV,) = read_out(x_RTD[None], context)[1]
        rank_P5 = ranks(log_q_PV, unedited.best_1P5[0])
        return {
            "eval_nll": -jnp.take_along_axis(log_q_PV, target_P1, axis=-1)[:, 0],
            "accuracy": (ranks(log_q_PV, target_P1)[:, 0] == 0).astype(jnp.float32),
            "agreement": (rank_P5[:, 0] == 0).astype(jnp.float32),
            "overlap": (rank_P5 < TOP).mean(axis=-1),
        }

    return jax.lax.map(of_one, x_CRTD)


_MEASURE = Beside(next_token_scores, final)
# Means over predictions: the loss in nats, the share whose likeliest token is right, the share
# whose likeliest token is the unedited model's, and the share of its five likeliest that are so.
SCORES = {
    name: Reading(_MEASURE, END, OVER_ALL, part=name)
    for name in ("eval_nll", "accuracy", "agreement", "overlap")
}

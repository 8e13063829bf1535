"""Worlds of the claim about depth scores: what each layer changes of later predictions."""

import numpy as np
from claims.worlds import DEPTH, WORLDS, Worlds, record

from jaxanatomy.claims.depth_use import MARGIN
from jaxanatomy.measures.depth_score import untrained_id

PROMPTS = 8
DRAWS = 3  # of the untrained model
FALL = 1.5  # of the logarithm over the depth, in any model: what comes later has less after it


def rows_of(model, layer_L, generator):
    """Outputs of a model in which each layer changes so much, apart from the prompt."""
    change_EL = layer_L * np.exp(0.3 * generator.normal(size=(PROMPTS, DEPTH)))
    return [
        {
            "kind": "output",
            "model": model,
            "text": "prompts",
            "convention": "paper",
            "part": "layer",
            "spread": "propagated",
            "when": "future",
            "boundary": "1/2",
            "source": layer,
            "target": None,
            "value": float(change_E.max()),
            "examples": change_E.tolist(),
        }
        for layer, change_E in enumerate(change_EL.T)
    ]


def falling(slope, generator, noise):
    """A profile that falls, and has nothing at its end: no layer follows the last one."""
    layer_L = np.exp(noise * generator.normal(size=DEPTH) - slope * np.linspace(0, 1, DEPTH))
    layer_L[-1] = 0.0
    return layer_L


def score(layer_L):
    return float(layer_L @ np.arange(len(layer_L)) / layer_L.sum())


def trained(below, apart=0.0):
    """A run whose model has a score so much of the depth below the untrained ones'.

    Args:
      below: Percent of the depth.
      apart: Standard deviation of the fall of untrained draws; 1 moves scores by 7 % of the depth.
    """

    def make(generator, reach):
        del reach
        # Untrained models differ, too.
        falls = FALL + apart * generator.normal(size=DRAWS)
        draws = [falling(fall, generator, 0.05) for fall in falls]
        wanted = score(falling(FALL, generator, 0.0)) - below / 100 * (DEPTH - 1)
        slopes = np.linspace(-2, 12, 400)
        flat = [abs(score(falling(each, generator, 0.0)) - wanted) for each in slopes]
        own_L = falling(slopes[int(np.argmin(flat))], generator, 0.05)
        rows = rows_of("file:x", own_L, generator)
        for draw, null_L in enumerate(draws):
            rows += rows_of(untrained_id("file:x", draw), null_L, generator)
        return {"depth_use": record(rows)}

    return make


WORLDS["late_layers_do_less_for_later_tokens"] = Worlds(trained(4 * MARGIN), trained(MARGIN))

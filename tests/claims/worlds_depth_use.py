"""Worlds of the claim about depth scores: what each layer changes of later predictions."""

import numpy as np
from claims.worlds import DEPTH, WORLDS, Worlds, record

PROMPTS = 8


def changes_of(layer_L, generator):
    """A run in which each layer changes so much of later predictions, apart from the prompt."""
    change_EL = layer_L * np.exp(0.3 * generator.normal(size=(PROMPTS, DEPTH)))
    rows = [
        {
            "kind": "output",
            "model": "file:x",
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
    return {"depth_use": record(rows)}


def outputs(slope):
    """Rows of a run whose layers change less the later they stand, or regardless of where.

    Args:
      slope: How much less of its change, in logarithms, the last layer makes than the first.
    """

    def make(generator, reach):
        del reach
        layer_L = np.exp(0.5 * generator.normal(size=DEPTH) - slope * np.linspace(0, 1, DEPTH))
        return changes_of(layer_L, generator)

    return make


WORLDS["late_layers_do_less_for_later_tokens"] = Worlds(outputs(2.5), outputs(0.0))

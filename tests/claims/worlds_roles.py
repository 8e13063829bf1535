"""Worlds of the claims about layer roles: scores of layers, and what other runs find of them.

Where a claim is true the finding follows a score, apart from noise; layers are in any order.
Where nothing happens both follow depth, each by itself: a smooth curve on a trend of its own, which
must not take rules in.
"""

import numpy as np
from claims.worlds import DEPTH, WORLDS, Worlds, record
from claims.worlds_depth_use import rows_of
from claims.worlds_importance import importance_map
from claims.worlds_training import SEEDS, healing

from jaxanatomy.forensics.roles import ROLES

SMOOTH = 0.8  # correlation of neighbours where nothing happens


def smooth(generator):
    """A random curve over depth of variance 1 [L]."""
    value_L = generator.normal(size=DEPTH)
    for layer in range(1, DEPTH):
        step = np.sqrt(1 - SMOOTH**2) * value_L[layer]
        value_L[layer] = SMOOTH * value_L[layer - 1] + step
    return value_L


def trend(generator, size=1.5):
    """A straight line over depth of a random slope [L]."""
    return size * generator.normal() * np.linspace(-1, 1, DEPTH)


def scored(found, role, sign):
    """A run of roles and another, whose finding follows the score of a role; None: no score.

    Args:
      found: Makes the other run of a number of each layer, about -2 to 2.
      role: Whose score.
      sign: +1 or -1.
    """

    def make(generator, reach):
        def draw():
            if role:
                return generator.normal(size=DEPTH)
            return (smooth(generator) + trend(generator)) / np.sqrt(2)

        scores = {name: 1 / (1 + np.exp(-draw())) for name in ROLES}
        value_L = draw() if role is None else sign * 4 * (scores[role] - 0.5)
        rows = [
            {"hash": "", "kind": "role", "model": "file:x", "layer": layer}
            | {name: float(score_L[layer]) for name, score_L in scores.items()}
            for layer in range(DEPTH)
        ]
        return {"roles": record(rows)} | found(value_L, generator, reach)

    return make


def skipping(value_L, generator, reach):
    """The damage of skipping each layer."""
    effects = dict(enumerate(1 + 0.4 * value_L))
    return importance_map(lambda reach: effects, ("zero",))(generator, reach)


def recovering(value_L, generator, reach):
    """What one draw of noise leaves to heal of each layer."""

    def gap(reach, layer, step):
        return 1 + 0.4 * value_L[layer]

    return healing(gap, seeds=SEEDS[:1])(generator, reach)


def changing(value_L, generator, reach):
    """What each layer changes of later predictions."""
    del reach
    return {"depth_use": record(rows_of("file:x", np.exp(value_L), generator))}


for id_, found_, role_, sign_ in (
    ("roles_foretell_skipping", skipping, "specialist", 1),
    ("passthroughs_can_be_skipped", skipping, "passthrough", -1),
    ("hubs_serve_later_tokens", changing, "hub", 1),
    ("roles_foretell_recovery", recovering, "damper", -1),
):
    WORLDS[id_] = Worlds(scored(found_, role_, sign_), scored(found_, None, 0))

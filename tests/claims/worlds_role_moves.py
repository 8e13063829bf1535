"""Worlds of the claims about moving roles: losses and role scores of arms that begin alike."""

import role_moves_run as run
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.claims.role_moves import LEARNED, RANDOM
from jaxanatomy.measures.role_moves import AGAIN, UNIFORM

ARMS = (UNIFORM, AGAIN, "none", RANDOM, LEARNED)
SEEDS, FAR = 5, 0.2


def moved(**changes):
    """A run in which some arms have another log of the loss, or other roles."""

    def make(generator, reach):
        del reach
        arms = dict.fromkeys(ARMS, (0.0, 0.0)) | changes
        return {"role_moves": record(run.run_rows(generator, arms, SEEDS), seeds=[*range(SEEDS)])}

    return make


WORLDS["learned_decay_moves_roles"] = Worlds(moved(**{LEARNED: (0.0, 0.2)}), moved())
WORLDS["learned_decay_lowers_loss"] = Worlds(moved(**{LEARNED: (-FAR, 0.0)}), moved())
# Both are better than the baseline, and neither than the other.
BOTH = dict.fromkeys((LEARNED, RANDOM), (-FAR, 0.0))
WORLDS["learned_decay_beats_random_decay"] = Worlds(moved(**{LEARNED: (-FAR, 0.0)}), moved(**BOTH))

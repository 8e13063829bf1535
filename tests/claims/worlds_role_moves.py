"""Worlds of the claims about moving roles: losses and role scores of arms that begin alike."""

import numpy as np
import role_moves_run as run
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.claims.role_moves import LEARNED, RANDOM
from jaxanatomy.measures.arms.role_moves import AGAIN, UNIFORM

ARMS = (UNIFORM, AGAIN, "none", RANDOM, LEARNED)
SEEDS, FAR, SATURATED = 5, 0.2, 80


def moved(**changes):
    """A run in which some arms have another log of the loss, or other roles."""

    def make(generator, reach):
        del reach
        arms = dict.fromkeys(ARMS, (0.0, 0.0)) | changes
        return {"role_moves": record(run.run_rows(generator, arms, SEEDS), seeds=[*range(SEEDS)])}

    return make


def reshaped(learned, again, moved=0.3):
    """A run in which decay and another order lose and gain saturated positions and change ranks.

    Args:
      learned: Of learned decay: the share of the positions that is lost, and that is gained, and
        how far effective ranks change.
      again: The same of another order.
      moved: How far learned decay moves roles.
    """

    def make(generator, reach):
        del reach
        arms = {UNIFORM: (0.0, 0.0, 0.0), AGAIN: again, RANDOM: again, LEARNED: learned}
        rows = []
        for arm, (lost, gained, rank) in arms.items():
            for seed in range(SEEDS):
                score_RL = run.scores(generator, moved if arm == LEARNED else 0.0)
                is_kept = generator.random(SATURATED) >= lost
                new = generator.binomial(SATURATED, gained)
                neurons = [*np.flatnonzero(is_kept), *range(SATURATED, SATURATED + new)]
                places = [(int(each) % run.LAYERS, int(each)) for each in neurons]
                change = rank * np.exp(0.1 * generator.normal())
                loss_U = 2 + 0.1 * generator.normal(size=run.UNITS)
                rows.append(run.final_row(arm, seed, loss_U, score_RL, places, 20 + change))
        return {"role_moves": record(rows, seeds=[*range(SEEDS)])}

    return make


def apart(times):
    """A run in which learned decay sets layers so many times as far apart as the baseline has."""

    def make(generator, reach):
        del reach
        rows = []
        for arm in ARMS:
            for seed in range(SEEDS):
                noise_L = generator.normal(size=run.LAYERS)
                share_L = 0.45 + 0.01 * (times if arm == LEARNED else 1) * noise_L
                row = run.final_row(arm, seed, np.ones(run.UNITS), run.scores(generator))
                row["features"]["attention_share_energy"] = share_L.tolist()
                rows.append(row)
        return {"role_moves": record(rows, seeds=[*range(SEEDS)])}

    return make


WORLDS["learned_decay_moves_roles"] = Worlds(moved(**{LEARNED: (0.0, 0.2)}), moved())
WORLDS["learned_decay_lowers_loss"] = Worlds(moved(**{LEARNED: (-FAR, 0.0)}), moved())
# Both are better than the baseline, and neither than the other.
BOTH = dict.fromkeys((LEARNED, RANDOM), (-FAR, 0.0))
WORLDS["learned_decay_beats_random_decay"] = Worlds(moved(**{LEARNED: (-FAR, 0.0)}), moved(**BOTH))
# Another order of the text loses a third of the positions and gains as many.
ORDER = (0.3, 0.3, 1.5)
WORLDS["saturated_positions_conserved"] = Worlds(
    reshaped((0.95, 0.95, 0.5), ORDER), reshaped(ORDER, ORDER)
)
WORLDS["effective_ranks_stay"] = Worlds(reshaped((0.3, 0.3, 0.5), ORDER), reshaped(ORDER, ORDER))
WORLDS["learned_decay_sets_layers_apart"] = Worlds(apart(100.0), apart(1.0))
# What changes nothing keeps everything, positions may be lost and not gained again, ranks may leave
# their bounds without leaving those of another order: by claim what must not meet it.
MUST_NOT_HOLD = {
    "saturated_positions_conserved": {
        "nothing changes": reshaped((0.0, 0.0, 0.0), ORDER, moved=0.0),
        "lost for good": reshaped((0.95, 0.3, 0.5), ORDER),
        "a quarter lost for good": reshaped((0.95, 0.7, 0.5), ORDER),
    },
    "effective_ranks_stay": {
        "nothing changes": reshaped((0.0, 0.0, 0.0), ORDER, moved=0.0),
        "beyond the bound": reshaped((0.3, 0.3, 4.0), (0.3, 0.3, 8.0)),
    },
}

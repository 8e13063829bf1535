"""Worlds of the claims about widths, registers and skip gates."""

import math

import numpy as np
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.claims.role_shape import LESS
from jaxanatomy.measures.skips import all_sets

SEEDS, LAYERS, MOST = 5, 6, 3


def final(arm, seed, **fields):
    place = {"kind": "final", "arm": arm, "seed": seed, "purpose": "main", "step": 9}
    return {**place, "eval_nll": 2.0, "reason": "", **fields}


def run(rows):
    return {"role_moves": record(rows, seeds=[*range(SEEDS)])}


def widths(even):
    """CVs of equal layers that rise by a factor from layer to layer; of rising widths they do so
    by a tenth."""

    def make(generator, reach):
        del reach
        rows = []
        for arm, ratio in (("uniform", even), ("wide_late", 1.1)):
            for seed in range(SEEDS):
                noise = np.exp(0.05 * generator.normal(size=LAYERS))
                cv = 0.2 * ratio ** np.arange(LAYERS) * noise
                rows.append(final(arm, seed, features={"co_magnitude_cv": cv.tolist()}))
        return run(rows)

    return make


def moved(times):
    """Registers that have moved so many times less than straight on."""

    def make(generator, reach):
        del reach
        rows = []
        for seed in range(SEEDS):
            own = 0.3 / times * math.exp(0.1 * generator.normal())
            its = {"rms": 0.02, "rms_change": 1e-4 * generator.normal(), "moved": own}
            place = {"kind": "registers", "purpose": "main", "seed": seed}
            place |= {"arm": "registers_learned"}
            rows.append({**place, "step": 9, "straight": 0.3, "walk": 0.01, "registers": its})
            rows.append(final("registers_learned", seed))
        return run(rows)

    return make


def skipped(known, by_place):
    """What layers cost, and passthrough scores that know it or nothing.

    Where both go by place alone, and have nothing to do with each other, seeds agree about it.
    """

    def make(generator, reach):
        del reach
        place, shown = generator.normal(size=(2, LAYERS))
        rows = []
        for seed in range(SEEDS):
            own, its = generator.normal(size=(2, LAYERS))
            cost = np.exp(place if by_place else own)
            score = -cost if known else shown if by_place else its
            score = 1 / (1 + np.exp(-score))
            sets = all_sets(LAYERS, MOST)
            roles = ["passthrough" if each >= np.sort(score)[-2] else "hub" for each in score]
            fields = {
                "skip_roles": roles,
                "skip_scores": score.tolist(),
                "skip_whole": 2.0,
                "skip_sets": [list(layers) for layers in sets],
                "skip_nll": [2 + float(cost[list(layers)].sum()) for layers in sets],
            }
            rows.append(final("uniform", seed, **fields))
        return run(rows)

    return make


WORLDS |= {
    "variable_width_spreads_specialists": Worlds(widths(1.8), widths(1.1)),
    "registers_hardly_move": Worlds(moved(3 * LESS), moved(LESS)),
    "skip_gates_belong_at_passthroughs": Worlds(skipped(True, False), skipped(False, True)),
}

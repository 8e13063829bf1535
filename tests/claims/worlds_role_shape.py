"""Worlds of the claims about widths, registers and skip gates."""

import math

import numpy as np
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.claims.role_shape import LESS
from jaxanatomy.measures.arms.skips import all_sets

SEEDS, LAYERS, MOST = 5, 6, 3
STEPS, RATE = 15_000, 1e-5


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


def moved(less_than_noise, less_than_tokens):
    """Registers that have moved so many times less than noise would have moved them, and than
    frequent tokens have, in 15,000 steps of one rate."""

    def make(generator, reach):
        del reach
        straight, walk, rows = STEPS * RATE, math.sqrt(STEPS) * RATE, []
        for seed in range(SEEDS):
            own = walk / less_than_noise * math.exp(0.1 * generator.normal())
            its = walk / less_than_noise * less_than_tokens * math.exp(0.1 * generator.normal())
            of_rows = {"rms": 0.02, "rms_change": 1e-4 * generator.normal()}
            place = {"kind": "registers", "purpose": "main", "seed": seed, "step": STEPS}
            place |= {"arm": "registers_learned", "straight": straight, "walk": walk}
            own, its = ({**of_rows, "moved": each} for each in (own, its))
            rows.append({**place, "registers": own, "frequent": its})
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
    "registers_hardly_move": Worlds(moved(3 * LESS, 3 * LESS), moved(LESS, 3 * LESS)),
    "skip_gates_belong_at_passthroughs": Worlds(skipped(True, False), skipped(False, True)),
}
# Far behind a gradient of one direction (122 times in 15,000 steps), as noise and tokens are.
MUST_NOT_HOLD = {
    "registers_hardly_move": {
        "they walk like noise": moved(1.0, 10.0),
        "they move as tokens do": moved(10.0, 1.0),
    }
}

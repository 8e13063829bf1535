"""Worlds of the claims about layers while a model trains: looks and losses of the baseline."""

import khop_growth_run as run
import numpy as np
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.forensics.roles import ROLES
from jaxanatomy.growth.depth_arms import BASELINE

LAYERS, SEEDS, LOOKS, EVERY = 6, 8, 21, 20
EARLY = 6  # intervals of the first 30 %


def courses(early, late, effect=0.0, times=1.0, seeds=SEEDS):
    """A run in which roles change at random, and the loss falls.

    Args:
      early: Probability that a layer changes between two looks of the first 30 % of the steps.
      late: The same of the others.
      effect: What each change takes off the log of the loss.
      times: How many times as far layers differ in balance at the end as at the beginning.
      seeds: How many.
    """

    def make(generator, reach):
        del reach
        rows = []
        for seed in range(seeds):
            rows += list(_of_seed(generator, seed, early, late, effect, times))
            rows.append(run.final_row(BASELINE, seed, np.ones(run.UNITS)))
        return {"khop_growth": record(rows, seeds=[*range(seeds)])}

    return make


def _of_seed(generator, seed, early, late, effect, times):
    pace = generator.gamma(20, 1 / 20)
    role_L, loss, first_L = generator.integers(4, size=LAYERS), 4.0, generator.normal(size=LAYERS)
    for look in range(LOOKS):
        if look:
            is_new_L = generator.random(LAYERS) < (early if look <= EARLY else late)
            role_L = (role_L + is_new_L * generator.integers(1, 4, LAYERS)) % 4
            fall = 0.2 * pace * np.exp(-look / 5) * generator.gamma(10, 1 / 10)
            loss *= np.exp(-fall - effect * is_new_L.sum())
        noise_L = np.exp(0.1 * generator.normal(size=LAYERS))
        balance_L = 0.1 + 0.01 * first_L * times ** (look / (LOOKS - 1)) * noise_L
        place = {"purpose": "main", "arm": BASELINE, "seed": seed, "stage": 0, "step": EVERY * look}
        features = {"attention_imbalance": balance_L.tolist()}
        features |= {"down_proj.momentum_cosine": [0.0] * LAYERS} if look else {}
        roles = [ROLES[each] for each in role_L]
        yield {**place, "hash": "", "kind": "roles", "roles": roles, "features": features}
        yield {**place, "hash": "", "kind": "curve", "eval_nll": float(loss), "reason": ""}


WORLDS |= {
    "plain_training_makes_layers_alike": Worlds(courses(0.2, 0.2, times=0.1), courses(0.2, 0.2)),
    # Where all layers of all seeds stay, a seed may be worth one: that takes many.
    "roles_settle_early": Worlds(courses(0.7, 0.0, seeds=16), courses(0.2, 0.2), is_false=True),
    "losses_fall_where_roles_change": Worlds(courses(0.5, 0.2, effect=0.3), courses(0.5, 0.2)),
}
# Roles that hardly ever change stand early as well, and so do those that never do.
MUST_NOT_HOLD = {
    "roles_settle_early": {"few changes at any time": courses(0.03, 0.03), "none": courses(0, 0)},
    "plain_training_makes_layers_alike": {"layers grow apart": courses(0.2, 0.2, times=10.0)},
    "losses_fall_where_roles_change": {
        "both fade": courses(0.8, 0.05),
        "the loss rises": courses(0.5, 0.2, effect=-0.3),
    },
}

"""Worlds of the claims about alarms: runs whose late layers grow, beside their twins."""

import numpy as np
from claims.worlds import WORLDS, Worlds, record

from jaxanatomy.measures.arms.alarms import SCORE

SEEDS, STEPS, FAULT, LEAD = 20, 80, 40, 5
SHIPPED = {"spectral": [10.0, 30.0, 100.0], "loss_jump": [6.0, 12.0, 24.0]}
SHIPPED["gradient_jump"] = [10.0, 20.0, 40.0]


def late(shown, jumping):
    """Runs whose loss doubles some steps after the fault.

    Args:
      shown: Probability that spectral norms stand out some steps before.
      jumping: The same of the gradient's norm.
    """

    def make(generator, reach):
        del reach
        rows = []
        for seed in range(SEEDS):
            for fault in ("late_layers", "healthy_grown"):
                rows.append(_run(generator, seed, fault, shown, jumping))
        return {"alarms": record(rows, seeds=[*range(SEEDS)], shipped=SHIPPED)}

    return make


def _run(generator, seed, fault, shown, jumping):
    spectral_E = 1.5 + 0.05 * generator.normal(size=STEPS + 1)
    loss_E = np.exp(0.05 * generator.normal(size=STEPS))
    gradient_E = np.exp(0.2 * generator.normal(size=STEPS))
    if fault == "late_layers":
        loss_E[FAULT + 2 * LEAD :] *= 10
        spectral_E[FAULT + LEAD :] *= 20 if generator.random() < shown else 1
        gradient_E[FAULT + LEAD] *= 1e4 if generator.random() < jumping else 1
    place = {"hash": "", "fault": fault, "twin": "healthy_grown", "purpose": SCORE, "seed": seed}
    place |= {"fault_step": FAULT, "corrupted": 0, "grown": True}
    steps = {"loss": loss_E, "gradient": gradient_E, "update": np.ones(STEPS)}
    place |= {name: values_E.tolist() for name, values_E in steps.items()}
    return place | {"series": {"spectral": spectral_E.tolist()}}


# Where half of the runs are told that is no finding; some draws tell that they are fewer or more.
WORLDS |= {
    "spectral_norms_tell_of_late_layers": Worlds(late(1.0, 0.0), late(0.5, 0.5)),
    "losses_do_not_tell_of_late_layers": Worlds(late(1.0, 0.0), late(0.5, 0.5)),
}

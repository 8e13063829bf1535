"""Rows of runs that move roles, made by rule: for tests."""

import numpy as np

from jaxanatomy.forensics.roles import ROLES, assign
from jaxanatomy.measures.arms.role_moves import PROPOSAL, RANKED
from jaxanatomy.measures.roles import name_of_role

LAYERS, UNITS = 6, 24
RATE = 0.005


def scores(generator, moved=0.0, noise=0.1):
    """Role scores [R, L]: the same pattern in all models, `moved` away from it, and noise."""
    base_RL = np.add.outer(np.arange(len(ROLES)), np.arange(LAYERS)) % 4 / 8 + 0.3
    shift_RL = np.where((np.arange(LAYERS) % 2)[None] > 0, moved, -moved)
    return base_RL + shift_RL + noise * generator.normal(size=base_RL.shape)


def final_row(arm, seed, unit_U, score_RL, saturated=(), rank=20.0, reason="", alike=True):
    """A final row of mean losses of held-out rows."""
    row = {
        "hash": f"{arm} {seed}",
        "kind": "final",
        "arm": arm,
        "purpose": "main",
        "learning_rate": RATE,
        "seed": seed,
        "step": 500,
        "tokens": 384_000,
        "flops": 10**12,
        "seconds": 10.0,
        "tokens_per_second": 38_400.0,
        "mfu": None,
        "eval_nll": float(np.mean(unit_U)),
        "unit_nll": np.asarray(unit_U, float).tolist(),
        "unit_tokens": [1.0] * len(unit_U),
        "reason": reason,
    }
    if reason:
        return row | {"eval_nll": None, "unit_nll": None}
    neurons = [[] for _ in range(LAYERS)]
    for layer, neuron in saturated:
        neurons[layer].append(neuron)
    features = {f"{name}.effective_rank": [rank] * LAYERS for name in RANKED}
    features |= {"co_magnitude_cv": [0.2] * LAYERS, "saturated": [len(own) for own in neurons]}
    return row | {
        "alike": alike,
        "features": features,
        "scores": dict(zip(ROLES, score_RL.tolist(), strict=True)),
        "roles": [name_of_role(int(each)) for each in assign(score_RL)[0]],
        "saturated": neurons,
    }


def curve_rows(arm, seed, loss):
    """Three points of a curve."""
    for step in (0, 250, 500):
        value = loss + (500 - step) / 100
        yield {
            "hash": f"{arm} {seed} {step}",
            "kind": "curve",
            "arm": arm,
            "purpose": "main",
            "learning_rate": RATE,
            "seed": seed,
            "stage": 0,
            "step": step,
            "eval_nll": value,
            "reason": "",
        }


def proposal_rows(arm, seed, means, tensors=("q_proj", "down_proj"), clamp=(0.01, 1.0)):
    """A proposal every ten steps, its mean the same in all layers and tensors."""
    for number, mean in enumerate(means):
        at = not clamp[0] < mean < clamp[1]
        yield {
            "hash": f"{arm} {seed} proposal {number}",
            "kind": PROPOSAL,
            "arm": arm,
            "purpose": "main",
            "learning_rate": RATE,
            "seed": seed,
            "stage": 0,
            "step": 10 * (number + 1),
            "since": 10 * number,
            "reward": 0.01,
            "coefficient": {name: [mean] * LAYERS for name in tensors},
            "mean": {name: [mean] * LAYERS for name in tensors},
            "at_clamp": {name: [at] * LAYERS for name in tensors},
        }


def run_rows(generator, arms, seeds=5, of_seed=0.02, noise=0.1):
    """Final rows of arms.

    Args:
      generator: Of the noise.
      arms: By name the log of the loss against the others', and how far roles are moved.
      seeds: How many.
      of_seed: Spread of the log of a loss over seeds.
      noise: Spread of role scores.
    """
    base_U = 2 + 0.3 * generator.normal(size=UNITS)
    rows = []
    for arm, (log, moved) in arms.items():
        for seed in range(seeds):
            spread_U = 0.02 * generator.normal(size=UNITS) + of_seed * generator.normal()
            loss_U = base_U * np.exp(log + spread_U)
            rows.append(final_row(arm, seed, loss_U, scores(generator, moved, noise)))
    return rows

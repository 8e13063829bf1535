"""Rows of runs of growth on k-hop tasks, made by rule: for tests."""

import math

import numpy as np

from jaxanatomy.train.depth_reader import EFFECTS

HOPS, UNITS, ANSWERED, GUESSED = 4, 24, 400, 0.3
RATES = (0.002, 0.004, 0.008)
# Layers by stage; other arms have all of theirs from the start.
STAGES = {"midas": (2, 4, 6), "lidas": (2, 4, 6), "expand_2_at_70": (2, 6)}
DEPTHS = {"shallow": 2, "flat_1": 1, "flat_2": 2, "flat_3": 3, "flat_4": 4}
LOOPS = ("once", "twice", "damped")


def layers_of(arm):
    """Layers by stage."""
    base = arm.removesuffix("_equal_flops").removesuffix("_equal_seconds")
    return STAGES.get(base) or (DEPTHS.get(base, 6),)


def accuracies(loss):
    """By hop: the later, the worse."""
    return [math.exp(-loss * (hop + 1) / 4) for hop in range(HOPS)]


def curve_rows(arm, seed, loss, reason=""):
    """Four points of a curve, and two at each growth step."""
    layers = layers_of(arm)
    places = [(0, 0, 1.3)]
    for stage in range(len(layers)):
        step = 80 * (stage + 1) // len(layers)
        value = loss + (1.3 - loss) * (1 - step / 80)
        places += [(stage, step, value)]
        places += [(stage + 1, step, value + 0.1)] if stage + 1 < len(layers) else []
    for stage, step, value in places:
        yield {
            "hash": f"{arm} {seed} {stage} {step}",
            "kind": "curve",
            "arm": arm,
            "purpose": "main",
            "learning_rate": RATES[1],
            "seed": seed,
            "stage": stage,
            "step": step,
            "layers": layers[stage],
            "tokens": 100 * step,
            "flops": 10**9 * step * layers[stage],
            "seconds": 0.1 * step,
            "loss": value if step else None,
            "eval_nll": value,
            "nll_by_hop": [value] * HOPS,
            "accuracy_by_hop": accuracies(value),
            "reason": reason if step == 80 else "",
        }


def look_rows(arm, seed):
    """Roles at each point of a curve at which the model has four layers or more."""
    roles = "hub", "damper", "tie"
    for row in curve_rows(arm, seed, 1.0):
        if row["layers"] >= 4:
            place = {name: row[name] for name in ("arm", "purpose", "seed", "stage", "step")}
            own = [roles[(layer + row["step"] * (seed + 1)) % 3] for layer in range(row["layers"])]
            looked = {"kind": "roles", "roles": own, "features": {}}
            yield {**place, "hash": f"roles {row['hash']}", **looked}


def lost_of(arm, cut, swapped, across):
    """What is lost by each edit of a model, by kind, name and layers."""
    layers = layers_of(arm)[-1]
    lost = {("cut", f"layer/{layer}", (layer,)): cut for layer in range(layers)}
    lost |= {("exit", f"layer/{layer}", (layer,)): cut for layer in range(layers - 1)}
    lost |= {
        ("swap", f"span/{first}-{first + 2 * width - 1}", tuple(range(first, first + 2 * width))): (
            swapped
        )
        for width in (1, 2)
        for first in range(layers - 2 * width + 1)
    }
    return lost | {
        ("reverse", f"span/{first}-{first + 3}", tuple(range(first, first + 4))): (
            swapped + across * (first % 2)
        )
        for first in range(layers - 3)
    }


def edits_of(arm, loss, looped, cut, swapped, across=0.0):
    """What a final row has of edits."""
    lost = {("loop", name, (2, 3)): 0.0 for name in LOOPS}
    lost |= lost_of(arm, cut, swapped, across)
    times = dict(zip((("loop", name) for name in LOOPS), looped, strict=False))
    return [
        {
            "kind": kind,
            "name": name,
            "layers": [*at],
            "eval_nll": loss * times.get((kind, name), 1.0 + less),
            "accuracy_by_hop": [each - less for each in accuracies(loss)],
            "agreement": 1 - less,
        }
        for (kind, name, at), less in lost.items()
        if kind != "loop" or (kind, name) in times
    ]


CONTRIBUTIONS = (
    "attention_norm",
    "attention_cosine",
    "mlp_norm_after_attention",
    "mlp_cosine_after_attention",
)


def depth_of(arm, **readings):
    """What a final row has of how deep a model computes; blocks where two of two layers fit."""
    layers = layers_of(arm)[-1]
    own = {
        "influence": [1.0 - 0.1 * layer for layer in range(layers)],
        "depth_score": 2.0,
        "effects": {
            name: [
                [0.1 if target > source else None for target in range(layers)]
                for source in range(layers)
            ]
            for name in EFFECTS
            if layers > 1
        },
        "first_attention": 0.5 if layers > 4 else None,
        **{name: [0.5] * layers for name in CONTRIBUTIONS},
    }
    if layers >= 4:
        own["similarity"] = np.eye(layers - 1).tolist()
        own |= {f"block_{name}": 0.0 for name in ("similarity", "symmetry", "periodicity")}
        own |= {f"{name}_periodicity": 0.0 for name in CONTRIBUTIONS}
    return own | readings


def final_row(
    arm,
    seed,
    unit_U,
    looped=(),
    reason="",
    purpose="main",
    rate=RATES[1],
    cut=0.1,
    swapped=0.2,
    across=0.0,
    depth=None,
):
    """A final row of the mean losses of the held-out sequences.

    Args:
      looped: How many times the loss is what it is without, of each of `LOOPS`.
      cut: Accuracy lost without a layer, and where the model is left early.
      swapped: Accuracy lost where blocks are exchanged or layers reversed.
      across: Lost besides where layers are reversed from inside a block of two on.
      depth: Readings that are not those of `depth_of`.
    """
    loss = float(np.mean(unit_U))
    right = [round(ANSWERED * share) for share in accuracies(loss)]
    row = {
        "hash": f"{arm} {seed} {purpose} {rate}",
        "kind": "final",
        "arm": arm,
        "purpose": purpose,
        "learning_rate": rate,
        "seed": seed,
        "step": 80,
        "layers": layers_of(arm)[-1],
        "tokens": 8000,
        "flops": 10**9 * 80 * float(np.mean(layers_of(arm))),
        "seconds": 8.0,
        "tokens_per_second": 1000.0,
        "mfu": None,
        "eval_nll": loss,
        "nll_by_hop": [loss] * HOPS,
        "accuracy": sum(right) / HOPS / ANSWERED,
        "accuracy_by_hop": [each / ANSWERED for each in right],
        "right_by_hop": right,
        "answered_by_hop": [ANSWERED] * HOPS,
        "guessing_by_hop": [GUESSED] * HOPS,
        "unit_nll": (2.0 * np.asarray(unit_U)).tolist(),
        "unit_tokens": [2.0] * len(unit_U),
        "reason": reason,
    }
    if reason:
        lost = ("eval_nll", "nll_by_hop", "accuracy", "accuracy_by_hop", "right_by_hop", "unit_nll")
        row |= dict.fromkeys(lost)
    if purpose == "main":
        row["edited"] = None if reason else edits_of(arm, loss, looped, cut, swapped, across)
        row["depth"] = None if reason else depth_of(arm, **(depth or {}))
    return row


def tuning_rows(arm, best=RATES[1]):
    """One seed for each rate."""
    for rate in RATES:
        loss = 0.5 + abs(math.log(rate / best))
        yield final_row(arm, 100, np.full(UNITS, loss), purpose="tuning", rate=rate)


def losses(generator, arms, seeds=3, of_seed=0.1, of_unit=0.0, together=0.1, units=UNITS):
    """Mean losses [S, U] of each arm.

    Args:
      generator: Of the noise.
      arms: The log of each arm's mean loss.
      seeds: How many.
      of_seed: Spread of the log of an arm's loss over seeds; or one for each arm.
      of_unit: Likewise of what an arm makes of a sequence in all seeds.
      together: Likewise of what arm, seed and sequence make together.
      units: Held-out sequences.
    """
    base_U = generator.gamma(4, 0.25, units)
    found = {}
    for arm, log in arms.items():
        own = of_seed[arm] if isinstance(of_seed, dict) else of_seed
        noise_SU = (
            own * generator.normal(size=(seeds, 1))
            + of_unit * generator.normal(size=units)
            + together * generator.normal(size=(seeds, units))
        )
        found[arm] = math.exp(log) * base_U * np.exp(noise_SU)
    return found


def run_rows(found, looped=None, curves=True):
    """All rows of a run, from losses [S, U] of each arm."""
    for arm, loss_SU in found.items():
        yield from tuning_rows(arm)
        for seed, unit_U in enumerate(loss_SU):
            if curves:
                yield from curve_rows(arm, seed, float(unit_U.mean()))
                yield from look_rows(arm, seed)
            yield final_row(arm, seed, unit_U, (looped or {}).get(arm, (1.1, 1.5, 1.0)))

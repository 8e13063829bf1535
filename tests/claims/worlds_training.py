"""Worlds of the claims about recovery from noise, and about models that grow."""

import math

import numpy as np
from claims.worlds import DEPTH, DRAW, NOISE, TOKENS, UNITS, WORLDS, Maker, Worlds, percent, record

from jaxanatomy.claims import depth_growth, developmental, recovery
from jaxanatomy.data.primitives import PAPER_PRIMITIVES

EVERY = range(DEPTH)
STEPS, SEEDS = (0, 10, 200), range(4)
# A layer's mean over draws less the same training without noise; the latter is one row.
GAP_NOISE = NOISE * math.sqrt(1 + 1 / len(SEEDS))


def healing(gap, layers=EVERY, seeds=SEEDS):
    """Curves with noise and without: `gap(reach, layer, step)` in nats between them."""

    def make(generator, reach):
        maker = Maker(generator)
        rows = [maker.baseline()]
        for layer in layers:
            fields = dict(layer=layer, train_text="other", variant="v")
            controls = {step: maker.row(-0.001 * step) for step in STEPS}
            for step, control in controls.items():
                rows.append(control | fields | dict(seed=None, noise=False, step=step))
            for seed, shift in zip(seeds, DRAW * generator.normal(size=len(seeds)), strict=True):
                for step in STEPS:
                    rise = gap(reach, layer, step) - 0.001 * step + shift
                    more = dict(seed=seed, noise=True, step=step)
                    rows.append(maker.row(rise) | fields | more)
            labels = dict(intervention="neighbour_mean", layer=layer, step=None)
            rows.append(maker.row(0.1 * layer, **labels))
        for row in rows:
            row["ppl"] = math.exp(row["nll"] / row["tokens"])
            if row.get("step", 0) is None:
                del row["step"]
        return {"recovery": record(rows, steps=STEPS[-1])}

    return make


def reach_of(reach, looks=1):
    """Of a gap, the draws pooled over layers."""
    return reach(looks, draws=len(SEEDS), noise=GAP_NOISE)


def on(factor, side, looks=1):
    """Every layer at a multiple of the control, or two reaches beyond it, at every step."""
    limit = percent(100 * (factor - 1))
    return lambda reach, layer, step: limit + 2 * side * reach_of(reach, looks)


def add(id, factor, side, layers):
    """Worlds of a claim that layers lie above or below a multiple of the control."""
    WORLDS[id] = Worlds(healing(on(factor, side), layers), healing(on(factor, 0), layers))


WORLDS["recovery_differs"] = Worlds(
    healing(lambda reach, layer, step: 2.1 * reach_of(reach, DEPTH) * (layer == 5)),
    healing(lambda reach, layer, step: 0.0),
    is_false=True,
)
WORLDS["recovery_follows_importance"] = Worlds(
    healing(lambda reach, layer, step: layer * reach_of(reach)),
    healing(lambda reach, layer, step: 0.0),
)
add("noise_and_training_improve_anti_layers", 1.0, -1, (14, 17, 20))
add("layer_3_never_converges", recovery.HEALED, 1, (3, 11, 29))
add("layer_11_unrecoverable", recovery.TWICE, 1, (3, 11, 29))
add("layer_29_unrecoverable", recovery.TWICE, 1, (3, 11, 29))
add("critical_output_instant", recovery.HALF, -1, (3, 23, 24))
add("redundant_instant", recovery.HEALED, -1, recovery._INSTANT)
WORLDS["noise_improves_anti_layers"] = Worlds(
    healing(lambda reach, layer, step: -2.5 * reach(draws=len(SEEDS)), (14, 17, 20)),
    healing(lambda reach, layer, step: 0.0, (14, 17, 20)),
)
for id_, column in (("table5_noise_ranking", 0), ("table5_final_ranking", -1)):
    printed = {layer: values[column] for layer, values in recovery._PRINTED.items()}
    places = {layer: place for place, layer in enumerate(sorted(printed, key=printed.get))}
    WORLDS[id_] = Worlds(
        healing(lambda reach, layer, step, at=places: 2 * reach_of(reach) * at[layer], places),
        healing(lambda reach, layer, step: 0.0, places),
    )


def closing(share):
    """A gap that closes, at a step that is the share of all steps."""

    def gap(reach, layer, step):
        return 0.0 if step >= share(layer) * STEPS[-1] else 1.0

    return gap


PAIR = SEEDS[:2]
WORLDS["budget_from_recovery"] = Worlds(
    healing(closing(lambda layer: 0.05), seeds=PAIR),
    healing(closing(lambda layer: 2.0), seeds=PAIR),
    is_false=True,
)


def as_table10(layer):
    """A share in the order of Table 10's; steps are few here, so that it is 0, 0.05 or 1."""
    printed = recovery._R[layer]
    return 0.0 if printed < 0.1 else 0.01 if printed < 0.5 else 1.0


WORLDS["budget_follows_recovery"] = Worlds(
    healing(closing(as_table10), seeds=PAIR),
    healing(closing(lambda layer: 0.05 * (layer % 2)), seeds=PAIR),
    is_false=True,
)


# Arms of training: log losses by arm, on the same seeds and held-out sentences.

TRAINED = range(3)
RATES = (1e-3, 2e-3, 4e-3)


def tuning(arm):
    """One seed at each of three rates, of which the middle one is far better."""
    for rate, loss in zip(RATES, (9.0, 3.0, 9.0), strict=True):
        labels = {"kind": "final", "purpose": "tuning", "arm": arm, "seed": 100}
        losses = {"final_nll": loss, "eval_nll": loss, "reason": None}
        yield {"hash": "", "learning_rate": rate, **labels, **losses}


def arms(experiment, less, baseline, others, fields=lambda generator, arm: {}, scale=1.0, **config):
    """Final rows: the baseline and others, whose log losses lie `less(reach)` below it."""

    def make(generator, reach):
        base_U, rows = np.exp(1 + 0.3 * generator.normal(size=UNITS)), []
        for arm in (baseline, *others):
            gain = less(reach) * (arm != baseline)
            rows += tuning(arm)
            for seed in TRAINED:
                noise_U = NOISE * generator.normal(size=UNITS) + DRAW * generator.normal()
                noise_U = scale * noise_U
                mean_U = base_U * np.exp(noise_U - gain)
                row = {
                    "hash": "",
                    "kind": "final",
                    "purpose": "main",
                    "arm": arm,
                    "seed": seed,
                    "learning_rate": RATES[1],
                    "unit_nll": (TOKENS * mean_U).tolist(),
                    "unit_tokens": [TOKENS] * UNITS,
                    "final_nll": float(mean_U.mean()),
                    "eval_nll": float(mean_U.mean()),
                    "reason": None,
                    "layers": 2 if arm == "shallow" else 6,
                    "seconds": 100.0,
                    "flops": 1e15,
                    "exact_completions": 10,
                    "completions": [""] * 12,
                    "accuracy_by_task": {},
                }
                rows.append(row | fields(generator, arm))
        return {experiment: record(rows, seeds=[*TRAINED], **config)}

    return make


def spread_of(reach, looks=1):
    """The half-width of a difference of two arms, in their log losses."""
    return math.sqrt(2) * reach(looks, draws=len(TRAINED), noise=NOISE)


def grown(gain, arms_=("growth_100", "growth_50"), **more):
    """Arms that end lower than uniform training."""
    return arms("developmental", gain, developmental.BASELINE, arms_, **more)


def same(reach):
    """All arms are equal."""
    return 0.0


for id_, arm in (("growth_wins", "growth_100"), ("half_budget_wins", "growth_50")):
    WORLDS[id_] = Worlds(grown(lambda reach: 2.2 * spread_of(reach), (arm,)), grown(same, (arm,)))
for id_, arm, ratio in (
    ("growth_wins_by_far", "growth_100", developmental.RATIO),
    ("half_budget_wins_by_far", "growth_50", developmental.SHORT_RATIO),
):
    limit = math.log(ratio - developmental.LAST_DIGIT)
    WORLDS[id_] = Worlds(
        grown(lambda reach, limit=limit: limit + 2.2 * spread_of(reach), (arm,)),
        grown(lambda reach, limit=limit: limit, (arm,)),
    )
WORLDS["phases_explain_growth"] = Worlds(
    *(
        arms("developmental", gain, "growth_100", developmental.CONTROLS)
        for gain in (lambda reach: -2.2 * spread_of(reach, len(developmental.CONTROLS)), same)
    )
)


def takes(share):
    """What growth takes of the seconds, timed with noise, and of the FLOPs."""

    def fields(generator, arm):
        if arm == developmental.BASELINE:
            return {}
        return {"seconds": 100 * share * (1 + 0.05 * generator.normal()), "flops": share * 1e15}

    return fields


WORLDS["growth_is_faster"] = Worlds(
    grown(same, fields=takes(0.6)), grown(same, fields=takes(1.0)), is_false=True
)


def completions(share, fewer=0):
    """How many of twelve prompts each seed completes."""

    def fields(generator, arm):
        right = int(generator.binomial(12, share))
        return {"exact_completions": right - fewer * (arm != developmental.BASELINE)}

    return fields


WORLDS["growth_completes_all"] = Worlds(
    grown(same, fields=completions(1.0)), grown(same, fields=completions(10 / 12)), is_false=True
)
WORLDS["half_budget_completes_alike"] = Worlds(
    grown(same, fields=completions(1.0)), grown(same, fields=completions(10 / 12, fewer=1))
)


def deep(gain, arms_, baseline="baseline", **more):
    """Arms of depth growth; losses differ by nats of the mean of e."""
    config = {"block": 6}
    return arms("depth_growth", gain, baseline, arms_, **config, **more)


MEAN = math.e * math.exp(0.045)  # of the held-out losses


def lower(limit, side):
    """Log losses for a difference of `limit` nats, or two reaches of nats to one side of it."""
    return lambda reach: -(limit / MEAN) - math.log1p(-2.2 * side * spread_of(reach))


def add_deep(id, limit, side, arms_, baseline="baseline"):
    """Worlds of a claim that arms end lower (side 1) than another by a margin."""
    worlds = (deep(lower(limit, each), arms_, baseline) for each in (side, 0))
    WORLDS[id] = Worlds(*worlds)


add_deep("midas_matches_loss", depth_growth.MARGIN, 1, ("midas",))
add_deep("lidas_matches_loss", depth_growth.MARGIN, 1, ("lidas",))
add_deep("lidas_less_loss_than_midas", 0.0, 1, ("lidas",), "midas")
add_deep("depth_growth_wins_at_equal_flops", 0.0, 1, ("midas_equal_flops", "lidas_equal_flops"))
add_deep(
    "growth_keeps_loss_under_ln_scaling",
    depth_growth.MARGIN,
    1,
    ("ln_scaling_lidas",),
    "ln_scaling",
)

WORLDS["ln_scaling_tracks_baseline"] = Worlds(
    deep(same, ("ln_scaling",), scale=0.01), deep(lower(depth_growth.MARGIN, 0), ("ln_scaling",))
)


def times(seconds, flops):
    """Seconds, timed with noise, and FLOPs of the arms that grow, against the baseline's."""

    def fields(generator, arm):
        if arm == "baseline":
            return {}
        noise = 1 + 0.01 * generator.normal()
        return {"seconds": 100 / seconds * noise, "flops": 1e15 / flops}

    return fields


WORLDS["depth_growth_is_faster"] = Worlds(
    deep(same, ("midas", "lidas"), fields=times(1.38, 1.30)),
    deep(same, ("midas", "lidas"), fields=times(1.0, 1.0)),
    is_false=True,
)


def answers(accuracy):
    """The share of two hundred questions of each primitive that an arm answers."""

    def fields(generator, arm):
        right = generator.random((len(PAPER_PRIMITIVES), 200)) < accuracy(arm)
        tasks = zip(PAPER_PRIMITIVES, right.mean(axis=1), strict=True)
        found = {
            name: {"accuracy": float(share), "chance": 0.1, "questions": 200}
            for name, share in tasks
        }
        units = {
            "unit_right": (right.ravel() / 200).tolist(),
            "unit_questions": [1 / 200] * right.size,
        }
        return {"accuracy_by_task": found, **units}

    return fields


def add_accuracy(id, arms_, baseline="baseline"):
    """Worlds of a claim that arms answer more than another, or than guessing without it."""
    better, alike = (
        deep(same, arms_, baseline, fields=answers(accuracy))
        for accuracy in (lambda arm: 0.5 if arm == baseline else 0.99, lambda arm: 0.5)
    )
    WORLDS[id] = Worlds(better, alike)


add_accuracy("growth_raises_primitives", ("midas", "lidas"))
add_accuracy("lidas_raises_primitives_over_midas", ("lidas",), "midas")
add_accuracy("ln_scaling_trails_growth", ("midas", "lidas"), "ln_scaling")
add_accuracy("growth_raises_primitives_under_ln_scaling", ("ln_scaling_lidas",), "ln_scaling")


def maps_of_growth(side):
    """A finished model grown by LIDAS and MIDAS, without training."""

    def make(generator, reach):
        maker = Maker(generator)
        loss = 2 * side * reach(noise=math.sqrt(2) * NOISE)
        rows = [maker.baseline(), maker.row(0.0, operator="lidas", draw=None, layers=[0, 1, 0, 1])]
        rows.append(maker.row(loss, operator="midas", draw=None, layers=[0, 0, 1, 1]))
        return {"grow_checkpoint": record(rows)}

    return make


WORLDS["lidas_starts_better"] = Worlds(maps_of_growth(1), maps_of_growth(0))

"""Worlds of the claims about sets of layers, predicted weights and the structure of weights."""

import math

from claims.worlds import DEPTH, NOISE, WORLDS, Maker, Worlds, percent, record

from jaxanatomy.claims import manipulation, predictability, structure
from jaxanatomy.forensics.prediction import READINGS, targets
from jaxanatomy.interventions.function_test import prediction_sets
from jaxanatomy.interventions.sets import PAPER, pairs
from jaxanatomy.measures.readings.attention import COMPONENTS, LOCAL, PROPAGATED
from jaxanatomy.measures.readings.temperature import TEMPERATURES
from jaxanatomy.papers import NEAR, paper_table

LAYERS = (3, 5, 6, 12, 14, 17, 19)
STRATEGIES = [
    *((name, None, "full" if name == "low_rank" else None) for name in manipulation.REPLACEMENTS),
    *(("scale", alpha, None) for alpha in manipulation.ALPHAS),
]
GENTLE = ("scale", manipulation.GENTLE, None)


def trials(effects, name, layers=LAYERS):
    """Strategies on a set of layers, `effects(reach)` in nats by strategy, alpha and rank."""

    def make(generator, reach):
        maker = Maker(generator)
        rows = [maker.baseline() | {"strategy": "none"}]
        for (strategy, alpha, rank), effect in effects(reach).items():
            dose = {"strategy": strategy, "alpha": alpha, "rank": rank}
            rows.append(maker.row(effect, set=name, layers=[*layers], **dose))
        return {"manipulation": record(rows)}

    return make


def at(strategies, value, side):
    """Strategies two reaches beyond a threshold in percent, or on it."""
    return lambda reach: {each: percent(value) + 2 * side * reach() for each in strategies}


def add_trials(id, name, strategies, value, side):
    """Worlds of a claim that strategies lie above or below a threshold."""
    WORLDS[id] = Worlds(
        trials(at(strategies, value, side), name), trials(at(strategies, value, 0), name)
    )


def only_gentle(side):
    """Scale 0.9 below what is viable and all others above it, by two reaches or not at all."""
    limit = manipulation.VIABLE_PERCENT
    return lambda reach: at([GENTLE], limit, -side)(reach) | at(STRATEGIES, limit, side)(reach)


for name_ in manipulation.SETS:
    WORLDS[f"only_scaling_viable_{name_}"] = Worlds(
        trials(only_gentle(1), name_), trials(only_gentle(0), name_)
    )
    add_trials(
        f"replacement_destroys_{name_}",
        name_,
        STRATEGIES[: len(manipulation.REPLACEMENTS)],
        manipulation.DESTROYED,
        1,
    )
add_trials("scaling_collapses", "paper_inner", STRATEGIES[-5:], manipulation.COLLAPSED, 1)
add_trials("prune_anti_layers", "14,17", STRATEGIES[:1], 0.0, -1)
WORLDS["gentle_scaling_cost"] = Worlds(
    trials(lambda reach: {GENTLE: percent(33)}, "paper"), trials(at([GENTLE], 19, 0), "paper")
)


def all_pairs(near):
    """Two layers of nine at a time: one pair as bad as is printed, or none near it."""
    ppl = paper_table("table4_ppl")
    printed = {
        strategy: math.log(ppl[row] / ppl["baseline"])
        for strategy, row in manipulation._PAIRS.items()
    }

    def make(generator, reach):
        maker, rows = Maker(generator), []
        for strategy, nats in printed.items():
            rank = "full" if strategy == "low_rank" else None
            for place, each in enumerate(pairs(PAPER)):
                effect = nats if near and not place else nats - math.log(NEAR)
                layers = [int(layer) for layer in each.split(",")]
                labels = dict(strategy=strategy, rank=rank, set=each, layers=layers)
                rows.append(maker.row(effect, **labels))
        return {"manipulation": record([maker.baseline(), *rows])}

    return make


WORLDS["pairs_destroy"] = Worlds(all_pairs(True), all_pairs(False))
VARIANTS = 40


def calibrated(gain):
    """Variants on two texts, those that look better with a curve of losses over temperatures."""

    def make(generator, reach):
        rows, entries = [], []
        for text in ("a", "b"):
            maker = Maker(generator, text)
            base = maker.baseline()
            rows.append(base | {"strategy": "none"})
            rows.append(_curve(base))
            for at_ in range(VARIANTS):
                effect = percent(-0.01) - 2 * reach(VARIANTS) * gain * (at_ == 0)
                row = maker.row(effect) | {"variant": f"v{at_}", "strategy": "zero"}
                rows.append(row)
                if row["nll"] < base["nll"]:
                    rows.append(_curve(row))
                    fits = dict.fromkeys(("temperature", "baseline_temperature"), 1.0)
                    edges = dict.fromkeys(
                        ("temperature_at_edge", "baseline_temperature_at_edge"), False
                    )
                    entries.append({"variant": row["variant"], "text": text} | fits | edges)
        return {"manipulation": record(rows, {"calibration": entries})}

    return make


def _curve(row):
    """Losses over temperatures, least at 1."""
    losses = [
        [nll * (1 + 0.1 * math.log(each) ** 2) for nll in row["unit_nll"]] for each in TEMPERATURES
    ]
    return row | {"kind": "temperature", "temperatures": [*TEMPERATURES], "unit_nll": losses}


WORLDS["improvement_beyond_temperature"] = Worlds(calibrated(1), calibrated(0))
SEEDS = 8


def shaken(whole, excess):
    """Noise in each layer alone and in all: what all do, and how much more than their sum."""

    def make(generator, reach):
        maker = Maker(generator)
        rows = [maker.baseline()]
        small = NOISE / 10
        for seed in range(SEEDS):
            labels = dict(strategy="perturb", alpha=manipulation.EPSILON, seed=seed)
            total = whole(reach) + 0.2 * NOISE * generator.normal()
            alone = (total - excess(reach)) / DEPTH
            rows.append(
                maker.row(total, small, set=f"random_{DEPTH}_s{seed}", count=DEPTH, **labels)
            )
            for layer in range(DEPTH):
                one = dict(set=str(layer), layers=[layer], count=1)
                rows.append(maker.row(alone, small, **one, **labels))
        return {"manipulation": record(rows)}

    return make


_VIABLE = percent(manipulation.VIABLE_PERCENT)
WORLDS["errors_compound"] = Worlds(
    shaken(lambda reach: _VIABLE + 2 * reach(), lambda reach: 4 * reach()),
    shaken(lambda reach: _VIABLE, lambda reach: 0.0),
)


def attention(share):
    """The share of queries that look elsewhere, by component, layer and seed."""

    def make(generator, reach):
        rows = []
        for component in COMPONENTS:
            for spread in (LOCAL, PROPAGATED):
                for layer in range(DEPTH):
                    for seed in range(SEEDS):
                        moved = share(component, spread, layer) + 0.02 * generator.normal()
                        labels = dict(component=component, spread=spread, layer=layer, seed=seed)
                        fields = dict(kind="attention", alpha=manipulation.EPSILON, text="a")
                        rows.append({"hash": "", "argmax_changed": moved, **labels, **fields})
        return {"manipulation": record(rows)}

    return make


WORLDS["attention_redirected"] = Worlds(
    attention(lambda component, spread, layer: 0.8 if layer == 7 else 0.1),
    attention(lambda component, spread, layer: manipulation.REDIRECTED),
)


def means(metric, shift):
    """A metric of every component: as its null draws it, or beyond them."""

    def make(generator, reach):
        rows, spread = [], 0.02
        for component in structure._TABLE3:
            value = -0.5 + shift + spread * generator.normal()
            for null in structure.NULLS:
                z = None if null == "closed_form" else (value + 0.5) / spread
                fields = dict(metric=metric, null=null, null_value=-0.5, z=z, value=value)
                rows.append({"hash": "", "component": component, "layer": None, **fields})
        return {"structure": record(rows)}

    return make


def component_means(mean, spread):
    """The delta correlation of every component."""

    def make(generator, reach):
        fields = dict(metric="delta_correlation", null="closed_form", null_value=-0.5, layer=None)
        values = {name: mean + spread * generator.normal() for name in structure._TABLE3}
        rows = [dict(component=name, value=value, **fields) for name, value in values.items()]
        return {"structure": record([{"hash": "", **row} for row in rows])}

    return make


WORLDS["delta_correlation"] = Worlds(
    component_means(-0.5, 0.002), component_means(-0.45, 0.02), is_false=True
)
WORLDS["layers_undo_each_other"] = Worlds(
    means("delta_correlation", -0.3), means("delta_correlation", 0.0), is_false=True
)
WORLDS["standing_wave"] = Worlds(
    means("lag2_delta_correlation", 0.3),
    means("lag2_delta_correlation", 0.0),
    is_false=True,
)


def scores(r2, null=-0.3, spread=0.02):
    """R2 of all readings and components: `r2(component)`, beside independent Gaussians."""

    def rows(generator):
        for reading in READINGS:
            for component in predictability._TABLE2:
                value = r2(component) + spread * generator.normal()
                z = (value - null) / spread
                fields = dict(r2=value, null_r2=null, z=z, target=None)
                yield {"hash": "", "component": component, "reading": reading, **fields}

    return lambda generator, reach: {"predictability": record(list(rows(generator)))}


UNPREDICTED = scores(lambda component: -0.3)
WORLDS["r2_high"] = Worlds(scores(lambda component: 0.9), UNPREDICTED, is_false=True)
WORLDS["r2_reproduced"] = Worlds(
    scores(lambda component: predictability._TABLE2[component][0]), UNPREDICTED, is_false=True
)
WORLDS["later_layers_predictable"] = Worlds(
    scores(lambda component: 0.5), scores(lambda component: 0.0, null=0.0)
)


def predicted(sets, value, side, looks=1, zero=None, noise=NOISE, r2=None):
    """Sets of layers with predicted weights, at a threshold or beyond; deleted as `zero` says."""

    def make(generator, reach):
        maker = Maker(generator)
        rows = [maker.baseline() | {"reading": "function"}]
        effect = percent(value) + 2 * side * reach(looks, noise=noise)
        for layers in sets:
            labels = dict(layers=[*layers], reading="function")
            rows.append(maker.row(effect, strategy="predicted", **labels))
            if zero is not None:
                rows.append(maker.row(zero, strategy="zero", **labels))
        if r2:
            rows += r2(generator, reach)["predictability"].rows
        return {"predictability": record(rows)}

    return make


SINGLE = [(layer,) for layer in targets(DEPTH)]
NINE = [
    where.layers
    for where in prediction_sets(DEPTH, (9,))
    if len(where.layers) >= predictability.NINE
]
MOST = len(SINGLE) - len(SINGLE) // 2
WORLDS["one_predicted_layer"] = Worlds(
    predicted(SINGLE, predictability.TOLERABLE, -1, MOST),
    predicted(SINGLE, predictability.TOLERABLE, 0),
)
WORLDS["predicted_beats_deleted"] = Worlds(
    predicted(SINGLE, 0.0, -1, MOST, zero=0.0, noise=math.sqrt(2) * NOISE),
    predicted(SINGLE, 0.0, 0, zero=0.0),
)
_FAR = predictability._PERCENT["predicted_9_at_least"]
WORLDS["nine_predicted_layers"] = Worlds(predicted(NINE, _FAR, 1), predicted(NINE, _FAR, 0))
WORLDS["r2_perplexity_paradox"] = Worlds(
    predicted(NINE, predictability.CRITICAL, 1, r2=scores(lambda component: 0.9)),
    predicted(NINE, predictability.CRITICAL, 0, r2=scores(lambda component: 0.9)),
)

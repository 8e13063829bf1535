"""Worlds of the claims about the importance map: effects by layer, on one text or two."""

import math

import numpy as np
from claims.worlds import (
    DEPTH,
    INNER,
    NOISE,
    TOKENS,
    UNITS,
    WORLDS,
    Make,
    Maker,
    Worlds,
    percent,
    record,
)

from jaxanatomy.claims import importance
from jaxanatomy.papers import paper_table, table1


def importance_map(effects, interventions=("neighbour_mean",), texts=1, draws=1, **labels) -> Make:
    """A map in which `effects(reach)` gives nats by layer; other layers are not measured."""

    def make(generator, reach):
        rows = []
        for text in range(texts):
            maker = Maker(generator, f"text {text}")
            rows.append(maker.baseline())
            for name in interventions:
                for layer, effect in effects(reach).items():
                    fields = dict(intervention=name, scope="layer", positions="all", layer=layer)
                    rows += (
                        maker.drawn(effect, draws, **(fields | labels))
                        if draws > 1
                        else [maker.row(effect, **(fields | labels))]
                    )
        return {"importance": record(rows)}

    return make


def layers_at(named, value, side=0, looks=1, **reach_of):
    """Effects: the named layers at a threshold in percent, or two reaches beyond it."""
    return lambda reach: {
        layer: percent(value) + 2 * side * reach(looks, **reach_of) for layer in named
    }


def add_layers(id, named, value, side, **map_of):
    """Worlds of a claim that named layers lie above or below a threshold."""
    draws = {"draws": map_of["draws"]} if "draws" in map_of else {}
    WORLDS[id] = Worlds(
        importance_map(layers_at(named, value, side, **draws), **map_of),
        importance_map(layers_at(named, value), **map_of),
    )


TABLE1 = paper_table("table1")
add_layers("critical_layers", TABLE1["categories"]["critical"], importance.CRITICAL, 1)
add_layers("critical_core", TABLE1["critical_core"], importance.CRITICAL, 1)
add_layers("redundant_layers", (3, 5, 6, 12, 14, 17, 19), importance.REDUNDANT, -1)
add_layers("anti_layers_named", TABLE1["anti_layers"], 0.0, -1)
add_layers(
    "random_weights_better",
    TABLE1["anti_layers"],
    0.0,
    -1,
    interventions=("matched_noise",),
    draws=4,
)
add_layers(
    "boundary_layers_redundant",
    (0, DEPTH - 1),
    importance.REDUNDANT,
    -1,
    interventions=("neighbour_mean", "zero"),
)


def nothing(reach):
    """No layer does anything."""
    return dict.fromkeys(INNER, 0.0)


def in_order(values):
    """Layers in the order of some values, each told from the next."""
    order = np.argsort(np.argsort(values))
    return lambda reach: {
        layer: 2 * reach() * float(place) for layer, place in zip(INNER, order, strict=True)
    }


def times(factor):
    """Layer 11 at so many times the others, which are told from 0."""

    def effects(reach):
        least = percent(100 * math.expm1(3 * reach(len(INNER))))
        # Two reaches beyond what the upper end of the others, one above theirs, asks for.
        bound = math.log1p(factor * math.expm1(least + 2 * reach(len(INNER))))
        return dict.fromkeys(INNER, least) | {11: bound + 2 * reach(len(INNER))}

    return effects


for id_, factor in (("non_equivalence", importance.RADICAL), ("importance_range", 1e7)):
    WORLDS[id_] = Worlds(importance_map(times(factor)), importance_map(nothing), is_false=True)
WORLDS["table1_ranking"] = Worlds(importance_map(in_order(table1()[1:-1])), importance_map(nothing))
WORLDS["anti_layers_exist"] = Worlds(
    importance_map(lambda reach: nothing(reach) | {20: -2 * reach(len(INNER))}, texts=2),
    importance_map(nothing, texts=2),
)
WORLDS["most_important_layer"] = Worlds(
    importance_map(lambda reach: nothing(reach) | {11: 2 * reach(noise=math.sqrt(2) * NOISE)}),
    importance_map(nothing),
)


def two_maps(effects, others, second, **labels):
    """Two interventions on one baseline."""

    def make(generator, reach):
        maker = Maker(generator)
        rows = [maker.baseline()]
        for name, found in (("neighbour_mean", effects(reach)), (second, others(reach))):
            for layer, effect in found.items():
                more = labels if name == second or labels.get("both") else {}
                fields = dict(intervention=name, scope="layer", positions="all", layer=layer)
                rows.append(maker.row(effect, **(fields | more)))
        return {"importance": record(rows)}

    return make


ORDER = in_order(table1()[1:-1])
WORLDS["map_is_importance"] = Worlds(
    two_maps(ORDER, ORDER, "zero"), two_maps(nothing, nothing, "zero")
)
HALF = len(INNER) // 2 + 1
WORLDS["averaging_cancels"] = Worlds(
    two_maps(
        nothing,
        lambda reach: dict.fromkeys(
            INNER, -2 * reach(len(INNER) - HALF + 1, noise=math.sqrt(2) * NOISE)
        ),
        "rescaled_mean",
    ),
    two_maps(nothing, nothing, "rescaled_mean"),
)


def positions(beyond):
    """Layer 11 harms most; at all tokens but the first it is on, or beyond, the threshold."""

    def make(generator, reach):
        maker = Maker(generator)
        fields = dict(intervention="neighbour_mean", scope="layer")
        limit = percent(importance.CRITICAL)
        rows = [maker.baseline()]
        for layer in INNER:
            here = limit + 2 * beyond * reach(len(INNER))
            whole = maker.row(here, positions="all", layer=layer, **fields)
            # At all tokens but the first: the same documents, nearly the same loss.
            near_U = np.array(whole["unit_nll"]) / TOKENS
            near_U = near_U + 0.1 * NOISE * generator.normal(size=UNITS)
            part = whole | maker.of(near_U) | {"positions": "others", "variant": f"others/{layer}"}
            rows += [whole, part]
        return {"importance": record(rows)}

    return make


WORLDS["most_important_layer_reasons"] = Worlds(positions(1), positions(0))

"""Rows of the roles experiment: features of layers, roles and how stable they are, changes."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.forensics.layer_features import Feature, fingerprints, layer_features
from jaxanatomy.forensics.roles import (
    ROLES,
    TIE,
    assign,
    coupling,
    defined,
    peer_ratio,
    role_scores,
)
from jaxanatomy.measures.losses import finite
from jaxanatomy.records import Row

COUPLING = "coupling"
PEERS = ("spectral_norm", "frobenius_norm", "largest_weight")  # shown against the peer median
CHANGES = {
    "relative_change": "norm of the difference / norm of the model's",
    "cosine": "cosine of the two",
}
DRAWS = 1000
UNDEFINED = "no value here: weights are 0 or do not vary, or no token or gradient has counted yet"


def name_of(component: str, metric: str) -> str:
    """A feature as roles are routed by it: "o_proj.effective_rank", "head_spread"."""
    return f"{component}.{metric}" if component else metric


def feature_rows(layer: int, features: Mapping[Feature, float]) -> list[Row]:
    """Rows of kind "feature" of one layer's weights; `value` is None where it is undefined."""
    return [
        {"kind": "feature", "layer": layer, "component": component, "metric": metric}
        | {"value": finite(value)}
        | ({} if np.isfinite(value) else {"reason": UNDEFINED})
        for (component, metric), value in features.items()
    ]


def weight_rows(
    blocks: Iterable[tree.BlockParams], head_dim: int, spectra: Collection[str] = tree.MATRICES
) -> Iterator[tuple[list[Row], np.ndarray | None]]:
    """The rows of each layer as it comes, then those of the coupling of heads with its matrix.

    Args:
      blocks: The layers, of which one is held at a time; of each its fingerprints stay.
      head_dim: Width of a head.
      spectra: As of `layer_features`.
    """
    prints = []
    for layer, block in enumerate(blocks):
        prints.append(fingerprints(block, head_dim))
        yield feature_rows(layer, layer_features(block, head_dim, spectra)), None
    coupling_LL = coupling(prints)
    mean_L = np.nanmean(coupling_LL, axis=1)
    rows = [
        row
        for layer, each in enumerate(mean_L)
        for row in feature_rows(layer, {("", COUPLING): each})
    ]
    yield rows, coupling_LL


def change_rows(
    blocks: Iterable[tree.BlockParams], others: Iterable[tree.BlockParams]
) -> Iterator[list[Row]]:
    """Rows of kind "change" of each layer of another checkpoint: how far each tensor has moved.

    Metrics are those of `CHANGES`; a tensor of zeros has no relative change and no cosine.

    Args:
      blocks: The layers of the model.
      others: Those of the other checkpoint, of the same shapes.
    """
    for layer, (block, other) in enumerate(zip(blocks, others, strict=True)):
        its, rows = tree.components(other), []
        for component, array in tree.components(block).items():
            own, new = (np.asarray(each, np.float64).ravel() for each in (array, its[component]))
            size, new_size = np.sqrt(own @ own), np.sqrt(new @ new)
            values = {
                "relative_change": np.linalg.norm(new - own) / size if size else np.nan,
                "cosine": own @ new / (size * new_size) if size * new_size else np.nan,
            }
            found = feature_rows(layer, {(component, name): each for name, each in values.items()})
            rows += [row | {"kind": "change"} for row in found]
        yield rows


def of_kind(rows: Iterable[Row], kind: str, model: str) -> list[Row]:
    """The rows of one kind and model."""
    return [row for row in rows if (row.get("kind"), row.get("model")) == (kind, model)]


def features(rows: Iterable[Row], model: str) -> dict[str, np.ndarray]:
    """Every feature of a model over its layers, by name, float64 [L]; NaN where undefined."""
    found: dict[str, dict[int, float]] = {}
    for row in of_kind(rows, "feature", model):
        value = np.nan if row["value"] is None else row["value"]
        found.setdefault(name_of(row["component"], row["metric"]), {})[row["layer"]] = value
    return {
        name: np.array([own[layer] for layer in sorted(own)], np.float64)
        for name, own in found.items()
    }


def with_peers(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The features, and norms and largest weights over the median of the same matrix elsewhere."""
    more = {
        f"{name}_to_peers": peer_ratio(value_L)
        for name, value_L in found.items()
        if name.partition(".")[2] in PEERS
    }
    return {**found, **more}


def role_rows(rows: Sequence[Row], model: str, draws: int, seed: int) -> list[Row]:
    """Rows of kind "role": the role of each layer, its scores, and how stable it is.

    Fields: `role` ("tie" where none wins by more than 0.05), `margin`, the score of each role under
    its name; `stability`, the share of draws of the probe text (bootstrap over its documents) in
    which the role is the same, None without a probe; `without`, the features without any one of
    which the role is another.

    Args:
      rows: Of the run.
      model: Which.
      draws: Of the probe text.
      seed: Of these draws.
    """
    known = defined(features(rows, model))
    score_RL = role_scores(known)
    role_L, margin_L = assign(score_RL)
    stable_L = _stability(rows, model, known, role_L, draws, seed)
    others = {
        name: assign(role_scores({k: v for k, v in known.items() if k != name}))[0]
        for name in known
    }
    return [
        {
            "kind": "role",
            "model": model,
            "layer": layer,
            "role": name_of_role(role),
            "margin": float(margin_L[layer]),
            **dict(zip(ROLES, score_RL[:, layer].tolist(), strict=True)),
            "stability": None if stable_L is None else float(stable_L[layer]),
            "without": [name for name, other_L in others.items() if other_L[layer] != role],
        }
        for layer, role in enumerate(role_L.tolist())
    ]


def name_of_role(index: int) -> str:
    """The name of a role from `forensics.roles.assign`."""
    return TIE if index < 0 else ROLES[index]


def role_distance(
    own: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]
) -> float:
    """How far the roles of two models are apart: root mean square over role scores and layers.

    Args:
      own: The scores of the layers, by role.
      other: Those of another model.
    """
    own_RL, other_RL = (np.array([scores[role] for role in ROLES]) for scores in (own, other))
    return float(np.sqrt(np.mean((own_RL - other_RL) ** 2)))


def _stability(
    rows: Sequence[Row],
    model: str,
    known: Mapping[str, np.ndarray],
    role_L: np.ndarray,
    draws: int,
    seed: int,
) -> np.ndarray | None:
    """The share of draws with the same role [L]; None where no feature is of a text."""
    units: dict[str, list[Row]] = {}
    for row in of_kind(rows, "feature", model):
        if "unit_sums" in row and row["metric"] in known:
            units.setdefault(row["metric"], []).append(row)
    if not units:
        return None
    count = len(next(iter(units.values()))[0]["unit_tokens"])
    generator = np.random.default_rng([seed, count])
    times_SU = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    drawn = dict(known)
    for name, own in units.items():
        own = sorted(own, key=lambda row: row["layer"])
        sums_UL = np.array([row["unit_sums"] for row in own]).T
        tokens_S1 = (times_SU @ np.array(own[0]["unit_tokens"]))[:, None]
        # A draw without a token that counts (of copies) says nothing: the text's own value stays.
        value_SL = np.divide(
            times_SU @ sums_UL,
            tokens_S1,
            out=np.tile(known[name], (draws, 1)),
            where=tokens_S1 > 0,
        )
        drawn[name] = value_SL
    return (assign(role_scores(drawn))[0] == role_L).mean(axis=0)


def summarise(rows: Sequence[Row], models: Sequence[str], null: str | None) -> dict[str, Any]:
    """By model the roles and how stable they are, and of other checkpoints what changed.

    Args:
      rows: Of the run.
      models: The model, then others that are compared with it.
      null: The untrained model, or None.

    Returns:
      `models`, by id: `roles` (one for each layer), `counts`, `stability` (mean over layers, or
      None), `fragile` (layers whose role hangs on a single feature), `lowest_rank` (layer and
      effective rank of o_proj), `highest_cv`; of others `moved` (layers of another role than in the
      model), `largest_change` (layer, component, relative change) and `role_distance` from the
      model, None where other features have given the roles. `null` is the entry of the untrained
      model, by the same rule, with its `role_distance`: that of roles that have nothing in common.
    """
    first, *others = models
    found = {model: _digest(rows, model) for model in models}
    for model in others:
        pairs = enumerate(zip(found[first]["roles"], found[model]["roles"], strict=True))
        found[model]["moved"] = [layer for layer, (own, its) in pairs if own != its]
        found[model]["largest_change"] = _largest_change(rows, model)
        found[model]["role_distance"] = _distance(rows, first, model)
    untrained = null and {**_digest(rows, null), "role_distance": _distance(rows, first, null)}
    return {"models": found, "null": untrained}


def _distance(rows: Sequence[Row], model: str, other: str) -> float | None:
    """`role_distance` of two models; None where their routed features are not the same."""
    names, scores = [], []
    for each in (model, other):
        own = sorted(of_kind(rows, "role", each), key=lambda row: row["layer"])
        scores.append({role: [row[role] for row in own] for role in ROLES})
        names.append(defined(features(rows, each)).keys())
    return role_distance(*scores) if names[0] == names[1] else None


def _digest(rows: Sequence[Row], model: str) -> dict[str, Any]:
    own = sorted(of_kind(rows, "role", model), key=lambda row: row["layer"])
    found, roles = features(rows, model), [row["role"] for row in own]
    stable = [row["stability"] for row in own if row["stability"] is not None]
    return {
        "roles": roles,
        "counts": {role: Counter(roles)[role] for role in (*ROLES, TIE)},
        "stability": float(np.mean(stable)) if stable else None,
        "fragile": [row["layer"] for row in own if row["without"]],
        "lowest_rank": _extreme(found["o_proj.effective_rank"], np.nanargmin),
        "highest_cv": _extreme(found["co_magnitude_cv"], np.nanargmax),
    }


def _extreme(value_L: np.ndarray, of: Any) -> dict[str, Any] | None:
    if np.isnan(value_L).all():
        return None
    layer = int(of(value_L))
    return {"layer": layer, "value": float(value_L[layer])}


def _largest_change(rows: Sequence[Row], model: str) -> dict[str, Any] | None:
    own = [
        row
        for row in of_kind(rows, "change", model)
        if row["metric"] == "relative_change" and row["value"] is not None
    ]
    if not own:
        return None
    row = max(own, key=lambda row: row["value"])
    return {name: row[name] for name in ("layer", "component", "value")}

"""Layer roles: hub, damper, passthrough, specialist, from features of all layers (LR section 4).

Each feature is z-scored over the layers and routed to the roles that it is evidence for; a role's
score is the sigmoid of the mean of its z-scores, and the highest score is the layer's role if it
wins by more than 0.05, else they are tied. LR calls the routing matrix an implementation detail:
`ROUTING` is ours, read off its sections 3 and 4 (`docs/roles.md` says which sentence each is from).

Z-scores know no scale. Layers that differ by noise alone are spread over the roles just as others
are, so a role means nothing beside the roles of the untrained model, its stability, and what it
goes with.

Axes: R roles, K features, L layers.
"""

from collections.abc import Mapping

import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.components import MIN_LAYERS
from jaxanatomy.forensics.gram import ROUNDING

MARGIN = 0.05
TIE = "tie"
# +1: high values are evidence for the role; -1: low ones. Features are written COMPONENT.METRIC.
# Those of an optimiser's state, and of a probe text, are left out where there is none.
ROUTING: dict[str, dict[str, int]] = {
    "hub": {
        "o_proj.effective_rank": +1,
        "attention_imbalance": -1,
        "head_spread": -1,
        "coupling": +1,
        "sink_mass": +1,
        "copy_density": +1,
    },
    "damper": {
        "down_over_gate_up": +1,
        "down_proj.effective_rank": -1,
        "mlp_norm.damped_share": +1,
        "down_proj.momentum_cosine": -1,
        "down_proj.stuck_share": +1,
    },
    "passthrough": {
        "co_magnitude_cv": -1,
        "saturated_share": -1,
        "write_total": -1,
        "activation_alignment": +1,
    },
    "specialist": {
        "co_magnitude_cv": +1,
        "saturated_share": +1,
        "gate_proj.largest_weight": +1,
        "head_diversity": +1,
        "ffn_clusters": +1,
        "ffn_cluster_entropy": +1,
        "mlp_norm.gamma_concentration": +1,
    },
}
ROLES = tuple(ROUTING)
ROUTED = tuple(dict.fromkeys(name for features in ROUTING.values() for name in features))


def require_layers(config: ModelConfig) -> None:
    """Raises InputError for a model of fewer than four layers, of which no layer stands out."""
    if config.num_layers < MIN_LAYERS:
        raise InputError(
            f"roles need at least {MIN_LAYERS} layers to compare; this model has "
            f"{config.num_layers}; take a deeper model"
        )


def z_scores(value_L: np.ndarray) -> np.ndarray:
    """How many standard deviations (population) each layer lies from the mean [..., L].

    0 where all layers are equal to rounding.
    """
    value_L = np.asarray(value_L, np.float64)
    mean = value_L.mean(axis=-1, keepdims=True)
    spread = value_L.std(axis=-1, keepdims=True)
    size = np.sqrt((value_L**2).mean(axis=-1, keepdims=True))
    varies = spread > np.sqrt(ROUNDING) * size
    return np.where(varies, (value_L - mean) / np.where(varies, spread, 1.0), 0.0)


def peer_ratio(value_L: np.ndarray) -> np.ndarray:
    """Each layer's value over the median of all others' [L]; NaN where that is 0."""
    others_LL = np.stack([np.delete(value_L, layer) for layer in range(len(value_L))])
    peer_L = np.median(others_LL, axis=1)
    return np.divide(value_L, peer_L, out=np.full(len(value_L), np.nan), where=peer_L > 0)


def coupling(prints: list[np.ndarray]) -> np.ndarray:
    """How well the heads of each layer find their like in each other layer [L, L].

    Entry (l, m): the mean over the heads of l of the highest correlation of its fingerprint with
    that of a head of m. NaN on the diagonal. Not symmetric.

    Args:
      prints: Of each layer (`layer_features.fingerprints`).
    """
    found_LL = np.full((len(prints), len(prints)), np.nan)
    for own, own_HK in enumerate(prints):
        for other, other_HK in enumerate(prints):
            if own != other:
                found_LL[own, other] = (own_HK @ other_HK.T).max(axis=1).mean()
    return found_LL


def defined(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The routed features that every layer has, in the order of `ROUTED`."""
    return {
        name: features[name]
        for name in ROUTED
        if name in features and np.isfinite(features[name]).all()
    }


def role_scores(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """The score of each role, 0 to 1 [..., R, L].

    Args:
      features: Values [..., L] by name; those that are not in `ROUTED` do not count, and those that
        are and are absent are left out of the mean. A role of which all are has the score 1/2.
    """
    z = {name: z_scores(value_L) for name, value_L in features.items()}
    found = []
    for routed in ROUTING.values():
        evidence = [sign * z[name] for name, sign in routed.items() if name in z]
        total = sum(evidence) if evidence else np.zeros_like(next(iter(z.values())))
        found.append(1 / (1 + np.exp(-total / max(len(evidence), 1))))
    return np.stack(np.broadcast_arrays(*found), axis=-2)


def assign(score_RL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The role of each layer, and by how much it wins.

    Args:
      score_RL: Of `role_scores`, [..., R, L].

    Returns:
      The index of the role, -1 for a tie, int [..., L]; and the margin over the next [..., L].
    """
    ordered_RL = np.sort(score_RL, axis=-2)
    margin_L = ordered_RL[..., -1, :] - ordered_RL[..., -2, :]
    return np.where(margin_L > MARGIN, score_RL.argmax(axis=-2), -1), margin_L

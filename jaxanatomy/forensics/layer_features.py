"""What the weights of a layer say of it, each layer by itself (LR sections 3, 4 and 8).

All of it is read off one layer, so that a model of any size goes by layer by layer; what compares
layers (`forensics.roles`) needs the few numbers that are left of each. Sums are in float64. LR
names its features but not their formulas; those that it leaves open are decided here:

- A head's magnitude is the norm of its slices of q_proj and o_proj together. Its fingerprint is how
  the norms of these two slices spread over the coordinates of the residual stream, which all layers
  share and no rotation inside the head changes.
- A scale is damped where it is below half of the median of its norm's scales, in magnitude.
- Neurons are clustered by six numbers that depend neither on their order nor on a rotation of the
  stream: the logarithms of the three norms (gate, up, down), and their three cosines; by k-means
  begun from equal groups along the first principal axis, so that nothing is drawn.

Axes: D residual width, F neurons, H query heads, d width of a head.
"""

from collections.abc import Collection, Mapping

import numpy as np
import threadpoolctl

from jaxanatomy import tree
from jaxanatomy.forensics.spectra import power_law, singular_values
from jaxanatomy.forensics.structure import effective_rank

MATRIX_FEATURES = {
    "effective_rank": "exp(entropy) of the singular values' shares of their sum",
    "spectral_norm": "largest singular value",
    "frobenius_norm": "root of the sum of squares",
    "largest_weight": "largest magnitude of an entry",
    "alpha": "exponent of the power law in the tail of the spectrum",
    "alpha_error": "standard error of alpha, (alpha - 1) / sqrt(n)",
    "alpha_span": "largest less least alpha with half to twice as many eigenvalues in the tail",
    "alpha_tail": "n, eigenvalues in the tail",
    "alpha_distance": "Kolmogorov and Smirnov's distance of that law",
}
LAYER_FEATURES = {
    "co_magnitude_cv": "|gate_p| |up_p| over neurons p: standard deviation / mean",
    "saturated": "neurons whose product is above mean + 3 standard deviations",
    "saturated_share": "share of the neurons that are",
    "saturated_robust": "the same above median + 3 x 1.4826 median absolute deviations",
    "peak_over_mean": "largest product / mean",
    "peak_robust": "(largest product - median) / (1.4826 median absolute deviations)",
    "ffn_clusters": "of eight clusters of neurons those that hold at least 1 %",
    "ffn_cluster_entropy": "entropy of the clusters' shares of neurons, nats",
    "attention_share_energy": "attention's share of the squared norms of the seven matrices",
    "attention_share_norm": "attention's share of their norms",
    "attention_share_parameters": "attention's share of their entries: the null of both",
    "attention_imbalance": "|share of the squared norms - 1/2|",
    "down_over_gate_up": "norm of down / mean of the norms of gate and up",
    "head_spread": "magnitudes of heads: standard deviation / mean",
    "head_diversity": "1 - mean correlation of two heads' fingerprints",
}
NORM_FEATURES = {
    "gamma_mean": "mean magnitude of the norm's scales",
    "gamma_concentration": "their standard deviation / mean magnitude",
    "damped_share": "share of them below half of their median magnitude",
}
CLUSTERS, CLUSTER_SHARE = 8, 0.01
SATURATED = 3.0  # deviations above the centre
NORMAL_MAD = 1.4826  # standard deviations of a normal law in one median absolute deviation
DAMPED = 0.5
_ROUNDS = 100

Feature = tuple[str, str]  # component (empty: of the whole layer), metric


def layer_features(
    block: tree.BlockParams, head_dim: int, spectra: Collection[str] = tree.MATRICES
) -> dict[Feature, float]:
    """All features of a layer's weights.

    Args:
      block: The layer.
      head_dim: d.
      spectra: The matrices whose singular values are read, which takes most of the time; of others
        there are norm and largest weight.

    Returns:
      By component (a matrix, a norm, "") and metric; NaN where one is undefined, such as the rank
      of a matrix of zeros.
    """
    # A second BLAS thread makes eigenvalues of matrices of this size three times as dear.
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        found = {
            (name, metric): value
            for name in tree.MATRICES
            for metric, value in (matrix_features if name in spectra else size_features)(
                tree.get(block, name)
            ).items()
        }
    for name in tree.NORMS:
        scales = norm_features(tree.get(block, name))
        found |= {(name, metric): value for metric, value in scales.items()}
    whole = (
        neuron_features(block)
        | _balance({name: found[name, "frobenius_norm"] for name in tree.MATRICES}, block)
        | head_features(block, head_dim)
    )
    return found | {("", metric): value for metric, value in whole.items()}


def matrix_features(kernel: tree.Array) -> dict[str, float]:
    """Those of `MATRIX_FEATURES`."""
    sigma_R = singular_values(kernel)
    tail = power_law(sigma_R**2)
    return {
        **size_features(kernel),
        "effective_rank": float(effective_rank(sigma_R / sigma_R.sum())) if sigma_R[0] else np.nan,
        "spectral_norm": float(sigma_R[0]),
        "alpha": tail.alpha,
        "alpha_error": tail.error,
        "alpha_span": tail.span,
        "alpha_tail": tail.tail,
        "alpha_distance": tail.distance,
    }


def size_features(kernel: tree.Array) -> dict[str, float]:
    """Those of `MATRIX_FEATURES` that need no singular values."""
    norm, largest = _norms(kernel, (0, 1)), np.abs(kernel).max()
    return {"frobenius_norm": float(norm), "largest_weight": float(largest)}


def norm_features(scale_D: tree.Array) -> dict[str, float]:
    """Those of `NORM_FEATURES`; the mean of magnitudes, since that of the scales may be near 0."""
    scale_D = np.asarray(scale_D, np.float64)
    size_D = np.abs(scale_D)
    return {
        "gamma_mean": float(size_D.mean()),
        "gamma_concentration": _ratio(scale_D.std(), size_D.mean()),
        "damped_share": float((size_D < DAMPED * np.median(size_D)).mean()),
    }


def co_magnitude(block: tree.BlockParams) -> np.ndarray:
    """|gate_p| |up_p| of each neuron p, float64 [F] (LR section 4)."""
    return _norms(tree.get(block, "gate_proj"), 0) * _norms(tree.get(block, "up_proj"), 0)


def saturated_neurons(size_F: np.ndarray) -> np.ndarray:
    """The neurons whose product is above mean + 3 deviations, int [S] (LR section 4)."""
    return np.flatnonzero(size_F > size_F.mean() + SATURATED * size_F.std())


def neuron_features(block: tree.BlockParams) -> dict[str, float]:
    """Those about neurons.

    One giant neuron inflates the standard deviation, so that the count above mean + 3 deviations is
    lowest exactly where one neuron is 50 times the mean: the robust count stands beside it.
    """
    size_F = co_magnitude(block)
    mean, std, median = size_F.mean(), size_F.std(), np.median(size_F)
    deviation = NORMAL_MAD * np.median(np.abs(size_F - median))
    saturated = len(saturated_neurons(size_F))
    share_C = np.bincount(cluster_neurons(block)) / len(size_F)
    return {
        "co_magnitude_cv": _ratio(std, mean),
        "saturated": saturated,
        "saturated_share": saturated / len(size_F),
        "saturated_robust": int((size_F > median + SATURATED * deviation).sum()),
        "peak_over_mean": _ratio(size_F.max(), mean),
        "peak_robust": _ratio(size_F.max() - median, deviation),
        "ffn_clusters": int((share_C >= CLUSTER_SHARE).sum()),
        "ffn_cluster_entropy": float(np.log(effective_rank(share_C))),
    }


def cluster_neurons(block: tree.BlockParams) -> np.ndarray:
    """The cluster of each neuron, int [F], numbered from 0; see the head of this file.

    Nothing is drawn, and another order of the neurons gives the same clusters.
    """
    columns = [
        tree.get(block, "gate_proj"),
        tree.get(block, "up_proj"),
        tree.get(block, "down_proj").T,
    ]
    norm_3F = np.stack([_norms(each, 0) for each in columns])
    inner_3F = [
        np.einsum("df,df->f", columns[a], columns[b], dtype=np.float64)
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    pair_3F = norm_3F[[0, 0, 1]] * norm_3F[[1, 2, 2]]
    cosine_3F = np.divide(inner_3F, pair_3F, out=np.zeros_like(pair_3F), where=pair_3F > 0)
    size_3F = np.log(np.maximum(norm_3F, 1e-12 * max(norm_3F.max(), 1e-300)))
    x_FK = np.concatenate([size_3F, cosine_3F]).T
    spread_K = x_FK.std(axis=0)
    x_FK = (x_FK - x_FK.mean(axis=0)) / np.where(spread_K > 0, spread_K, 1.0)
    axis_K = np.linalg.eigh(x_FK.T @ x_FK)[1][:, -1]
    axis_K *= np.sign(axis_K[np.abs(axis_K).argmax()])  # which of the two LAPACK leaves open
    rank_F = np.argsort(np.argsort(x_FK @ axis_K, kind="stable"), kind="stable")
    label_F = rank_F * CLUSTERS // len(x_FK)
    for _ in range(_ROUNDS):
        centre_CK = np.stack([x_FK[label_F == c].mean(axis=0) for c in np.unique(label_F)])
        distance_FC = ((x_FK[:, None] - centre_CK[None]) ** 2).sum(axis=-1)
        nearest_F = distance_FC.argmin(axis=1)
        if np.array_equal(nearest_F, label_F):
            break
        label_F = nearest_F
    return np.unique(label_F, return_inverse=True)[1]


def head_features(block: tree.BlockParams, head_dim: int) -> dict[str, float]:
    """Those about query heads; diversity is undefined (NaN) for one head."""
    read_HdD, written_HdD = head_slices(block, head_dim)
    square_H = (_norms(read_HdD, (1, 2)) ** 2) + _norms(written_HdD, (1, 2)) ** 2
    size_H = np.sqrt(square_H)
    print_HK = fingerprints(block, head_dim)
    others = ~np.eye(len(print_HK), dtype=bool)
    alike = (print_HK @ print_HK.T)[others]
    return {
        "head_spread": _ratio(size_H.std(), size_H.mean()),
        "head_diversity": float(1 - alike.mean()) if len(alike) else np.nan,
    }


def head_slices(block: tree.BlockParams, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Each query head's slices of q_proj, transposed, and of o_proj: [H, d, D] both."""
    q_DE, o_ED = (np.asarray(tree.get(block, name)) for name in ("q_proj", "o_proj"))
    return tuple(each.reshape(-1, head_dim, each.shape[-1]) for each in (q_DE.T, o_ED))


def fingerprints(block: tree.BlockParams, head_dim: int) -> np.ndarray:
    """Where each query head reads and writes, float64 [H, 2 D]; products are correlations.

    The norms of its slices of q_proj and of o_proj at each coordinate of the residual stream, each
    centred and of norm 1 / sqrt(2).
    """
    profile_2HD = np.stack([_norms(each, 1) for each in head_slices(block, head_dim)])
    profile_2HD = profile_2HD - profile_2HD.mean(axis=-1, keepdims=True)
    norm_2H1 = np.linalg.norm(profile_2HD, axis=-1, keepdims=True)
    profile_2HD = profile_2HD / np.where(norm_2H1 > 0, norm_2H1, 1.0) / np.sqrt(2)
    return np.concatenate(list(profile_2HD), axis=-1)


def _balance(norms: Mapping[str, float], block: tree.BlockParams) -> dict[str, float]:
    """Those about attention against the FFN, and down against gate and up."""

    def share(of: Mapping[str, float]) -> float:
        return _ratio(sum(of[name] for name in tree.ATTENTION), sum(of.values()))

    energy = share({name: norm**2 for name, norm in norms.items()})
    return {
        "attention_share_energy": energy,
        "attention_share_norm": share(norms),
        "attention_share_parameters": share({name: tree.get(block, name).size for name in norms}),
        "attention_imbalance": abs(energy - 0.5),
        "down_over_gate_up": _ratio(2 * norms["down_proj"], norms["gate_proj"] + norms["up_proj"]),
    }


def _norms(x: tree.Array, axis: int | tuple[int, ...]) -> np.ndarray:
    """Euclidean norms over some axes, summed in float64."""
    return np.sqrt(np.square(np.asarray(x), dtype=np.float64).sum(axis=axis))


def _ratio(numerator: float, denominator: float) -> float:
    """The quotient; NaN where the denominator is 0."""
    return float(numerator / denominator) if denominator else np.nan

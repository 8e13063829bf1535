"""Cheap proxies of what runs of layers are worth: from one pass over a text, or weights alone.

A run leads from the stream x before its first layer to the stream y after its last. All are written
so that more of them should mean more damage when the run is left out. Those of weights, and the
control, need no text; of a run of several layers they are the sum over its layers.

Papers read the angular distance at the last token of a text; here every proxy is read at all
positions from which a token is predicted, the same as the losses, so that both can be resampled by
document together.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxanatomy import tree
from jaxanatomy.forensics.layer_features import co_magnitude, matrix_features
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings.nll import clean, nll_and_kl, predicted_streams
from jaxanatomy.measures.statistics.estimates import sampling_units
from jaxanatomy.records import Row
from jaxanatomy.sweep import Beside, Context, Measured, Reading
from jaxanatomy.sweep.reading import END

OF_TEXT = {
    "block_influence": "1 − cos(x, y) (ShortGPT: Men et al. 2024, section 3.1)",
    "angular_distance": "arccos(cos(x, y)) / π (Gromov et al. 2024, section 3.2)",
    "contribution_norm": "|y − x| / |x|",
    "lens_change": "KL(final || logit lens of x) less KL(final || logit lens of y)",
}
OF_WEIGHTS = {
    "effective_rank": "exp(entropy of singular values) of o, gate and down, their mean (LR 3)",
    "heavy_tail": "minus the exponent of the spectrum's tail, of the same (Martin et al. 2021)",
    "co_magnitude_cv": "|gate_p| |up_p| over neurons p: standard deviation / mean (LR 4)",
    "earliness": "minus the number of its layers: a control that looks at nothing",
}
PROXIES = OF_TEXT | OF_WEIGHTS
SPECTRAL = ("o_proj", "gate_proj", "down_proj")

Cut = tuple[int, int]  # first layer, number of layers


def predicted(streams: Sequence[jax.Array], context: Context) -> jax.Array:
    """A measure: the stream at each predicted position, [C, P, D]."""
    (x_CRTD,) = streams
    return predicted_streams(x_CRTD, context)


def readings(num_layers: int) -> dict[str, Reading]:
    """What `text_rows` is made of: the streams between layers, and what the lens reads there."""
    lens = Beside(nll_and_kl, clean, at=END)
    return {
        "before": Reading(predicted, "block_in"),
        "after": Reading(predicted, "block_out", layers=num_layers - 1),
        "lens_before": Reading(lens, "block_in", part="kl"),
        "lens_after": Reading(lens, "block_out", layers=num_layers - 1, part="kl"),
    }


def units(variant: Variant, cuts: Sequence[Cut]) -> list[str]:
    """What `text_rows` has rows of, in their order."""
    del variant
    return [f"{name} {start} {size}" for name in OF_TEXT for start, size in cuts]


def text_rows(
    measured: Mapping[str, Measured], variants: Sequence[Variant], *, text: str, cuts: Sequence[Cut]
) -> list[Row]:
    """Rows of kind "proxy" that a text decides.

    Returns:
      By proxy and cut `start`, `size`, `value`, the mean over predicted positions, and the sums
      `unit_value` over the positions of each sampling unit, of which there are `unit_tokens`.
    """
    (variant,) = variants
    x_SPD, lens_SP = (
        np.concatenate([measured[f"{which}{end}"][variant.name] for end in ("before", "after")])
        for which in ("", "lens_")
    )
    unit_P = sampling_units(measured["before"].documents)
    tokens_U = np.bincount(unit_P)
    lens_SP = lens_SP.astype(np.float64)
    values = between(x_SPD) | {"lens_change": lens_SP[:, None] - lens_SP[None]}
    rows = []
    for name in OF_TEXT:
        for start, size in cuts:
            sums_U = np.bincount(unit_P, weights=values[name][start, start + size])
            row = _row(name, (start, size), sums_U.sum() / len(unit_P)) | {"text": text}
            row |= {"unit_value": list(map(finite, sums_U)), "unit_tokens": tokens_U.tolist()}
            rows.append(row)
    return rows


def between(x_SPD: np.ndarray) -> dict[str, np.ndarray]:
    """How far any stream is from any later one, by proxy.

    Args:
      x_SPD: The streams before each layer and after the last one, S = L + 1, at P positions.

    Returns:
      float64 [S, S, P]: entry s, t is of the run from stream s to stream t.
    """
    # By position, in float64: a few features are a thousand times as large as the others.
    gram_SSP = np.stack(
        [x_SD @ x_SD.T for x_SD in (x_SPD[:, p].astype(np.float64) for p in range(x_SPD.shape[1]))],
        axis=-1,
    )
    square_SP = np.einsum("ssp->sp", gram_SSP)
    norm_SP = np.maximum(np.sqrt(square_SP), 1e-30)
    cosine_SSP = np.clip(gram_SSP / (norm_SP[:, None] * norm_SP[None]), -1.0, 1.0)
    step_SSP = np.maximum(square_SP[:, None] + square_SP[None] - 2 * gram_SSP, 0.0)
    return {
        "block_influence": 1 - cosine_SSP,
        "angular_distance": np.arccos(cosine_SSP) / np.pi,
        "contribution_norm": np.sqrt(step_SSP) / norm_SP[:, None],
    }


def of_layers(params: tree.Params) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The proxies that need no text, of each layer; NaN where one is not defined.

    Returns:
      Values [L], and of those that are fitted standard errors [L], by proxy.
    """
    layers = params["layers"]
    spectra = [[matrix_features(tree.get(block, name)) for name in SPECTRAL] for block in layers]
    sizes = [co_magnitude(block) for block in layers]

    def each(metric: str) -> np.ndarray:
        return np.array([[own[metric] for own in layer] for layer in spectra])

    with np.errstate(invalid="ignore"):
        variation = [size_F.std() / size_F.mean() for size_F in sizes]
    values = {
        "effective_rank": each("effective_rank").mean(axis=1),
        "heavy_tail": -each("alpha").mean(axis=1),
        "co_magnitude_cv": np.array(variation),
        "earliness": -np.arange(float(len(layers))),
    }
    return values, {"heavy_tail": np.linalg.norm(each("alpha_error"), axis=1) / len(SPECTRAL)}


def weight_rows(params: tree.Params, cuts: Sequence[Cut]) -> list[Row]:
    """Rows of kind "proxy" that no text decides: sums over the layers of each cut.

    One that is fitted has its standard `error`: layers are fitted each by itself.
    """
    values, errors = of_layers(params)
    rows = []
    for name, value_L in values.items():
        for start, size in cuts:
            own = slice(start, start + size)
            row = _row(name, (start, size), value_L[own].sum())
            if name in errors:
                row["error"] = finite(np.linalg.norm(errors[name][own]))
            rows.append(row)
    return rows


def _row(proxy: str, cut: Cut, value: float) -> Row:
    start, size = cut
    return {"kind": "proxy", "proxy": proxy, "start": start, "size": size, "value": finite(value)}

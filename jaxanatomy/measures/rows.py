"""From what a sweep read to rows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxanatomy.errors import InputError
from jaxanatomy.interventions.variants import BASELINE, Variant
from jaxanatomy.measures.importance import importance_rows
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.statistics.estimates import Estimate, ratio_intervals, sampling_units
from jaxanatomy.records import Row
from jaxanatomy.sweep import Measured


def rows_of_readings(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    make: Callable[..., list[Row]] = importance_rows,
) -> list[Row]:
    """Rows of the variants of one chunk.

    Args:
      measured: What `Sweep.run` returned, with the baseline among the variants.
      variants: The variants to report.
      text: Name of the text that was swept.
      make: What makes rows of losses: `importance_rows`, or `losses.loss_rows` for the
        fields that all experiments share.

    Returns:
      Rows, with the fields of `kl_fields` where the KL was read. Other readings give one number
      for each variant, which stands in the row under their names.
    """
    nll = measured["nll"]
    rows = make(
        dict(zip(nll.variants, nll.values, strict=True)),
        variants,
        baseline_P=nll[BASELINE],
        document_P=nll.documents,
        first_P=np.diff(nll.documents, prepend=-1) != 0,
        text=text,
    )
    unit_P = sampling_units(nll.documents)
    for row, variant in zip(rows, variants, strict=True):
        for name, each in measured.items():
            if name == "kl":
                row |= kl_fields(each[variant.name], unit_P)
                if row["kl"] is None:
                    row.setdefault("reason", "the KL to the unchanged model is not finite")
            elif name == "nll":
                continue
            elif name in row:
                raise InputError(f"a reading may not be called {name!r}, a field of every row")
            elif each.dims != ("variant",):
                raise InputError(
                    f"a row holds one number of each reading; {name!r} gives one for each "
                    f"{', '.join(each.dims)}; reduce it to a mean or a maximum, or use ja.read"
                )
            else:
                row[name] = float(each[variant.name])
    return rows


def kl_fields(kl_P: np.ndarray, unit_P: np.ndarray) -> Row:
    """The second reading of a variant: how far its predictions are from the unchanged model's.

    A KL is 0 only for the unchanged model and rises with any change, whether or not the text
    happens to like it.

    Args:
      kl_P: KL(unchanged model || variant) at each predicted token, in nats.
      unit_P: The unit of each; see `sampling_units`.

    Returns:
      `kl`, the mean over tokens; `kl_ci95`, its 95 % interval over units
      (`ratio_intervals`), cut at 0; `unit_kl`, the sum of each unit. What is not finite is None.
    """
    sums_U = np.bincount(unit_P, weights=kl_P.astype(np.float64))
    (found,) = ratio_intervals(sums_U[None], np.bincount(unit_P))
    mean = Estimate(*map(float, found)).map(lambda value: np.maximum(value, 0.0))
    return {
        "kl": finite(mean.value),
        "kl_ci95": mean.ends,
        "unit_kl": [finite(value) for value in sums_U],
    }

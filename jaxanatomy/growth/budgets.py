"""Training budgets of layers from how fast they recover (AH sections 4.5, 5.4, Table 10).

The paper gives each layer a share of the steps by hand. Our rule is written down:

    R(l) = (first evaluated step at which the perplexity with layer l damaged is within
            `threshold` of that of the same training without noise) / (steps of training),

the mean over noise seeds, and 1 for a curve that never gets there. It is a rule for
spending steps on recovery; that a layer which recovers fast also needs few steps to be learnt
is the paper's assumption, which the developmental experiment tests.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.records import Row


def recovery_shares(finals: Iterable[Row], threshold: str, steps: int) -> dict[int, float]:
    """R(l) of each layer that was damaged.

    Args:
      finals: Final rows of recovery curves; those without noise, or without a control, are left
        out.
      threshold: Which of their `steps_to_control` counts, for example "1.1".
      steps: Steps of training, at least 1.

    Returns:
      Shares from 0 to 1 by layer, ascending.

    Raises:
      InputError: A row does not know the threshold, or there are no steps.
    """
    require_whole("steps", steps)
    found: dict[int, list[float]] = {}
    for row in finals:
        reached = row["steps_to_control"]
        if not row["noise"] or reached is None:
            continue
        if threshold not in reached:
            known = ", ".join(reached)
            raise InputError(f"thresholds of these curves are {known}; got {threshold!r}")
        step = reached[threshold]
        found.setdefault(row["layer"], []).append(1.0 if step is None else step / steps)
    return {layer: sum(found[layer]) / len(found[layer]) for layer in sorted(found)}


def budget(
    shares: Mapping[int, float], groups: Sequence[Mapping[str, Any]], steps_per_layer: int
) -> dict[str, Any]:
    """Our budget beside a published one, over the layers that were measured.

    Args:
      shares: R(l) by layer.
      groups: Published groups, each {"group", "layers", "low", "high"} as in AH Table 10.
      steps_per_layer: Steps that a layer with R = 1 is trained.

    Returns:
      `layers` measured; the totals in steps `uniform` (every R is 1), `ours`,
      `published_low` and `published_high`; `saved_percent` of ours against uniform,
      `published_saved_percent` of the middle of the range; and `groups`, each with its
      measured layers, our mean share and the published ends. Layers in no group count in
      `uniform` and `ours` alone, and stand in `ungrouped`.
    """
    rows, low, high, grouped = [], 0.0, 0.0, 0
    for group in groups:
        layers = [layer for layer in group["layers"] if layer in shares]
        low += len(layers) * group["low"] * steps_per_layer
        high += len(layers) * group["high"] * steps_per_layer
        grouped += len(layers)
        ours = sum(shares[layer] for layer in layers) / len(layers) if layers else None
        ends = {name: group[name] for name in ("low", "high")}
        rows.append({"group": group["group"], "layers": layers, "ours": ours, **ends})
    uniform = len(shares) * steps_per_layer
    total = sum(shares.values()) * steps_per_layer
    known = {layer for group in groups for layer in group["layers"]}
    return {
        "layers": len(shares),
        "uniform": uniform,
        "ours": total,
        "saved_percent": _saved(total, uniform),
        "published_low": low,
        "published_high": high,
        "published_saved_percent": _saved((low + high) / 2, grouped * steps_per_layer),
        "groups": rows,
        "ungrouped": sorted(set(shares) - known),
    }


def _saved(total: float, uniform: float) -> float | None:
    return 100 * (1 - total / uniform) if uniform else None

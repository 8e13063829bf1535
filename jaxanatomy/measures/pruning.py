"""Which layers to leave out, chosen in several ways, as variants and rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.intervention import variant
from jaxanatomy.interventions.registry import choose_intervention
from jaxanatomy.interventions.sets import layer_order
from jaxanatomy.interventions.variants import BASELINE, Variant, baseline_steps
from jaxanatomy.interventions.where import together
from jaxanatomy.measures.losses import loss_rows, mean_nll
from jaxanatomy.measures.proxies import PROXIES, Cut
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.model import layer_parameter_count
from jaxanatomy.ranges import parse_ranges
from jaxanatomy.records import Row
from jaxanatomy.sweep import Measured

REMOVAL, GREEDY, PLAN = "removal", "greedy", "plan"  # kinds of rows of variants
NONE, RANDOM = "none", "random_s"  # ways: the unchanged model, a random order
WAYS = {
    "one_shot": "the layers that cost least, each left out alone",
    "greedy": "one by one, each time the layer that costs least with the others gone",
    "contiguous": "the run of layers that costs least",
    **{name: f"the layers with the lowest {name.replace('_', ' ')}" for name in PROXIES},
    "angular_distance_run": "the run with the lowest angular distance (Gromov et al. 2024)",
    f"{RANDOM}K": "the first layers of random order K",
}
FLOAT32 = 4  # bytes

Layers = tuple[int, ...]
Choice = tuple[str, int]  # in which way layers are chosen, and how many


def parse_sizes(config: ModelConfig, given: Any) -> list[int]:
    """How many layers are left out, in ascending order.

    Raises:
      InputError: None, one twice, or as many as the model has or more.
    """
    sizes, most = parse_ranges(given, "sizes"), config.num_layers - 1
    if not sizes or len({*sizes}) < len(sizes) or not 1 <= min(sizes) <= max(sizes) <= most:
        raise InputError(
            f"sizes are numbers of layers to leave out, each once, from 1 to {most} of the "
            f"{config.num_layers} that this model has; got {given!r}; name others"
        )
    return sorted(sizes)


def runs_of(num_layers: int, sizes: Sequence[int]) -> list[Cut]:
    """(first layer, number of layers) of every run of these lengths, and of single layers."""
    lengths = sorted({1, *sizes})
    return [(start, size) for size in lengths for start in range(num_layers - size + 1)]


def unchanged(config: ModelConfig) -> Variant:
    """The model with all of its layers."""
    labels = {"kind": BASELINE, "layers": [], "size": 0}
    return Variant(BASELINE, baseline_steps(config.num_layers), labels)


def without(config: ModelConfig, layers: Iterable[int], kind: str) -> Variant:
    """The model without some layers, by a name that `experiments.export` takes."""
    where = together(config.num_layers, layers)
    made = variant(config, choose_intervention("cut"), where)
    labels = {"kind": kind, "layers": list(where.layers), "size": len(where.layers)}
    return Variant(made.name, made.steps, labels)


def removals(config: ModelConfig, cuts: Sequence[Cut]) -> list[Variant]:
    """The model without each run of layers."""
    return [without(config, _run(*cut), REMOVAL) for cut in cuts]


def greedy_round(config: ModelConfig, rows: Iterable[Row], size: int) -> list[Variant]:
    """The model without `size` layers: those that greed took before, and each other one.

    Args:
      config: The model.
      rows: Of the text that chooses, all rounds before among them.
      size: 2 or above; what the first round needs is in the removals.
    """
    taken = greedy_order(rows)[: size - 1]
    others = (layer for layer in range(config.num_layers) if layer not in taken)
    return [without(config, (*taken, layer), GREEDY) for layer in others]


def greedy_order(rows: Iterable[Row]) -> list[int]:
    """The layers in the order in which greed takes them, as far as rounds are measured."""
    rows, order = list(rows), []
    while own := [row for row in rows if _is_next(row, order)]:
        best = min(own, key=lambda row: (mean_nll(row), row["layers"]))
        order += {*best["layers"]} - {*order}
    return order


def _is_next(row: Row, order: Sequence[int]) -> bool:
    """Whether a row is of the round that follows; a run of layers stands among the removals."""
    is_cut = row["kind"] in (REMOVAL, GREEDY) and row["size"] == len(order) + 1
    return is_cut and {*order} <= {*row["layers"]}


def choices(
    rows: Sequence[Row], sizes: Sequence[int], num_layers: int, random_orders: int
) -> dict[Choice, Layers]:
    """The layers to leave out, by way and number.

    Args:
      rows: Of the text that chooses: removals, greedy rounds and proxies.
      sizes: How many layers.
      num_layers: Depth of the model.
      random_orders: How many random orders.
    """
    costs = {"one_shot": {tuple(r["layers"]): mean_nll(r) for r in rows if r["kind"] == REMOVAL}}
    costs |= {name: {} for name in PROXIES}
    for row in rows:
        if row["kind"] == "proxy":
            costs[row["proxy"]][_run(row["start"], row["size"])] = _or_last(row["value"])
    orders = {
        way: sorted(range(num_layers), key=lambda layer, cost=cost: cost[layer,])
        for way, cost in costs.items()
    }
    orders["greedy"] = greedy_order(rows)
    for seed in range(random_orders):
        orders[f"{RANDOM}{seed}"] = layer_order(num_layers, seed)
    of_runs = {"contiguous": costs["one_shot"], "angular_distance_run": costs["angular_distance"]}
    found: dict[Choice, Layers] = {}
    for size in sizes:
        runs = [_run(start, size) for start in range(num_layers - size + 1)]
        found |= {(way, size): min(runs, key=cost.__getitem__) for way, cost in of_runs.items()}
        found |= {(way, size): tuple(sorted(order[:size])) for way, order in orders.items()}
    return found


def _run(start: int, size: int) -> Layers:
    return tuple(range(start, start + size))


def _or_last(value: float | None) -> float:
    """A proxy that could not be computed is no reason to leave a layer out."""
    return math.inf if value is None else value


def plan_variants(config: ModelConfig, chosen: Mapping[Choice, Layers]) -> list[Variant]:
    """The model without the layers of each choice; what is chosen in several ways comes once."""
    return [without(config, layers, PLAN) for layers in dict.fromkeys(chosen.values())]


def plan_units(variant: Variant, chosen: Mapping[Choice, Layers]) -> list[str]:
    """What `plan_rows` has rows of: one for each way in which the layers are chosen."""
    return [f"{way} {size}" for way, size in _choices_of(variant, chosen)]


def plan_rows(
    measured: Mapping[str, Measured],
    variants: Sequence[Variant],
    *,
    text: str,
    chosen: Mapping[Choice, Layers],
    config: ModelConfig,
) -> list[Row]:
    """Rows of kind "plan": what each choice costs, with `way`, and `bytes_saved` in float32."""
    rows = []
    for row, each in zip(removal_rows(measured, variants, text=text), variants, strict=True):
        removed = sum(layer_parameter_count(config, layer) for layer in row["layers"])
        row |= {"kind": PLAN, "bytes_saved": FLOAT32 * removed}
        rows += [{**row, "way": way} for way, _ in _choices_of(each, chosen)]
    return rows


def _choices_of(variant: Variant, chosen: Mapping[Choice, Layers]) -> list[Choice]:
    if variant.name == BASELINE:
        return [(NONE, 0)]
    return [way for way, layers in chosen.items() if list(layers) == variant.labels["layers"]]


def removal_rows(
    measured: Mapping[str, Measured], variants: Sequence[Variant], *, text: str
) -> list[Row]:
    """Rows of losses and KLs."""
    return rows_of_readings(measured, variants, text=text, make=loss_rows)

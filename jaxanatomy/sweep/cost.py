"""What a sweep would cost, before it is run."""

import time

import jax
import jax.numpy as jnp

from jaxanatomy import model
from jaxanatomy.progress import format_duration
from jaxanatomy.sweep.engine import Sweep

# Share of the product peak that a sweep reaches on a CPU, from tools/bench_sweep.py.
EFFICIENCY = 0.75
SETS_SHOWN = 5


def weight_bytes(sweep: Sweep) -> int:
    """Memory of the placed weights, on each device."""
    return model.parameter_count(sweep.config) * sweep.options.compute_dtype.itemsize


def expected_seconds(sweep: Sweep) -> float:
    """Distinct work over a share of the product peak, which is measured now (0.1 s)."""
    lanes = sweep.lanes.count
    return sweep.flops() / (EFFICIENCY * measure_peak() * lanes)


def measure_peak(repeats: int = 8) -> float:
    """Floating-point operations a second of a large float32 product on the first device."""
    left, right = jnp.ones((888, 576)), jnp.ones((576, 3072))
    product = jax.jit(jnp.matmul)
    product(left, right).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(left, right).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * 888 * 576 * 3072 / sorted(seconds)[repeats // 2]


def describe(sweep: Sweep, text: str) -> str:
    """Variants, work, memory and time of a sweep in a few lines."""
    names = [variant.name for chunk in sweep.chunks for variant in chunk]
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        group, _, place = name.rpartition("/")
        groups.setdefault(group or place, []).append(place)
    megabytes = (weight_bytes(sweep) + sweep.pool_bytes) / 2**20
    lines = [
        f"text {text}: {len(dict.fromkeys(names))} variants, chunks of work: {len(sweep.chunks)}",
        *(f"  {group:36} {_where(group, places)}".rstrip() for group, places in groups.items()),
        "  layer applications, for each batch of text",
        f"    distinct                       {sweep.distinct_applications:,}",
        f"    with padding                   {sweep.executed_applications:,}",
        f"  matrix products                  {sweep.flops() / 1e12:,.2f} TFLOP",
        f"  memory for weights and streams   {megabytes:,.0f} MiB on each of "
        f"{sweep.lanes.count} device(s)",
        f"  expected time                    {format_duration(expected_seconds(sweep))} "
        f"(at {EFFICIENCY:.0%} of the product peak measured now)",
    ]
    return "\n".join(lines)


def _where(group: str, places: list[str]) -> str:
    """ "layers 0-3, 7", or the first few sets of layers; nothing for the baseline."""
    if places == [group]:
        return ""
    if all(place.isdigit() for place in places):
        return f"layers {_ranges(sorted(map(int, places)))}"
    rest = len(places) - SETS_SHOWN
    return ", ".join(places[:SETS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _ranges(numbers: list[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)

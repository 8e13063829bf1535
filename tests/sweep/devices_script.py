"""Run by test_devices with 8 virtual devices: prints how lanes compare with one device."""

import json

import jax
import numpy as np
from naive import CONFIG, MIXED_SHAPES, average, double, edited, random_params, replaced, text

from jaxanatomy import tree
from jaxanatomy.interventions.grid import manipulation_grid
from jaxanatomy.interventions.perturbations import perturbation_variants
from jaxanatomy.interventions.variants import (
    FIRST,
    Edit,
    Step,
    Variant,
    baseline,
    baseline_steps,
    closed,
    damped,
)
from jaxanatomy.measures.nll import LOSSES
from jaxanatomy.sweep import Sweep, SweepOptions


def on_host(own, *others):
    """A host edit must get NumPy blocks without a lane axis."""
    assert tree.get(own, "q_proj").ndim == 2
    assert type(tree.get(own, "q_proj")) is np.ndarray
    return double(own)


def variants(num_layers):
    base = baseline_steps(num_layers)
    for layer in range(num_layers):
        yield Variant(f"mean/{layer}", replaced(base, edited(layer, average, (0, 1))))
        yield Variant(f"double/{layer}", replaced(base, edited(layer, double, ())))
        yield Variant(f"first/{layer}", replaced(base, edited(layer, double, (), positions=FIRST)))
        host = Edit("host", on_host, on_host=True)
        yield Variant(f"host/{layer}", replaced(base, Step(layer, host)))
        yield Variant(f"mlp/{layer}", replaced(base, Step(layer, factors=closed("mlp"))))
        yield Variant(f"skip/{layer}", base[:layer] + base[layer + 1 :])
        again = damped((Step(layer), Step(layer)), 0.25)
        yield Variant(f"again/{layer}", (*base[:layer], again, *base[layer:]))


def run(config, listed, batches, options):
    sweep = Sweep(config, listed, batches, LOSSES, options, anchor=baseline(config.num_layers))
    sweep.place(random_params(config))
    readings, reported = {}, []
    for chunk in range(len(sweep.chunks)):
        readings |= sweep.run(chunk, reported.append)
    assert sum(reported) == sum(map(sweep.applications, range(len(sweep.chunks))))
    return sweep, readings


def deviation(readings, expected):
    """Largest relative difference of a loss, or of a KL above 0.3 nats.

    Below that the error of a KL is absolute: 1e-5 of 0.3 nats, three times float32 rounding.
    """
    assert list(readings) == list(expected)
    found = []
    for name in expected:
        pairs = zip(readings[name]["nll"], expected[name]["nll"], strict=True)
        found += [np.abs(got - want).max() / np.abs(want).max() for got, want in pairs]
        pairs = zip(readings[name]["kl"], expected[name]["kl"], strict=True)
        found += [(np.abs(got - want) / np.maximum(want, 0.3)).max() for got, want in pairs]
    return float(max(found))


def main():
    report = {"devices": jax.local_device_count()}
    batches = [text(rows=2, seed=seed) for seed in range(5)]
    listed = list(variants(CONFIG.num_layers))
    one = {"devices": 1, "widths": (2, 1), "split": "streams", "chunk_size": 20}
    _, expected = run(CONFIG, listed, batches, SweepOptions(**one))
    for split, backend, devices in [
        ("streams", "shard_map", 8),
        ("streams", "pmap", 8),
        ("streams", "shard_map", 3),  # lanes that do not divide the variants
        ("rows", "shard_map", 8),  # more lanes than batches
        ("rows", "pmap", 2),  # lanes that do not divide the batches
    ]:
        options = {**one, "split": split, "backend": backend, "devices": devices}
        sweep, readings = run(CONFIG, listed, batches, SweepOptions(**options))
        report[f"{split} {backend} {devices}"] = {
            "lanes": sweep.lanes.count,
            "deviation": deviation(readings, expected),
            "distinct": sweep.distinct_applications,
        }
    # Whole sets of layers at once, the edits of which read layers that others edit.
    inner = {layer: float(layer) for layer in range(1, CONFIG.num_layers - 1)}
    listed_sets = [*manipulation_grid(CONFIG, inner), *perturbation_variants(CONFIG, (0.1,))]
    _, expected = run(CONFIG, listed_sets, batches[:1], SweepOptions(**one))
    options = SweepOptions(**{**one, "devices": 8})
    sweep, readings = run(CONFIG, listed_sets, batches[:1], options)
    found = {"lanes": sweep.lanes.count, "deviation": deviation(readings, expected)}
    report["sets of layers"] = found
    # Layers of several shapes: lanes may run edited layers of equal shape only together.
    listed = [v for v in variants(MIXED_SHAPES.num_layers) if not v.name.startswith("mean")]
    _, expected = run(MIXED_SHAPES, listed, batches[:1], SweepOptions(**one))
    options = SweepOptions(**{**one, "devices": 4})
    _, readings = run(MIXED_SHAPES, listed, batches[:1], options)
    report["mixed shapes"] = {"lanes": 4, "deviation": deviation(readings, expected)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()

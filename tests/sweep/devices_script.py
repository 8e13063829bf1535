"""Run by test_devices with 8 virtual devices: prints how lanes compare with one device."""

import json

import jax
import jax.numpy as jnp
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
from jaxanatomy.measures.readings.nll import LOSSES
from jaxanatomy.sweep import (
    Beside,
    Measured,
    Parametric,
    Reading,
    Sweep,
    SweepOptions,
    maximum,
    mean,
)


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


def distance(streams, context):
    return jnp.linalg.norm(streams[0] - streams[1], axis=-1)


def weights(streams, context):
    return streams[0].swapaxes(2, 3)


def probed(streams, context):
    """What a probe of each layer makes of a stream, beside another one."""
    return (streams[0] - streams[1]) @ context.params


PROBE_LD = np.random.default_rng(0).standard_normal((CONFIG.num_layers, CONFIG.hidden_size))
INSIDE = ("double", "first", "skip")
READINGS = {
    **LOSSES,
    "same": Reading(Beside(distance), "mlp_out"),
    "end": Reading(Beside(distance, at="end"), "block_out", mean("others", "document")),
    "probe": Reading(Parametric(Beside(probed), PROBE_LD.astype(np.float32)), "mlp_out"),
    "attention": Reading(weights, "attention", maximum()),
}


def run(config, listed, batches, options, readings=LOSSES):
    anchor = baseline(config.num_layers)
    sweep = Sweep(config, listed, batches, readings, options, anchor=anchor)
    sweep.place(random_params(config))
    parts, reported = [], []
    for chunk in range(len(sweep.chunks)):
        parts.append(sweep.run(chunk, reported.append))
    assert sum(reported) == sum(map(sweep.applications, range(len(sweep.chunks))))
    return sweep, {name: Measured.joined([part[name] for part in parts]) for name in readings}


def deviation(measured, expected):
    """Largest relative difference of what was read, of a KL where that is above 0.3 nats.

    Below that the error of a KL is absolute: 1e-5 of 0.3 nats, three times float32 rounding.
    """
    found = []
    for name, want in expected.items():
        got = measured[name]
        assert got.variants == want.variants
        assert np.array_equal(np.isnan(got.values), np.isnan(want.values))
        scale = np.abs(np.nan_to_num(want.values))
        scale = np.maximum(scale, 0.3) if name == "kl" else np.maximum(scale, scale.max() / 10)
        found.append(np.abs(np.nan_to_num(got.values - want.values) / scale).max())
    return float(max(found))


def main():
    report = {"devices": jax.local_device_count()}
    batches = [text(rows=2, seed=seed, start=6 * seed) for seed in range(5)]
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
    # What stands inside layers: lanes at edits of different layers, halves that wait, padding.
    listed = [v for v in variants(CONFIG.num_layers) if v.name.split("/")[0] in INSIDE]
    one = {**one, "widths": (1,), "split": "streams"}
    _, expected = run(CONFIG, listed, batches[:3], SweepOptions(**one), READINGS)
    for split, devices in (("streams", 8), ("rows", 2)):
        options = SweepOptions(**{**one, "split": split, "devices": devices})
        sweep, readings = run(CONFIG, listed, batches[:3], options, READINGS)
        found = {"lanes": sweep.lanes.count, "deviation": deviation(readings, expected)}
        report[f"inside layers, {split}"] = found
    print(json.dumps(report))


if __name__ == "__main__":
    main()

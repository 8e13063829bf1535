"""A measure with parameters of its own at each layer gets those of the layer that it reads."""

import numpy as np
import pytest
from naive import CONFIG, average, edited, naive_trace, random_params, replaced, text

from jaxanatomy.interventions.variants import Variant, baseline_steps
from jaxanatomy.sweep import Beside, Parametric, Reading, Sweep, SweepOptions

L, D = CONFIG.num_layers, CONFIG.hidden_size
BASE = baseline_steps(L)
PARAMS = random_params(CONFIG)
BATCHES = [text(rows=2, seed=1), text(rows=2, seed=2, start=6)]
VARIANTS = {
    "baseline": BASE,
    "edit": replaced(BASE, edited(2, average)),
    "skip": BASE[:2] + BASE[3:],
    "swap": (BASE[0], BASE[2], BASE[1], *BASE[3:]),
}


def probed(streams, context):
    """A linear probe of what stands beside another one."""
    x_CRTD, other_1RTD = streams
    return (x_CRTD - other_1RTD) @ context.params["direction"]


def alone(streams, context):
    return streams[0] @ context.params["direction"]


def outputs(name):
    """By layer what stands after it, [tokens, D], in the order of the text."""
    traces = [naive_trace(CONFIG, PARAMS, VARIANTS[name], batch) for batch in BATCHES]
    real = [batch.segment_RT >= 0 for batch in BATCHES]
    return {
        layer: np.concatenate(
            [
                np.asarray(dict(trace)[layer]["block_out"])[own]
                for trace, own in zip(traces, real, strict=True)
            ]
        )
        for layer, _ in traces[0]
    }


@pytest.mark.parametrize("at", ["alone", "same", "end"])
def test_probes_of_each_layer_equal_a_plain_loop(at):
    direction_LD = np.random.default_rng(3).standard_normal((L, D)).astype(np.float32)
    measure = alone if at == "alone" else Beside(probed, at=at)
    reading = Reading(Parametric(measure, {"direction": direction_LD}), "block_out")
    listed = [Variant(name, steps) for name, steps in VARIANTS.items()]
    sweep = Sweep(CONFIG, listed, BATCHES, {"probe": reading}, SweepOptions(widths=(3, 1)))
    sweep.place(PARAMS)
    found = sweep.run(0)["probe"]
    unedited = outputs("baseline")
    for name in VARIANTS:
        for layer, x_ND in outputs(name).items():
            other = {"alone": 0, "same": unedited[layer], "end": unedited[L - 1]}[at]
            expected_N = (x_ND - other) @ direction_LD[layer]
            np.testing.assert_allclose(found[name][layer], expected_N, rtol=1e-5, atol=1e-4)

"""The programs of a sweep lower for accelerators that are not here."""

import jax
import numpy as np
import pytest
from jax import export
from naive import CONFIG, MIXED_SHAPES, random_params, text

from jaxanatomy.interventions.cells import ablations
from jaxanatomy.measures.readings.attention import SHIFTS
from jaxanatomy.measures.readings.nll import LOSSES, nll
from jaxanatomy.measures.readings.ready import lens_kl
from jaxanatomy.sweep import Reading, Sweep, SweepOptions
from jaxanatomy.sweep.compilation import PREPARE, Compiler, Sizes
from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.sweep.reading import probes_of


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [CONFIG, MIXED_SHAPES], ids=["uniform", "mixed"])
def test_programs_lower_for_tpu_and_cuda(config, dtype):
    options = SweepOptions(dtype=dtype)
    lanes = Lanes(jax.devices()[:1], options.backend)
    sizes = Sizes(slots=4, gates=2, mixtures=1, terms=3)
    readings = {"nll": Reading(nll), **LOSSES, "lens": lens_kl(), "noise": SHIFTS["argmax_changed"]}
    probes, number = probes_of(config, readings)
    compiler = Compiler(config, options, lanes, text(rows=2), sizes, probes)
    shapes = dict.fromkeys(config.layers)
    points = ("attention", "block_out")
    keys = [PREPARE, *(("apply", (shape, points), 2) for shape in shapes), ("combine", 3, 1)]
    keys += [("read", number[name], 2) for name in ("nll", "kl")]
    keys += [("summarise", number[name], 1) for name in ("kl", "lens")]
    keys += [("inside", (number[name], config.layers[0]), 2) for name in ("lens", "noise")]
    keys += [("summarise_inside", (number["noise"], config.layers[0]), 1)]
    keys += [(kind, (config.layers[0], points), 1) for kind in ("pick", "mix_points")]
    for key in keys:
        function, donate, arguments = compiler.program(key)
        jitted = jax.jit(function, donate_argnums=donate)
        exported = export.export(jitted, platforms=("tpu", "cuda"))(*arguments)
        assert exported.platforms == ("tpu", "cuda")
        has_products = "stablehlo.dot_general" in exported.mlir_module()
        reads_head = key[0] in ("read", "summarise") or key[1] == (number["lens"], config.layers[0])
        assert has_products == (key[0] == "apply" or reads_head), key


def test_a_sweep_on_another_text_of_the_same_shapes_compiles_nothing(monkeypatch):
    params, variants = random_params(CONFIG), ablations(CONFIG, ["zero"], layers="1-3")
    first, other, longer, alone = (
        Sweep(CONFIG, variants, [text(rows=rows, seed=seed)], LOSSES)
        for rows, seed in ((2, 0), (2, 1), (3, 1), (2, 1))
    )
    compiled, compile_one = [], Lanes.compile
    monkeypatch.setattr(Lanes, "compile", lambda *a: compiled.append(a) or compile_one(*a))
    first.compile()
    count = len(compiled)
    other.compile(first)
    assert len(compiled) == count > 0
    longer.compile(first)
    assert len(compiled) == 2 * count
    for sweep in (other, alone):
        sweep.place(params)
    np.testing.assert_array_equal(other.run(0)["nll"].values, alone.run(0)["nll"].values)

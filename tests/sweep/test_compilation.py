"""The programs of a sweep lower for accelerators that are not here."""

import jax
import pytest
from jax import export
from naive import CONFIG, MIXED_SHAPES, text

from jaxanatomy.measures.attention import SHIFTS
from jaxanatomy.measures.nll import LOSSES, nll
from jaxanatomy.measures.readings import lens_kl
from jaxanatomy.sweep import Reading, SweepOptions
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

"""The programs of a sweep lower for accelerators that are not here."""

import jax
import pytest
from jax import export
from naive import CONFIG, MIXED_SHAPES, text

from jaxanatomy.measures.nll import LOSSES, nll
from jaxanatomy.sweep import SweepOptions
from jaxanatomy.sweep.compilation import PREPARE, Compiler, Sizes
from jaxanatomy.sweep.devices import Lanes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [CONFIG, MIXED_SHAPES], ids=["uniform", "mixed"])
def test_programs_lower_for_tpu_and_cuda(config, dtype):
    options = SweepOptions(dtype=dtype)
    lanes = Lanes(jax.devices()[:1], options.backend)
    sizes = Sizes(slots=4, gates=2, mixtures=1, terms=3)
    compiler = Compiler(config, options, lanes, text(rows=2), sizes, {"nll": nll, **LOSSES})
    shapes = dict.fromkeys(config.layers)
    keys = [PREPARE, *(("apply", shape, 2) for shape in shapes), ("combine", 3, 1)]
    reads = [("read", ("nll", 1, 0), 2), ("read", ("losses", 1, 1), 2), ("summarise", "losses", 1)]
    for key in [*keys, *reads]:
        function, donate, arguments = compiler.program(key)
        jitted = jax.jit(function, donate_argnums=donate)
        exported = export.export(jitted, platforms=("tpu", "cuda"))(*arguments)
        assert exported.platforms == ("tpu", "cuda")
        has_products = "stablehlo.dot_general" in exported.mlir_module()
        assert has_products == (key[0] in ("apply", "read", "summarise")), key

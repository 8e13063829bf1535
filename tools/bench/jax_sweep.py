"""This package's side: the sweep, the export that the others load, and the product peak."""

import math
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from bench import tokens

from jaxanatomy import host, weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.cells import main_map
from jaxanatomy.measures.nll import LOSSES
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

# The shape of the largest common products of the default model: eight streams of 111
# tokens through gate and up side by side.
ROWS, INNER, COLUMNS = 888, 576, 3072
PRODUCTS = 20


def export(folder, model_id):
    """Writes `folder/model` and the token ids for the other contenders."""
    checkpoint = weights.load(model_id)
    weights.export_hf(checkpoint, folder / "model")
    documents = load_text("sentences").documents
    tokens.write(folder, [checkpoint.tokenizer.encode(document) for document in documents])


def open_sweep(folder):
    """The warm sweep: planned, compiled and placed once; its work; the product peak."""
    host.keep_freed_memory()  # as the command line does
    checkpoint = weights.load(f"file:{folder / 'model'}")
    sweep, batches = _plan(checkpoint)
    sweep.compile()
    sweep.place(checkpoint.params)
    return {
        "map": lambda: jaxanatomy_map(sweep, batches),
        "work": lambda: sweep.flops(),
        "product": open_product(),
    }


def jaxanatomy_map(sweep, batches):
    """Perplexity of each variant, the baseline first; the KLs are read as well, as in a run."""
    (readings,) = (sweep.run(chunk) for chunk in range(len(sweep.chunks)))
    keep = np.concatenate([batch.document_P >= 0 for batch in batches])
    return [
        math.exp(np.concatenate(reading["nll"])[keep].mean(dtype=np.float64))
        for reading in readings.values()
    ]


def _plan(checkpoint):
    batches = tokenise(checkpoint, load_text("sentences"))
    return Sweep(checkpoint.config, main_map(checkpoint.config), batches, LOSSES), batches


def open_product():
    """A function that times one float32 product several times, in flop/s."""
    key = jax.random.key(0)
    x, y = jax.random.normal(key, (ROWS, INNER)), jax.random.normal(key, (INNER, COLUMNS))
    # The result goes where the last one stood: no fresh memory is touched, which would cost
    # a tenth of the time and make the peak look lower than it is.
    product = jax.jit(lambda x, y, _: x @ y, donate_argnums=2, keep_unused=True)
    result = [product(x, y, jnp.zeros((ROWS, COLUMNS)))]

    def measure():
        rates = []
        for _ in range(PRODUCTS):
            start = time.perf_counter()
            result[0] = product(x, y, result[0])
            result[0].block_until_ready()
            rates.append(2 * ROWS * INNER * COLUMNS / (time.perf_counter() - start))
        return statistics.median(rates)

    return measure

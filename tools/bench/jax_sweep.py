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
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.readings.nll import LOSSES
from jaxanatomy.measures.readings.ready import contributions, lens_kl
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
    sweep = _plan(checkpoint)
    sweep.compile()
    sweep.place(checkpoint.params)
    return {
        "map": lambda: jaxanatomy_map(sweep),
        "work": lambda: sweep.flops(),
        "product": open_product(),
    }


def open_inside(folder):
    """The map on `paragraphs`, with all 31 variants, and what is read at every layer of the model.

    That is the KL of the logit lens at every predicted position, and norms and cosines of what
    attention and MLP write at every position.
    """
    host.keep_freed_memory()
    checkpoint = weights.load(f"file:{folder / 'model'}")
    config, batches = checkpoint.config, tokenise(checkpoint, load_text("paragraphs"))
    whole = Sweep(config, main_map(config, boundary=True), batches, LOSSES)
    readings = {"lens": lens_kl(), **contributions()}
    inside = Sweep(config, [baseline(config.num_layers)], batches, readings)
    whole.place(checkpoint.params)
    inside.share_weights(whole)
    whole.compile()
    inside.compile()

    def lens():
        (found,) = (inside.run(chunk)["lens"] for chunk in range(len(inside.chunks)))
        return found["baseline"].tolist()

    return {
        "map": lambda: jaxanatomy_map(whole),
        "inside": lens,
        "product": open_product(),
    }


def jaxanatomy_map(sweep):
    """Perplexity of each variant, the baseline first; the KLs are read as well, as in a run."""
    (measured,) = (sweep.run(chunk)["nll"] for chunk in range(len(sweep.chunks)))
    return [math.exp(nll_P.mean(dtype=np.float64)) for nll_P in measured.values]


def _plan(checkpoint):
    batches = tokenise(checkpoint, load_text("sentences"))
    return Sweep(checkpoint.config, main_map(checkpoint.config), batches, LOSSES)


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

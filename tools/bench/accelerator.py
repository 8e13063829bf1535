"""What `tools/bench_accelerator.py` measures: a function for each part, in a process of its own.

A part is given the options and returns plain numbers. What is timed is waited for, and is
warm: compiled, and run once before.
"""

import json
import math
import pathlib
import statistics
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from bench import jax_training

from jaxanatomy import host, model, tree, weights
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import load_text
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.growth.smollm import MODELS
from jaxanatomy.interventions.cells import main_map
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep, SweepOptions
from jaxanatomy.train.loop import run_steps, start
from jaxanatomy.train.loss import LanguageModelLoss, nothing_frozen
from jaxanatomy.train.optimiser import Optimiser, make
from jaxanatomy.train.peak import peak_flops
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.random_init import random_params

REFERENCE = pathlib.Path(__file__).parents[2] / "tests" / "reference" / "smollm2_importance.json"
TINY = {"hidden_size": 64, "head_dim": 16, "vocab_size": 512, "context_length": 512}
SENTENCES = "sentences"  # of the reference values
REPEATS = 5


class Words:
    """A token for each word, drawn by a hash: a tokenizer where the machine has none."""

    bos_id, eos_id, adds_bos = None, None, False

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size

    def encode(self, text):
        return [zlib.crc32(word.encode()) % self.vocab_size for word in text.split()]


def run(part, options):
    """The numbers of a part, with the device, its memory and the seconds."""
    began = time.perf_counter()
    host.keep_freed_memory()
    found = PARTS[part](options)
    memory = jax.local_devices()[0].memory_stats() or {}
    return {
        **found,
        "device": jax.local_devices()[0].device_kind,
        "peak_bytes": memory.get("peak_bytes_in_use"),
        "seconds": time.perf_counter() - began,
    }


def product(options):
    """The measured peak of large products, FLOP/s: float32 at the highest precision, bfloat16."""
    size = 256 if options.tiny or jax.default_backend() == "cpu" else 8192
    found = {}
    for name, precision in (("float32", "highest"), ("bfloat16", "default")):
        x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(name))
        multiply = jax.jit(lambda x, p=precision: jnp.matmul(x, x, precision=p))
        found[name] = 2 * size**3 / _seconds(lambda m=multiply, x=x: m(x).block_until_ready())
    kind = jax.local_devices()[0].device_kind
    return {"product": found, "published_bfloat16": peak_flops(kind)}


def exactness(options):
    """The map in float32 against independent figures, or a CPU's of the same machine."""
    model, what = open_model(options)
    found = list(_map(model, SENTENCES, "float32")[1]().values())
    if what == weights.DEFAULT_MODEL:
        reference = json.loads(REFERENCE.read_text())
        expected = [reference["baseline_ppl"], *reference["neighbour_mean_ppl"].values()]
        against = "reference values (float64)"
    else:
        expected, against = json.loads((options.out / "cpu_map.json").read_text())["ppl"], "CPU"
    worst = max(abs(own / other - 1) for own, other in zip(found, expected, strict=True))
    return {"weights": what, "against": against, "perplexities": len(found), "worst": worst}


def cpu_map(options):
    """What `exactness` compares with where there are no reference values."""
    model, what = open_model(options)
    if what == weights.DEFAULT_MODEL:
        return {"ppl": None}
    return {"ppl": list(_map(model, SENTENCES, "float32")[1]().values())}


def map_float32(options):
    """Seconds of the warm map, and the share of the product peak."""
    return _timed_map(options, "float32")


def map_bfloat16(options):
    """The same with operands of products in bfloat16, and how far perplexities move."""
    return _timed_map(options, "bfloat16")


def training(options):
    """A step of the 360M model in bfloat16: seconds, tokens a second, MFU."""
    config = _tiny(2) if options.tiny else MODELS["smollm_360m"].config
    batch_size, seq_len = (2, 64) if options.tiny else (8, 2048)
    params = random_params(config, np.float32)
    params = tree.with_layers(params, tree.stack(params["layers"], np))
    params = jax.tree.map(jnp.asarray, params)
    token_BT = np.random.default_rng(0).integers(config.vocab_size, size=(batch_size, seq_len))
    loss = LanguageModelLoss(config, jnp.bfloat16, remat="full")
    frozen, rates, batch = nothing_frozen(params), jnp.full(1, 1e-4), jax_training.batch(token_BT)
    optimiser = make(Optimiser(), params)
    state = [start(optimiser, params)]
    del params

    def step():
        state[0], trace = run_steps(loss, optimiser, state[0], frozen, batch, rates, 1)
        losses.append(float(np.asarray(trace.loss)[0]))

    losses = []
    seconds = _seconds(step)
    work, kind = step_flops(config, batch_size, seq_len), jax.local_devices()[0].device_kind
    published = peak_flops(kind)
    return {
        "parameters": model.parameter_count(config),
        "tokens_per_second": batch_size * seq_len / seconds,
        "step_seconds": seconds,
        "flops_per_second": work / seconds,
        "mfu": work / seconds / published if published else None,
        "losses": losses,
    }


PARTS = {
    each.__name__: each
    for each in (product, cpu_map, exactness, map_float32, map_bfloat16, training)
}


def open_model(options):
    """The model of the map, and what its weights are."""
    if options.tiny:
        return _random(_tiny(4), "random weights, tiny")
    if options.model:
        return weights.load(options.model), options.model
    if weights.is_cached(weights.DEFAULT_MODEL):
        return weights.load(weights.DEFAULT_MODEL), weights.DEFAULT_MODEL
    return _random(jax_training.smollm2_135m(30), "random weights in the shape of SmolLM2-135M")


def _random(config, what):
    params = random_params(config, np.float32)
    return Checkpoint(config, params, Words(config.vocab_size), what, ""), what


def _tiny(layers):
    return ModelConfig.uniform(layers, 4, 2, 128, **TINY)


def _map(model, text, dtype):
    """The planned sweep of the importance map, and a function that runs it: perplexities."""
    batches = tokenise(model, load_text(text))
    variants = main_map(model.config)
    sweep = Sweep(model.config, variants, batches, {"nll": nll}, SweepOptions(dtype=dtype))
    sweep.compile()
    sweep.place(model.params)

    def perplexities():
        chunks = [sweep.run(chunk)["nll"] for chunk in range(len(sweep.chunks))]
        return {
            name: math.exp(each[name].mean(dtype=np.float64))
            for each in chunks
            for name in each.variants
        }

    return sweep, perplexities


def _timed_map(options, dtype):
    model, what = open_model(options)
    sweep, perplexities = _map(model, SENTENCES if options.tiny else "paragraphs", dtype)
    found = perplexities()
    (options.out / f"ppl_{dtype}.json").write_text(json.dumps(found))
    seconds = _seconds(perplexities)
    moved = None
    exact = options.out / "ppl_float32.json"
    if dtype != "float32" and exact.exists():
        expected = json.loads(exact.read_text())
        moved = statistics.median(abs(found[name] / expected[name] - 1) for name in found)
    return {
        "weights": what,
        "variants": len(found),
        "map_seconds": seconds,
        "flops_per_second": sweep.flops() / seconds,
        "median_change_of_perplexity": moved,
    }


def _seconds(action):
    """Median seconds of an action that has run once before."""
    action()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)

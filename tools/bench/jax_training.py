"""This package's side of the training benchmark, and what both sides train, and on what."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from bench import jax_sweep

from jaxanatomy import host, tree, weights
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.train.loop import run_steps, start
from jaxanatomy.train.loss import Batch, LanguageModelLoss, nothing_frozen
from jaxanatomy.train.optimiser import Optimiser, make
from jaxanatomy.weights.checkpoint import Checkpoint
from jaxanatomy.weights.random_init import random_params

TASK, BATCHES = "pretraining.json", "batches.npy"


def smollm2_135m(num_layers):
    """The architecture of SmolLM2-135M, with as many layers as are asked for."""
    return ModelConfig.uniform(
        num_layers,
        9,
        3,
        1536,
        vocab_size=49_152,
        hidden_size=576,
        head_dim=64,
        rope_theta=100_000.0,
        context_length=8192,
    )


def export(folder, num_layers, task):
    """Writes a random model, random tokens, and the task.

    Args:
      folder: Where to.
      num_layers: Of the model.
      task: `batch_size`, `seq_len`, `batches`, `learning_rate` and `remat`.
    """
    config = smollm2_135m(num_layers)
    params = random_params(config, np.float32)
    weights.export_hf(Checkpoint(config, params, None, "random", ""), folder / "model")
    shape = task["batches"], task["batch_size"], task["seq_len"]
    np.save(folder / BATCHES, np.random.default_rng(0).integers(config.vocab_size, size=shape))
    (folder / TASK).write_text(json.dumps(task))


def open_trainer(folder):
    """A step as pretraining makes it; commands `step`, `work` and `product`."""
    host.keep_freed_memory()  # as the command line does
    task = json.loads((folder / TASK).read_text())
    batches = [batch(token_BT) for token_BT in np.load(folder / BATCHES)]
    config, params = _load(folder)
    loss = LanguageModelLoss(config, remat=task["remat"])
    frozen, rates = nothing_frozen(params), jnp.full(1, task["learning_rate"])
    optimiser = make(Optimiser(), params)
    state = [start(optimiser, params)]
    del params

    def step(number):
        batch = batches[number % len(batches)]
        state[0], trace = run_steps(loss, optimiser, state[0], frozen, batch, rates, 1)
        return np.asarray(trace.loss).tolist()

    return {
        "step": step,
        "work": lambda: step_flops(config, task["batch_size"], task["seq_len"]),
        "product": jax_sweep.open_product(),
    }


def _load(folder):
    """The architecture and the parameters, every layer a stack of its own."""
    checkpoint = weights.load(f"file:{folder / 'model'}")
    layers = tree.stack_each(checkpoint.params["layers"], np)
    params = tree.with_layers(checkpoint.params, layers)
    return checkpoint.config, jax.tree.map(jnp.array, params)


def batch(token_BT):
    """A chunk of one batch: every token predicts the next one, the last of a row nothing."""
    weight_BT = np.ones(token_BT.shape, np.float32)
    weight_BT[:, -1] = 0
    token_BT = token_BT.astype(np.int32)
    batch = Batch(token_BT, np.roll(token_BT, -1, axis=1), weight_BT)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)

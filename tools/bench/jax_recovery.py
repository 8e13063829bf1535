"""This package's side of the recovery benchmark, and the batches that both sides train on."""

import json

import numpy as np
from bench import jax_sweep

from jaxanatomy import host, weights
from jaxanatomy.data.packing import TextBatch
from jaxanatomy.data.text import load_text
from jaxanatomy.study import tokenise
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import RecoveryTrainer, Replica, recovery_step_flops

TASK, BATCH = "training.json", "batch_{}.npz"
SIGMA = 0.5


def export(folder, model_id, text, tokens, batches, layers):
    """Writes the first batches of a text, as the recovery experiment makes them, and the task.

    Args:
      folder: Where to.
      model_id: Whose tokenizer.
      text: Name of the training text.
      tokens: About how many a batch holds.
      batches: How many batches.
      layers: Which layers are trained, each by a replica of its own.
    """
    source = weights.open_model(model_id)
    made = tokenise(source, load_text(text), window=tokens, tokens_per_batch=tokens)[:batches]
    for index, batch in enumerate(made):
        arrays = {name: each for name, each in vars(batch).items() if each is not None}
        np.savez(folder / BATCH.format(index), **arrays)
    layers = list(layers) or list(range(source.config.num_layers))
    task = {"batches": len(made), "layers": layers, "sigma": SIGMA}
    (folder / TASK).write_text(json.dumps(task))
    return task


def open_trainer(folder):
    """A group of replicas, compiled and placed; commands `step`, `work` and `product`."""
    host.keep_freed_memory()  # as the command line does
    task = json.loads((folder / TASK).read_text())
    batches = [_read(folder / BATCH.format(index)) for index in range(task["batches"])]
    checkpoint = weights.load(f"file:{folder / 'model'}")
    options = RecoveryOptions(group_size=len(task["layers"]))
    trainer = RecoveryTrainer(
        checkpoint.config, task["layers"], batches, batches[:1], Optimiser(), options
    )
    trainer.compile()
    trainer.place(checkpoint.params)
    replicas = [Replica(layer, seed=layer) for layer in task["layers"]]
    group = trainer.start(replicas, task["sigma"])
    return {
        "step": lambda number: trainer.step(group, number),
        "work": lambda: recovery_step_flops(checkpoint.config, replicas, batches[0]),
        "product": jax_sweep.open_product(),
    }


def _read(path):
    with np.load(path) as arrays:
        return TextBatch(**arrays)

"""Trains the same replicas on 1 and on all devices; prints the largest differences."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from naive import CONFIG, random_params, text

from jaxanatomy.train.optimiser import AdamW
from jaxanatomy.train.options import TrainOptions
from jaxanatomy.train.recovery import RecoveryTrainer, Replica

jax.config.update("jax_numpy_rank_promotion", "raise")
REPLICAS = [Replica(layer, seed) for layer in range(4) for seed in (-1, 0, 1)][:-1]  # 11
STEPS = 10


def train(devices, backend):
    params, batches = random_params(CONFIG), [text(seed=0), text(seed=1)]
    options = TrainOptions(
        group_size=len(REPLICAS), tokens_per_call=32, devices=devices, backend=backend
    )
    layers = {replica.layer for replica in REPLICAS}
    adamw = AdamW(learning_rate=3e-3, clip=0.5)
    trainer = RecoveryTrainer(CONFIG, layers, batches, [text(seed=2)], adamw, options)
    trainer.compile()
    trainer.place(params)
    group = trainer.start(REPLICAS, sigma=0.5)
    losses = [trainer.step(group, step) for step in range(STEPS)]
    # A checkpoint may be read on another number of devices.
    other = trainer.start(REPLICAS, sigma=0.0)
    trainer.import_state(other, trainer.export_state(group))
    found = trainer.evaluate(group)
    np.testing.assert_array_equal(found, trainer.evaluate(other))
    return np.array(losses), np.array(found)


one = train(1, "shard_map")
for backend in sys.argv[1:]:
    several = train(jax.device_count(), backend)
    differences = [np.abs(a - b).max() for a, b in zip(one, several, strict=True)]
    print(backend, *differences, np.ptp(one[0], axis=0).min())

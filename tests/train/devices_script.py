"""Trains the same replicas on 1 and on all devices; prints the largest differences.

For each backend: of losses, of the evaluation, of the first moments after one step against
their size, how far the losses moved at least, and of gradients on lanes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from naive import CONFIG, random_params, text
from train_oracle import first_moments

from jaxanatomy.sweep.devices import Lanes
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import RecoveryTrainer, Replica

jax.config.update("jax_numpy_rank_promotion", "raise")
REPLICAS = [Replica(layer, seed) for layer in range(4) for seed in (-1, 0, 1)][:-1]  # 11
STEPS = 10


def train(devices, backend):
    params, batches = random_params(CONFIG), [text(seed=0), text(seed=1)]
    options = RecoveryOptions(
        group_size=len(REPLICAS), tokens_per_call=32, devices=devices, backend=backend
    )
    layers = {replica.layer for replica in REPLICAS}
    adamw = Optimiser(learning_rate=3e-3, clip_norm=0.5)
    trainer = RecoveryTrainer(CONFIG, layers, batches, [text(seed=2)], adamw, options)
    trainer.compile()
    trainer.place(params)
    group = trainer.start(REPLICAS, sigma=0.5)
    losses = [trainer.step(group, 0)]
    moments = first_moments(trainer, group)
    losses += [trainer.step(group, step) for step in range(1, STEPS)]
    # A checkpoint may be read on another number of devices.
    other = trainer.start(REPLICAS, sigma=0.0)
    trainer.import_state(other, trainer.export_state(group))
    found = trainer.evaluate(group)
    np.testing.assert_array_equal(found, trainer.evaluate(other))
    return np.array(losses), np.array(found), moments


def lane_gradients(backend):
    """The largest difference of a gradient on a lane from the one computed alone.

    The weights are the same on all lanes and the data differ: the trap. A gradient with
    respect to an input that `shard_map` knows to be replicated is summed over lanes.
    """
    lanes = Lanes(jax.devices(), backend)
    rng = np.random.default_rng(0)
    weight_DE, x_LD = rng.normal(size=(3, 4)), rng.normal(size=(lanes.count, 3))
    weight_DE, x_LD = weight_DE.astype(np.float32), x_LD.astype(np.float32)

    def gradient(weight_DE, x_D):
        return jax.grad(lambda weight_DE: jnp.sum(jnp.tanh(x_D @ weight_DE)))(weight_DE)

    found = lanes.wrap(gradient)(lanes.replicate(weight_DE), lanes.put(list(x_LD)))
    expected = [gradient(weight_DE, x_D) for x_D in x_LD]
    return np.abs(np.asarray(found) - np.asarray(expected)).max()


one = train(1, "shard_map")
for backend in sys.argv[1:]:
    several = train(jax.device_count(), backend)
    differences = [np.abs(a - b).max() for a, b in zip(one, several, strict=True)]
    differences[2] /= np.abs(one[2]).max()
    print(backend, *differences, np.ptp(one[0], axis=0).min(), lane_gradients(backend))

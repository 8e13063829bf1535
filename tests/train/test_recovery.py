"""Replicas trained at once against each trained alone through the whole model."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, random_params, text
from train_oracle import arrays, first_moments, flat, naive_loss, naive_training

from jaxanatomy import tree
from jaxanatomy.interventions.noise import recovery_noise
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import RecoveryTrainer, Replica

STEPS, SIGMA = 10, 0.5
CLIP = 3.0  # between the norms of two replicas' gradients
REPLICAS = (Replica(0, 0), Replica(1), Replica(1, 7), Replica(3, 3), Replica(3, 4))


def trained(config, params, batches, evaluation, replicas, adamw, options=None):
    """Losses [steps, replicas] and the final mean losses on the evaluation text."""
    layers = {replica.layer for replica in replicas}
    trainer = RecoveryTrainer(config, layers, batches, [evaluation], adamw, options)
    trainer.compile()
    trainer.place(params)
    group = trainer.start(replicas, SIGMA)
    losses = [trainer.step(group, step) for step in range(STEPS)]
    return np.array(losses), [nll_P.mean() for nll_P in trainer.evaluate(group)]


def padded(batch, predictions=4):
    """A batch with fewer predictions than others of its text have."""
    return dataclasses.replace(
        batch,
        predict_P=np.pad(batch.predict_P, (0, predictions)),
        target_P=np.pad(batch.target_P, (0, predictions)),
        document_P=np.pad(batch.document_P, (0, predictions), constant_values=-1),
        first_P=np.pad(batch.first_P, (0, predictions)),
    )


def damaged(params, replica):
    """The layer that a replica starts from."""
    own = params["layers"][replica.layer]
    return recovery_noise(own, sigma=SIGMA, seed=replica.seed) if replica.noise else own


@pytest.mark.slow
def test_the_first_moments_are_gradients_after_clipping():
    """AdamW divides by the size of a gradient, so that losses do not show a wrong one."""
    config = CONFIG.with_layers(CONFIG.layers[:3])
    params, batch, replicas = random_params(config), padded(text()), (Replica(0, 7), Replica(1))
    options = RecoveryOptions(group_size=2, tokens_per_call=32)  # widths 2, 1
    trainer = RecoveryTrainer(config, [0, 1], [batch], [batch], Optimiser(clip_norm=CLIP), options)
    trainer.compile()
    trainer.place(params)
    group = trainer.start(replicas, SIGMA)
    trainer.step(group, 0)
    norms = []
    for replica, found in zip(replicas, first_moments(trainer, group), strict=True):
        gradient = jax.grad(functools.partial(naive_loss, config, replica.layer))
        expected = flat(gradient(damaged(params, replica), params, *arrays(batch)))
        norms.append(np.linalg.norm(expected))
        expected *= 0.1 * min(1.0, CLIP / norms[-1])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert min(norms) < CLIP < max(norms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "rows", "replicas", "clip_norm", "epsilon"),
    # The oracle compiles the whole model for each replica. A large epsilon and no clipping:
    # updates are as large as gradients are.
    [
        (CONFIG, 1, REPLICAS, 0.5, 1e-8),
        (MIXED_SHAPES, 2, (REPLICAS[2], REPLICAS[3]), 100.0, 0.1),
    ],
)
def test_losses_are_those_of_training_each_replica_alone(
    config, rows, replicas, clip_norm, epsilon
):
    params = random_params(config)
    batches = [text(rows=rows, seed=seed) for seed in (0, 1, 2)]
    evaluation = text(rows=rows, seed=9)
    adamw = Optimiser(learning_rate=3e-3, clip_norm=clip_norm, epsilon=epsilon)
    options = RecoveryOptions(tokens_per_call=48)  # widths 3, 2, 1 or, in two rows, 2, 1
    losses, final = trained(config, params, batches, evaluation, replicas, adamw, options)
    for index, replica in enumerate(replicas):
        own = damaged(params, replica)
        expected, expected_final = naive_training(
            config,
            params,
            replica.layer,
            own,
            batches,
            evaluation,
            STEPS,
            learning_rate=3e-3,
            clip_norm=clip_norm,
            eps=epsilon,
        )
        np.testing.assert_allclose(losses[:, index], expected, rtol=0, atol=1e-5)
        assert final[index] == pytest.approx(expected_final, abs=1e-5)
        assert abs(expected[-1] - expected[0]) > 0.01


def test_layers_with_ln_scaling_train_as_they_act():
    scaled = dataclasses.replace(CONFIG.with_layers(CONFIG.layers[:2]), ln_scaling=True)
    params, batch = random_params(scaled), text()
    losses = [
        trained(*model, [batch], batch, (Replica(1, 7),), Optimiser())[0]
        for model in ((scaled, params), tree.fold_norms(scaled, params))
    ]
    np.testing.assert_array_equal(*losses)

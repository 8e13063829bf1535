"""Replicas trained at once against each trained alone through the whole model."""

import numpy as np
import pytest
from naive import CONFIG, MIXED_SHAPES, random_params, text
from train_oracle import naive_training

from jaxanatomy.interventions.noise import recovery_noise
from jaxanatomy.train.optimiser import AdamW
from jaxanatomy.train.options import TrainOptions
from jaxanatomy.train.recovery import RecoveryTrainer, Replica

STEPS, SIGMA = 10, 0.5
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "rows", "replicas"),
    # The oracle compiles the whole model for each replica.
    [(CONFIG, 1, REPLICAS), (MIXED_SHAPES, 2, (REPLICAS[2], REPLICAS[3]))],
)
def test_losses_are_those_of_training_each_replica_alone(config, rows, replicas):
    params = random_params(config)
    batches = [text(rows=rows, seed=seed) for seed in (0, 1, 2)]
    evaluation = text(rows=rows, seed=9)
    adamw = AdamW(learning_rate=3e-3, clip=0.5)
    options = TrainOptions(tokens_per_call=48)  # widths 3, 2, 1 or, in two rows, 2, 1
    losses, final = trained(config, params, batches, evaluation, replicas, adamw, options)
    for index, replica in enumerate(replicas):
        own = params["layers"][replica.layer]
        if replica.noise:
            own = recovery_noise(own, sigma=SIGMA, seed=replica.seed)
        expected, expected_final = naive_training(
            *(config, params, replica.layer, own, batches, evaluation, STEPS),
            learning_rate=3e-3,
            clip=0.5,
        )
        np.testing.assert_allclose(losses[:, index], expected, rtol=0, atol=1e-5)
        assert final[index] == pytest.approx(expected_final, abs=1e-5)
        assert abs(expected[-1] - expected[0]) > 0.01

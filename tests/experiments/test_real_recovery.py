"""Noise and recovery of the default model against values computed independently."""

import numpy as np
import pytest

from jaxanatomy import weights
from jaxanatomy.data.text import load_text
from jaxanatomy.study import tokenise
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import RecoveryTrainer, Replica

pytestmark = pytest.mark.real

NOISED = {11: 1362.0, 14: 38.4}


@pytest.fixture(scope="module")
def trainer():
    model = weights.load(weights.DEFAULT_MODEL)
    texts = [tokenise(model, load_text(name)) for name in ("recovery_training", "sentences")]
    options = RecoveryOptions(group_size=3, tokens_per_call=1)
    trainer = RecoveryTrainer(model.config, [11, 14, 17], *texts, Optimiser(), options)
    trainer.compile()
    trainer.place(model.params)
    return trainer


def perplexities(trainer, group):
    return [float(np.exp(nll_P.mean(dtype=np.float64))) for nll_P in trainer.evaluate(group)]


def test_noise_of_the_default_seeds(trainer):
    replicas = [Replica(11, 11), Replica(14), Replica(14, 14)]
    layer_11, undamaged, layer_14 = perplexities(trainer, trainer.start(replicas, 0.5))
    assert undamaged == pytest.approx(26.5343, rel=1e-5)
    assert layer_11 == pytest.approx(NOISED[11], rel=1e-3)
    assert layer_14 == pytest.approx(NOISED[14], rel=1e-3)


@pytest.mark.slow
def test_sixty_steps_of_layer_17(trainer):
    group = trainer.start([Replica(17, 17)], 0.5)
    for step in range(60):
        trainer.step(group, step)
    assert perplexities(trainer, group) == [pytest.approx(23.25, rel=1e-2)]

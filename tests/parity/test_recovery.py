"""Noise and recovery of the real model against a torch loop on live transformers.

Needs the `[parity]` extra (torch). The loop is the one that `tools/bench_recovery.py` times:
its own noise, autograd through live transformers, and `torch.optim.AdamW`; here on padded
sentences, while ours are packed.
"""

import importlib
import pathlib

import numpy as np
import pytest
from parity_marks import PARITY

from jaxanatomy import weights
from jaxanatomy.data.text import load_text
from jaxanatomy.study import tokenise
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import RecoveryTrainer, Replica

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY, pytest.mark.real]

TOOLS = pathlib.Path(__file__).parents[2] / "tools"
TABLE5 = (0, 1, 3, 5, 8, 10, 11, 14, 17, 23, 24, 27, 29)
# The layers of Table 5 that train here: few frozen layers lie above them.
TRAINED = (17, 29)
SIGMA, STEPS, EVERY = 0.5, 20, 10


@pytest.fixture(scope="module")
def checkpoint():
    return weights.load(weights.DEFAULT_MODEL)


@pytest.fixture(scope="module")
def theirs(checkpoint, tmp_path_factory):
    """Layers -> their loop on the training sentences, and the text to evaluate on."""
    folder = tmp_path_factory.mktemp("smollm2")
    weights.export_hf(checkpoint, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        loops = importlib.import_module("bench.torch_loops")
        loop = importlib.import_module("bench.torch_recovery")
    train, evaluation = (
        loops.padded([checkpoint.tokenizer.encode(each) for each in load_text(name).documents])
        for name in ("recovery_training", "sentences")
    )
    model = loops.load_model(folder)
    return lambda layers: (loop.Recovery(model, layers, [train], SIGMA), evaluation)


@pytest.fixture(scope="module")
def ours(checkpoint):
    """Layers -> a trainer and its group."""

    def start(layers):
        texts = [
            tokenise(checkpoint, load_text(name)) for name in ("recovery_training", "sentences")
        ]
        options = RecoveryOptions(group_size=len(layers))
        trainer = RecoveryTrainer(checkpoint.config, layers, *texts, Optimiser(), options)
        trainer.compile()
        trainer.place(checkpoint.params)
        return trainer, trainer.start([Replica(layer, layer) for layer in layers], SIGMA)

    return start


def perplexities(trainer, group):
    return [np.exp(nll_P.mean(dtype=np.float64)) for nll_P in trainer.evaluate(group)]


def test_noise_of_the_layers_of_table_5(ours, theirs):
    loop, evaluation = theirs(TABLE5)
    expected = loop.perplexities(evaluation)
    assert perplexities(*ours(TABLE5)) == pytest.approx(expected, rel=1e-3)
    assert max(expected) > 1000 > 40 > min(expected)


def test_curves_over_twenty_steps(ours, theirs):
    (trainer, group), (loop, evaluation) = ours(TRAINED), theirs(TRAINED)
    for step in range(STEPS):
        losses, expected = trainer.step(group, step), loop.step(step)
        assert losses == pytest.approx(expected, rel=1e-2)
        if (step + 1) % EVERY == 0:
            expected = loop.perplexities(evaluation)
            assert perplexities(trainer, group) == pytest.approx(expected, rel=1e-2)

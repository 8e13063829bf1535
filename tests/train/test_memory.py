"""Memory on paper, against sums of parts written out and against the compiler's own figures."""

import dataclasses
import functools

import jax
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import KHop
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.hops import HopLoss, Sequences
from jaxanatomy.train.loop import run_steps
from jaxanatomy.train.lowering import step_arguments
from jaxanatomy.train.memory import describe_runs, step_memory
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import Setup, TrainOptions

ROWS, LENGTH, CHUNK = 8, 64, 3
CONFIG = ModelConfig.uniform(
    4, 4, 2, 256, vocab_size=512, hidden_size=64, head_dim=16, context_length=LENGTH
)
STAGE = Stage(CONFIG, 1)
MATRICES = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 256  # of a layer
NORMS = 2 * 64


def setup(placement, seeds=(0,), **options):
    stages = (STAGE,)
    options = TrainOptions(steps_per_call=CHUNK, **options)
    return Setup(stages, Optimiser(), WarmupStableDecay(1e-3), seeds, placement, options)


def here():
    return Placement.over(jax.devices()[:1])


@pytest.mark.parametrize(
    ("remat", "grad_accum_steps", "seeds", "scan_layers"),
    [
        ("none", 1, (0,), True),
        ("dots", 4, (0,), True),
        ("full", 1, (0,), True),
        ("full", 1, (0, 5), True),
        ("none", 1, (0, 5), False),
    ],
)
def test_against_the_compiler(remat, grad_accum_steps, seeds, scan_layers):
    made = setup(
        here(), seeds, remat=remat, grad_accum_steps=grad_accum_steps, scan_layers=scan_layers
    )
    memory = step_memory(made, STAGE, ROWS, LENGTH)
    arguments, options = step_arguments(made, STAGE, ROWS, LENGTH)
    compiled = run_steps.trace(*arguments, **options).lower().compile().memory_analysis()
    alive, rates, count = len(seeds), 4 * CHUNK * len(seeds), 4
    assert compiled.argument_size_in_bytes == memory.held + alive + rates + count
    state = memory.parameters + memory.moments + alive
    leaves = 2 + 9 * (
        1 if scan_layers else 4
    )  # the ends, and of each stack seven matrices, two norms
    pointers = 8 * (3 * leaves + 1 + 1 + 3)  # two moments, a count, alive, the trace
    assert compiled.output_size_in_bytes == state + 3 * rates + pointers
    # Without a loop the compiler has more to merge.
    assert (0.9 if scan_layers else 0.7) < compiled.temp_size_in_bytes / memory.temporary < 1.4


@pytest.mark.parametrize("seeds", [(0,), (0, 5)])
def test_of_sequences_made_by_rule_against_the_compiler(seeds):
    task = KHop(alphabet=4, seq_len=LENGTH, hops=3)
    objective = {"objective": functools.partial(HopLoss, task), "make_batch": Sequences(task)}
    made = dataclasses.replace(setup(here(), seeds), **objective)
    memory = step_memory(made, STAGE, ROWS, LENGTH)
    arguments, options = step_arguments(made, STAGE, ROWS, LENGTH)
    compiled = run_steps.trace(*arguments, **options).lower().compile().memory_analysis()
    assert memory.batches == CHUNK * len(seeds) * ROWS * 3 * 4
    other = len(seeds) * (1 + 4 * CHUNK) + 4  # alive, rates, and a count
    assert compiled.argument_size_in_bytes == memory.held + other
    assert 0.9 < compiled.temp_size_in_bytes / memory.temporary < 1.4


def test_cut_arrays_count_by_their_parts():
    whole = 4 * (MATRICES + NORMS) + 512 * 64 + 64
    cut = step_memory(setup(Placement.abstract(8, 4, 64 * 32 + 1)), STAGE, 32, LENGTH)
    # Stacks of 4 layers are cut where they have more than 64 * 32 elements: all but norms.
    part = MATRICES + 512 * 64 // 4 + 4 * NORMS + 64
    assert cut.parameters == 4 * part
    assert cut.moments == 2 * 4 * part + 4  # and a count
    assert cut.gradients == 4 * part
    assert cut.gathered == 2 * 4 * (MATRICES + NORMS + 512 * 64 + 64)
    assert cut.batches == CHUNK * 5 * 4 * LENGTH * 32 // 8
    alone = step_memory(setup(Placement.abstract(8)), STAGE, 32, LENGTH)
    assert alone.parameters == 4 * whole
    assert alone.gathered == 0
    assert alone.layers == step_memory(setup(here()), STAGE, 4, LENGTH).layers


def test_a_layer_that_is_computed_again_keeps_its_input_alone():
    memory = step_memory(setup(here(), remat="full"), STAGE, ROWS, LENGTH)
    shallow = Stage(dataclasses.replace(CONFIG, layers=CONFIG.layers[:1]), 1)
    one = step_memory(setup(here(), remat="full"), shallow, ROWS, LENGTH)
    stream = 4 * ROWS * LENGTH * 64
    scales = 4 * NORMS  # of every layer, which the rule of LN-scaling may have changed
    assert memory.layers - one.layers in (3 * stream, 3 * (stream + scales))


def test_parts_of_a_batch_and_seeds():
    memory = step_memory(setup(here()), STAGE, ROWS, LENGTH)
    parts = step_memory(setup(here(), grad_accum_steps=4), STAGE, ROWS, LENGTH)
    assert parts.gradients == 2 * memory.gradients
    assert parts.layers * 3 < memory.layers < parts.layers * 5
    assert parts.evaluation == memory.evaluation > parts.layers / 4
    assert memory.scoring == memory.evaluation
    assert parts.scoring * 3 < memory.scoring < parts.scoring * 5
    both = step_memory(setup(here(), seeds=(0, 1)), STAGE, ROWS, LENGTH)
    assert both.total == pytest.approx(2 * memory.total, rel=1e-6)


def test_whole_copies_of_cut_parameters_are_not_kept():
    """Whatever is cut is gathered again on the way back: it would be whole on every device."""
    cut = step_memory(setup(Placement.abstract(4, 4, 1)), STAGE, 4, LENGTH)
    alone = step_memory(setup(Placement.abstract(4)), STAGE, 4, LENGTH)
    assert cut.layers <= 1.2 * alone.layers


def test_in_words():
    setups = [setup(Placement.abstract(4, 2, 1)), setup(Placement.abstract(4, 2, 1), remat="full")]
    memory = step_memory(setups[0], STAGE, 64, LENGTH)
    (line,) = describe_runs(setups, 64, LENGTH, lower=False)
    assert line.startswith(
        f"memory of each of 4 devices, 4 layers: {memory.total / 1e9:.2f} GB on paper (GB: "
    )
    assert f"layers {memory.layers / 1e9:.2f}, head {memory.head / 1e9:.2f}" in line
    assert "recomputed" not in line
    # The deepest stage of any arm counts.
    shallow = dataclasses.replace(CONFIG, layers=CONFIG.layers[:1])
    first = dataclasses.replace(setups[0], stages=(Stage(shallow, 1),))
    assert describe_runs([first, *setups], 64, LENGTH, lower=False) == [line]
    # Both have the same stage: a step, an evaluation and the scoring of questions.
    assert describe_runs(setups, 64, LENGTH, lower=True) == [
        line,
        "lowered for 4 devices of tpu and cuda: 3 programs",
    ]

"""Programs lowered on paper: they are those that a run calls, and they compute the same."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from growing_run import LENGTH, OPTIONS, ROWS, SCHEDULE, STAGES, Counting, watching

from jaxanatomy.train import evaluation, trainer
from jaxanatomy.train.loop import Trace, run_steps
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.lowering import (
    export_growth,
    export_run,
    export_stage,
    step_arguments,
)
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.setup import Setup


class Packed(Counting):
    """Batches with positions and segments, as those of text."""

    def next(self):
        batch = super().next()
        zeros = np.zeros_like(batch.token_BT)
        return batch._replace(position_BT=zeros + np.arange(LENGTH)[None], segment_BT=zeros)


def setup(placement=None, seeds=(0,), **changes):
    placement = placement or Placement.over(jax.devices()[:1])
    options = dataclasses.replace(OPTIONS, **changes)
    return Setup(STAGES, Optimiser(), SCHEDULE, seeds, placement, options)


def described(tree):
    """Structure, shapes and types; of placed arrays also where they lie."""

    def leaf(value):
        spec = list(value.sharding.spec) if value.ndim else []
        while spec and spec[-1] is None:
            spec.pop()
        return value.shape, str(value.dtype), spec

    leaves, structure = jax.tree.flatten(tree)
    return structure, list(map(leaf, leaves))


@pytest.mark.parametrize("seeds", [(0,), (0, 3)])
def test_arguments_are_those_of_a_run(monkeypatch, tmp_path, seeds):
    calls = []

    def spy(*arguments, **options):
        calls.append((arguments, options, *map(described, arguments[2:-1])))
        assert jax.config.jax_default_matmul_precision == "highest"
        return arguments[2], Trace(*[np.zeros(arguments[5].shape)] * 3)

    monkeypatch.setattr(trainer, "run_steps", spy)
    scored = np.zeros((len(seeds), ROWS, LENGTH)), np.ones((ROWS, LENGTH))
    monkeypatch.setattr(evaluation, "target_nll", lambda *_: scored)
    made = setup(seeds=seeds, checkpoint_every=100)
    streams = [Packed(100 + seed) for seed in seeds]
    trainer.Trainer(made, streams).train(tmp_path, watching())
    for called, stage in ((calls[0], STAGES[0]), (calls[-1], STAGES[1])):
        arguments, options = step_arguments(made, stage, ROWS, LENGTH)
        assert arguments[:2] == called[0][:2]
        assert options == called[1]
        for found, expected in zip(arguments[2:-1], called[2:], strict=True):
            (structure, leaves), (expected_structure, expected_leaves) = described(found), expected
            assert leaves == expected_leaves
            assert isinstance(found, Batch) or structure == expected_structure


def test_a_lowered_step_computes_the_same():
    made = setup()
    stage = STAGES[0]
    arguments, options = step_arguments(made, stage, ROWS, LENGTH)
    exported = export_stage(made, stage, ROWS, LENGTH, platforms=["cpu"])["step"]
    rng = np.random.default_rng(0)

    def value(leaf):
        if leaf.dtype == bool:
            return np.ones(leaf.shape, bool)
        drawn = rng.random(leaf.shape) if leaf.dtype == np.float32 else rng.integers(0, 9)
        return np.asarray(drawn * np.ones(leaf.shape)).astype(leaf.dtype)

    state, frozen, batches, rates, _ = jax.tree.map(value, arguments[2:])
    expected = run_steps(*arguments[:2], state, frozen, batches, rates, 2, **options)
    found = exported.call(state, frozen, batches, rates, np.int32(2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    assert np.isfinite(expected[1].loss).tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_float32_keep_all_bits_on_accelerators(dtype):
    made, stage = setup(dtype=dtype), STAGES[0]
    for program in export_stage(made, stage, ROWS, LENGTH, platforms=["tpu"]).values():
        text = program.mlir_module()
        products = re.findall(r"stablehlo\.dot_general.*", text)
        exact = ["precision = [HIGHEST, HIGHEST]" in product for product in products]
        assert set(exact) == {dtype == "float32"}


def test_programs_for_devices_that_are_not_here():
    made = setup(Placement.abstract(8, fsdp_shards=4, min_sharded_size=1))
    found = export_run(made, ROWS, LENGTH)
    steps = ["step, 2 layers", "step, 4 layers"]
    evaluations = ["evaluation, 2 layers", "evaluation, 4 layers"]
    last = ["growth to 4 layers", "scoring, 4 layers"]
    assert sorted(found) == sorted([*steps, *evaluations, *last])
    for program in found.values():
        assert program.platforms == ("tpu", "cuda")
        assert program.nr_devices == 8
    _, state, _ = made.like(STAGES[1])
    leaves = jax.tree.leaves((state.params, state.moments))
    grown = found["growth to 4 layers"]
    assert [aval.shape for aval in grown.out_avals] == [leaf.shape for leaf in leaves]
    lies = grown.out_shardings_jax(made.placement.mesh)
    for leaf, found in zip(leaves, lies, strict=True):
        assert found.is_equivalent_to(leaf.sharding, leaf.ndim)
    assert sum("shard" in found.spec for found in lies) == 3 * 11  # all but the count


def test_seeds_side_by_side_are_lowered_too():
    made = setup(Placement.abstract(1), seeds=(0, 1))
    found = export_stage(made, STAGES[1], ROWS, LENGTH, platforms=["cuda"])
    assert found["step"].out_avals[-1].shape == (OPTIONS.steps_per_call, 2)
    assert found["evaluation"].out_avals[0].shape == (2, ROWS, LENGTH)
    grown = export_growth(made, 1, platforms=["cuda"])
    assert grown.out_avals[0].shape[0] == 2

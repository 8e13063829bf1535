"""Checkpoints of a run: whole or not there, also where the disk is full."""

import errno
import logging
import shutil

import fuzz
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.train import snapshots as snapshots_module
from jaxanatomy.train.snapshots import Snapshot, Snapshots

CONFIG = ModelConfig.uniform(2, 2, 1, 8, vocab_size=9, hidden_size=8, head_dim=4)
FULL = OSError(errno.ENOSPC, "No space left on device")


def snapshot(step):
    params = {"w": jnp.full((4, 4), float(step))}
    return Snapshot(step, CONFIG, params, {"mu": params["w"] / 2}, {"tokens": 10 * step})


def restored(snapshots):
    config, meta = snapshots.read_meta()
    shape = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=jnp.zeros(1).sharding)
    params, moments = snapshots.restore({"w": shape}, {"mu": shape})
    return config, meta, float(params["w"][0, 0]), float(moments["mu"][0, 0])


def test_the_last_ones_stay_and_are_read_back(tmp_path):
    with Snapshots(tmp_path, max_to_keep=2) as snapshots:
        assert (snapshots.latest, snapshots.read_meta()) == (None, None)
        for step in (1, 2, 3):
            snapshots.save(snapshot(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    with Snapshots(tmp_path) as snapshots:
        assert snapshots.latest == 3
        assert restored(snapshots) == (CONFIG, {"tokens": 30}, 3.0, 1.5)


@pytest.mark.parametrize("method", ["async_save", "finalize"])
def test_a_full_disk_leaves_the_last_whole_one(tmp_path, monkeypatch, caplog, method):
    """It may show at once, or later in the background."""

    async def full_at_once(*arguments, **kwargs):
        raise FULL

    def full_later(*arguments, **kwargs):
        raise FULL

    full = full_at_once if method == "async_save" else full_later
    caplog.set_level(logging.WARNING, logger="absl")
    with Snapshots(tmp_path, max_to_keep=1) as snapshots:
        snapshots.save(snapshot(1))
    with monkeypatch.context() as patch:
        patch.setattr(ocp.StandardCheckpointHandler, method, full)
        with pytest.raises(InputError) as error, Snapshots(tmp_path, max_to_keep=1) as snapshots:
            snapshots.save(snapshot(2))
    assert str(error.value) == (
        f"expected to write a checkpoint to {tmp_path}; [Errno 28] No space left on device; the "
        "last whole one is of step 1; make room and start again, and the run goes on from there"
    )
    assert caplog.records == []  # no tracebacks of Orbax before that line
    assert logging.getLogger("absl").level == logging.WARNING
    with Snapshots(tmp_path, max_to_keep=1) as snapshots:
        assert restored(snapshots)[1:] == ({"tokens": 10}, 1.0, 0.5)
        snapshots.save(snapshot(2))
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_without_any_whole_one_the_message_says_so(tmp_path, monkeypatch):
    def full(*arguments, **kwargs):
        raise FULL

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", full)
    with pytest.raises(InputError, match="there is none yet"), Snapshots(tmp_path) as snapshots:
        snapshots.save(snapshot(1))


def test_the_first_failure_is_told(tmp_path, monkeypatch):
    def full(*arguments, **kwargs):
        raise FULL

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", full)

    def train():
        with Snapshots(tmp_path) as snapshots:
            snapshots.save(snapshot(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


def test_a_damaged_one_is_named(tmp_path):
    with Snapshots(tmp_path) as snapshots:
        snapshots.save(snapshot(4))
    for path in (tmp_path / "4" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with Snapshots(tmp_path) as snapshots:
        assert snapshots.read_meta()[1] == {"tokens": 40}
        with pytest.raises(InputError, match=r"whole checkpoint .* move .*/4 away, and .* anew"):
            restored(snapshots)
    with Snapshots(tmp_path) as snapshots:
        snapshots.save(snapshot(6))
        snapshots.wait()
        shutil.rmtree(tmp_path / "6" / "params")
        with pytest.raises(InputError, match=r"at step 6; .* goes on from step 4"):
            restored(snapshots)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="folder for checkpoints that can be written"):
        Snapshots(tmp_path / "file" / "below")


def test_arrays_may_be_changed_as_soon_as_saving_has_begun(tmp_path):
    first = snapshot(1)
    with Snapshots(tmp_path) as snapshots:
        snapshots.save(first)
        jax.tree.map(lambda leaf: leaf.delete(), first.params)
    with Snapshots(tmp_path) as snapshots:
        np.testing.assert_equal(restored(snapshots)[2:], (1.0, 0.5))


def test_one_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)
    saved = Snapshot(1, CONFIG, {"w": values}, {"mu": 2 * values}, {"losses": [None]})
    with Snapshots(tmp_path / "run") as snapshots:
        snapshots.save(saved)

    def read():
        with Snapshots(tmp_path / "run") as snapshots:
            config, meta = snapshots.read_meta()
            shape = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=values.sharding)
            return config, meta, snapshots.restore({"w": shape}, {"mu": shape})

    refused = 0
    for path in fuzz.flipped_bits(tmp_path / "run" / "1", 30):
        found = fuzz.reads_or_refuses(read)
        if found is None:
            refused += 1
            continue
        config, meta, (params, moments) = found
        assert (config, str(meta)) == (CONFIG, str({"losses": [None]})), path
        np.testing.assert_array_equal(params["w"], values, err_msg=str(path))
        np.testing.assert_array_equal(moments["mu"], 2 * values, err_msg=str(path))
    assert refused >= 8


def test_arrays_that_are_not_those_that_were_saved_are_named_with_the_remedy(tmp_path, monkeypatch):
    with Snapshots(tmp_path) as snapshots:
        snapshots.save(snapshot(1))
        snapshots.save(snapshot(2))
        sums = snapshots_module.array_checksums
        monkeypatch.setattr(
            snapshots_module, "array_checksums", lambda tree: {**sums(tree), "[1]['mu']": 5}
        )
        snapshots.save(snapshot(3))
        monkeypatch.undo()
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError) as refused:
        restored(snapshots)
    assert "at step 3; the values of [1]['mu'] are not those that were saved;" in str(refused.value)
    assert "/3 away, and the run goes on from step 2" in str(refused.value)
    shutil.rmtree(tmp_path / "3")  # as it says
    with Snapshots(tmp_path) as snapshots:
        assert restored(snapshots)[1:] == ({"tokens": 20}, 2.0, 1.0)

import dataclasses
import shutil

import fuzz
import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxanatomy import tree, weights
from jaxanatomy.errors import InputError
from jaxanatomy.weights import orbax_io


@pytest.fixture
def folder(checkpoint, tmp_path):
    return weights.save_orbax(checkpoint, tmp_path / "saved")


def test_a_saved_model_is_restored(checkpoint, folder):
    source = weights.open_model(f"orbax:{folder}")
    assert source.config == checkpoint.config
    loaded = source.load()
    assert isinstance(loaded.params["layers"], tuple)
    for leaf, array in tree.to_leaves(checkpoint.params).items():
        restored = tree.to_leaves(loaded.params)[leaf]
        assert isinstance(restored, np.ndarray)
        np.testing.assert_array_equal(restored, array, err_msg=leaf)
    assert loaded.tokenizer.encode("hello 1") == checkpoint.tokenizer.encode("hello 1")
    assert loaded.sha256 == orbax_io.params_sha256(checkpoint.params)


def test_arrays_of_jax_are_saved_and_restored_in_another_dtype(checkpoint, tmp_path):
    on_device = dataclasses.replace(
        checkpoint, params=jax.tree.map(jax.numpy.asarray, checkpoint.params), tokenizer=None
    )
    folder = weights.save_orbax(on_device, tmp_path / "saved")
    loaded = weights.load(f"orbax:{folder}", "bfloat16")
    kernel = checkpoint.params["layers"][1]["mlp"]["up_proj"]["kernel"]
    restored = loaded.params["layers"][1]["mlp"]["up_proj"]["kernel"]
    np.testing.assert_array_equal(restored, kernel.astype(ml_dtypes.bfloat16))
    assert loaded.tokenizer is None


def test_the_hash_depends_on_names_shapes_dtypes_and_values(checkpoint):
    params = checkpoint.params
    one = orbax_io.params_sha256(params)
    swapped = {**params, "layers": params["layers"][::-1]}
    copied = jax.tree.map(np.copy, params)
    assert orbax_io.params_sha256(copied) == one != orbax_io.params_sha256(swapped)
    scale = params["final_norm"]["scale"]
    for same_bytes in (scale.reshape(8, 8), scale.view(np.int32)):
        other = {**params, "final_norm": {"scale": same_bytes}}
        assert orbax_io.params_sha256(other) != one


def test_the_latest_step_is_read_and_other_items_are_left_alone(checkpoint, tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step, scale in ((10, 1.0), (20, 2.0)):
            params = jax.tree.map(lambda array, scale=scale: array * np.float32(scale),
                                  checkpoint.params)  # fmt: skip
            items = ocp.args.Composite(
                meta=ocp.args.JsonSave(
                    orbax_io.meta(dataclasses.replace(checkpoint, params=params))
                ),
                params=ocp.args.PyTreeSave(params),
                optimiser=ocp.args.PyTreeSave({"count": np.ones(3)}),
            )
            manager.save(step, args=items)
        manager.wait_until_finished()
    loaded = weights.load(f"orbax:{tmp_path / 'run'}")
    expected = 2 * checkpoint.params["embed"]["embedding"]
    np.testing.assert_array_equal(loaded.params["embed"]["embedding"], expected)


def test_an_occupied_folder_is_refused(checkpoint, folder):
    with pytest.raises(InputError, match="must be new or an empty folder"):
        weights.save_orbax(checkpoint, folder)


def test_nan_is_named(checkpoint, tmp_path):
    params = jax.tree.map(np.copy, checkpoint.params)
    params["layers"][1]["attention"]["v_proj"]["kernel"][0, 0] = np.nan
    weights.save_orbax(dataclasses.replace(checkpoint, params=params), tmp_path / "saved")
    with pytest.raises(
        InputError, match="NaN or Inf as float32 in layers/1/attention/v_proj/kernel"
    ):
        weights.load(f"orbax:{tmp_path / 'saved'}")


def test_params_that_do_not_fit_are_named(checkpoint, tmp_path):
    params = {**checkpoint.params, "layers": checkpoint.params["layers"][:1]}
    params["final_norm"] = {"scale": np.ones(8, np.float32)}
    weights.save_orbax(dataclasses.replace(checkpoint, params=params), tmp_path / "saved")
    with pytest.raises(InputError) as caught:
        weights.open_model(f"orbax:{tmp_path / 'saved'}")
    assert "9 missing: layers/1/attention/q_proj/kernel" in str(caught.value)
    assert "final_norm/scale (8,) instead of (64,)" in str(caught.value)


def test_what_is_no_checkpoint_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no complete Orbax checkpoint"):
        weights.open_model(f"orbax:{tmp_path / 'empty'}")
    with pytest.raises(InputError, match="must be an existing path"):
        weights.open_model(f"orbax:{tmp_path / 'absent'}")
    shutil.rmtree(folder / "0" / "params" / "d")
    shutil.rmtree(folder / "0" / "params" / "ocdbt.process_0")
    with pytest.raises(InputError, match="must be an Orbax checkpoint of jaxanatomy"):
        weights.load(f"orbax:{folder}")
    shutil.rmtree(folder / "0" / "meta")
    with pytest.raises(InputError, match="must be an Orbax checkpoint of jaxanatomy"):
        weights.load(f"orbax:{folder}")


def test_one_flipped_bit_is_refused_or_changes_nothing(checkpoint, folder):
    expected = tree.to_leaves(checkpoint.params)
    refused = 0
    for path in fuzz.flipped_bits(folder, 40):
        loaded = fuzz.reads_or_refuses(weights.load, f"orbax:{folder}")
        if loaded is None:
            refused += 1
            continue
        assert loaded.config == checkpoint.config, path
        assert loaded.tokenizer.to_dict() == checkpoint.tokenizer.to_dict(), path
        for leaf, array in tree.to_leaves(loaded.params).items():
            np.testing.assert_array_equal(array, expected[leaf], err_msg=f"{path} {leaf}")
    assert refused >= 30


def test_other_weights_under_the_old_hash_are_refused_with_the_remedy(checkpoint, tmp_path):
    params = jax.tree.map(lambda array: -array, checkpoint.params)
    items = ocp.args.Composite(
        meta=ocp.args.JsonSave(orbax_io.meta(checkpoint)), params=ocp.args.PyTreeSave(params)
    )
    with ocp.CheckpointManager(tmp_path / "saved") as manager:
        manager.save(0, args=items)
        manager.wait_until_finished()
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(InputError, match=r"have the hash .*, when saved .*; give a"):
            weights.load(f"orbax:{tmp_path / 'saved'}", dtype)


ONE_OF_TWO = """
import os, sys
from pathlib import Path
import jax
process = int(os.environ["PROCESS_INDEX"])
jax.distributed.initialize(os.environ["COORDINATOR"], 2, process)
from jax.experimental.multihost_utils import process_allgather
from jaxanatomy import weights
origin, folder = map(Path, sys.argv[1:])
for reader in (1, 0):
    if process == reader:
        loaded = weights.load(f"orbax:{origin}")
        print(loaded.sha256)
        try:
            saved = weights.save_orbax(loaded, folder / "new")
            print(weights.load(f"orbax:{saved}").sha256)
        except ValueError as error:
            print(error)
    process_allgather(jax.numpy.zeros(1))
print("together")
"""


@pytest.mark.slow
def test_of_several_processes_each_loads_alone_and_the_first_saves(folder, tmp_path, run_python):
    sha256 = weights.load(f"orbax:{folder}").sha256
    printed = run_python(ONE_OF_TWO, folder, tmp_path, devices=1, processes=2, timeout=120)
    first, second = ([line for line in each.splitlines() if "Gloo" not in line] for each in printed)
    assert first == [sha256, sha256, "together"]
    assert second[0] == sha256
    assert "the first must save a checkpoint; got process 1; call save_orbax where" in second[1]
    assert second[2:] == ["together"]

import shutil
import threading

import jax
import numpy as np
import pytest

from jaxanatomy import tree, weights
from jaxanatomy.errors import InputError
from jaxanatomy.weights import folder_tokenizer
from jaxanatomy.weights.random_init import random_params
from jaxanatomy.weights.tensors import leaf_shapes


def test_public_names():
    assert weights.load.__name__ == "load"
    assert {"load", "open_model", "fetch", "Checkpoint", "export_hf"} <= set(weights.__all__)
    for name in weights.__all__:
        assert getattr(weights, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = weights.lode


def test_the_null_model_has_the_same_architecture_and_tokenizer(checkpoint, write_folder):
    folder = write_folder(checkpoint)
    null = weights.load(f"random:file:{folder}")
    assert null.config == checkpoint.config
    assert null.id == f"random:file:{folder}"
    assert null.tokenizer.encode("hello") == checkpoint.tokenizer.encode("hello")
    again = weights.load(f"random:file:{folder}")
    for leaf, array in tree.to_leaves(null.params).items():
        np.testing.assert_array_equal(array, tree.to_leaves(again.params)[leaf])
        assert array.shape == leaf_shapes(checkpoint.config)[leaf]
    assert null.sha256 == again.sha256 != weights.load(f"file:{folder}").sha256


def test_random_weights_are_those_of_hugging_face(config):
    params = random_params(config, np.dtype(np.float32))
    drawn = 0.02 * np.random.default_rng(0).standard_normal((320, 64), np.float32)
    np.testing.assert_array_equal(params["embed"]["embedding"], drawn.astype(np.float32))
    assert (params["layers"][0]["mlp_norm"]["scale"] == 1).all()
    matrices = [leaf for leaf in jax.tree.leaves(params["layers"]) if leaf.ndim == 2]
    values = np.concatenate([leaf.ravel() for leaf in matrices])
    assert abs(values.std() / 0.02 - 1) < 4 / np.sqrt(2 * values.size)
    assert abs(values.mean()) < 4 * 0.02 / np.sqrt(values.size)


def test_architecture_and_tokenizer_come_before_the_tensors(checkpoint, write_gguf):
    def change(arrays, fields):
        arrays["blk.1.ffn_up.weight"][3, 4] = np.nan

    source = weights.open_model(f"file:{write_gguf(checkpoint, change=change)}")
    assert source.config == checkpoint.config
    assert source.tokenizer.encode("hello") == checkpoint.tokenizer.encode("hello")
    with pytest.raises(InputError, match="NaN"):
        source.load()


def test_threads_share_one_tokenizer(checkpoint, write_folder, monkeypatch):
    builds, build = [], folder_tokenizer.from_folder

    def slow(folder):
        builds.append(folder)
        together.wait(1)
        return build(folder)

    together = threading.Event()
    monkeypatch.setattr(folder_tokenizer, "from_folder", slow)
    source, seen = weights.open_model(f"file:{write_folder(checkpoint)}"), []
    threads = [threading.Thread(target=lambda: seen.append(source.tokenizer)) for _ in range(3)]
    [thread.start() for thread in threads]
    together.set()
    [thread.join() for thread in threads]
    assert source.load().tokenizer is seen[0] is seen[1] is seen[2]
    assert len(builds) == 1


def test_dtypes(checkpoint, write_folder):
    folder = write_folder(checkpoint)
    for dtype in ("float32", "bfloat16", "float16"):
        loaded = weights.load(f"file:{folder}", dtype)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(loaded.params)} == {dtype}
    with pytest.raises(InputError, match="unknown dtype 'float64'"):
        weights.load(f"file:{folder}", "float64")


def test_paths_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must be an existing path; there is no .*absent"):
        weights.load(f"file:{tmp_path / 'absent'}")
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=f"got {name}; .* pickles are refused"):
            weights.load(f"file:{tmp_path / name}")
    assert weights.is_cached(f"file:{tmp_path}")
    assert not weights.is_cached(f"orbax:{tmp_path / 'absent'}")


@pytest.fixture
def run(checkpoint, write_folder, tmp_path):
    """The folder of a run: a config of its own, a model and steps below."""
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    (folder / "config.json").write_text('{"config": {}}')
    shutil.copytree(write_folder(checkpoint), folder / "models" / "lidas_0")
    (folder / "checkpoints" / "lidas").mkdir(parents=True)
    weights.save_orbax(checkpoint, folder / "checkpoints" / "lidas" / "0_1")
    return folder


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("file:{run}", "file:{run}/models/lidas_0"),
        ("orbax:{run}", "orbax:{run}/checkpoints/lidas/0_1"),
        ("file:{run}/models", "file:{run}/models/lidas_0"),
        ("orbax:{run}/checkpoints", "orbax:{run}/checkpoints/lidas/0_1"),
        ("file:{run}/checkpoints/lidas/0_1", "orbax:{run}/checkpoints/lidas/0_1"),
        ("orbax:{run}/models/lidas_0", "file:{run}/models/lidas_0"),
        ("random:file:{run}", "file:{run}/models/lidas_0"),
    ],
)
def test_a_folder_that_is_no_model_of_its_kind_names_one_that_is(run, given, named):
    given, named = (text.format(run=run) for text in (given, named))
    with pytest.raises(InputError) as error:
        weights.open_model(given)
    own = given.removeprefix("random:")
    assert str(error.value) == (
        f"{own} must be a folder with a model of this kind; it has none itself; take {named}, or "
        "another one that lies there"
    )
    assert weights.open_model(named).config.num_layers > 0

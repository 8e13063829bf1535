import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxanatomy import tree, weights
from jaxanatomy.data.text import Text
from jaxanatomy.errors import InputError
from jaxanatomy.study import tokenise


def load(folder, dtype="float32"):
    return weights.load(f"file:{folder}", dtype)


def shard(folder, names=("a.safetensors", "b.safetensors")):
    """Spreads model.safetensors over two files with an index."""
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    weight_map = {name: names[index % 2] for index, name in enumerate(sorted(arrays))}
    for file in names:
        part = {name: arrays[name] for name, place in weight_map.items() if place == file}
        safetensors.numpy.save_file(part, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_one_file(checkpoint, write_folder):
    loaded = load(write_folder(checkpoint))
    assert loaded.config == checkpoint.config
    found, expected = tree.to_leaves(loaded.params), tree.to_leaves(checkpoint.params)
    for leaf, array in expected.items():
        np.testing.assert_array_equal(found[leaf], array, err_msg=leaf)
    assert loaded.tokenizer.encode("hello") == checkpoint.tokenizer.encode("hello")
    with pytest.raises(ValueError, match="read-only"):
        found["embed/embedding"][0] = 0


def test_sharded_files_give_the_same(checkpoint, write_folder):
    folder = write_folder(checkpoint)
    whole = load(folder)
    shard(folder)
    loaded = load(folder)
    for leaf, array in tree.to_leaves(whole.params).items():
        np.testing.assert_array_equal(tree.to_leaves(loaded.params)[leaf], array)
    assert loaded.sha256 != whole.sha256  # of the list of both files
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match=r"files that its index names; missing: b.safetensors;"):
        load(folder)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_is_widened_exactly(dtype, checkpoint, write_folder):
    def change(arrays):
        arrays.update({name: array.astype(dtype) for name, array in arrays.items()})

    folder = write_folder(checkpoint, change)
    kernel = checkpoint.params["layers"][1]["mlp"]["up_proj"]["kernel"].astype(dtype)
    loaded = load(folder).params["layers"][1]["mlp"]["up_proj"]["kernel"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, kernel.astype(np.float32))


def without(name):
    return lambda arrays: arrays.pop(name)


def with_array(name, array):
    return lambda arrays: arrays.update({name: array})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("lm_head.weight"), "there is no lm_head.weight; set it to true"),
        (with_array("model.layers.2.bias", np.ones(3)[:0].astype("f4")), "model.layers.2.bias"),
        (with_array("model.norm.weight", np.ones(8, "f4")), "model.norm.weight (8,) instead of"),
        (with_array("model.norm.weight", np.full(64, np.nan, "f4")), "NaN or Inf as float32"),
        (with_array("model.norm.weight", np.ones(64, "i1")), "stores model.norm.weight as I8"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, checkpoint, write_folder):
    with pytest.raises(InputError) as caught:
        load(write_folder(checkpoint, change))
    assert message in str(caught.value)


def test_a_tied_file_with_another_head_is_refused(checkpoint, write_folder):
    folder = write_folder(checkpoint, tie_word_embeddings=True)
    with pytest.raises(InputError, match="tie_word_embeddings=true but lm_head"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_a_truncated_file_is_refused(keep, checkpoint, write_folder):
    path = write_folder(checkpoint) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(InputError, match=r"model.safetensors must be a complete safetensors file"):
        load(path.parent)


def test_a_corrupt_header_is_refused(checkpoint, write_folder):
    path = write_folder(checkpoint) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[20:24] = b"\0\0\0\0"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"must be a complete safetensors file"):
        load(path.parent)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickles_are_refused_with_the_safe_way(name, checkpoint, write_folder):
    folder = write_folder(checkpoint)
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(InputError, match=r"pickle \(.*can run code.* convert it to safetensors"):
        load(folder)


def test_missing_files_are_named(checkpoint, write_folder):
    folder = write_folder(checkpoint)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected model.safetensors in .*; found none"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"must be a Hugging Face folder"):
        load(folder)


@pytest.mark.parametrize(("text", "message"), [("{", "cannot read it"), ("[]", "holds a list")])
def test_a_damaged_config_is_refused(text, message, checkpoint, write_folder):
    folder = write_folder(checkpoint)
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_an_index_without_a_map_is_refused(checkpoint, write_folder):
    folder = write_folder(checkpoint)
    shard(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="must have a weight_map"):
        load(folder)


def test_a_tensor_in_two_files_is_refused(checkpoint, write_folder):
    folder = write_folder(checkpoint)
    shard(folder)
    (folder / "a.safetensors").write_bytes((folder / "b.safetensors").read_bytes())
    with pytest.raises(InputError, match="is in two files"):
        load(folder)


def test_a_folder_without_a_tokenizer_loads(checkpoint, write_folder):
    folder = write_folder(dataclasses.replace(checkpoint, tokenizer=None))
    assert load(folder).tokenizer is None


def test_tokens_without_rows_are_refused_where_a_text_has_them(checkpoint, write_folder):
    def change(arrays):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            arrays[name] = arrays[name][:264].copy()

    model = load(write_folder(checkpoint, change, vocab_size=264))
    assert model.tokenizer.vocab_size == 265
    (batch,) = tokenise(model, Text("mine", ("hell w",)))
    assert batch.token_RT.max() < 264
    texts = Text("mine", ("hell w", "oh hello w", "hello"))
    with pytest.raises(InputError) as error:
        tokenise(model, texts)
    assert str(error.value) == (
        "the tokens of 'mine' must be in the vocabulary of the model, 0 .. 263; got token 264 "
        "('hello') in documents[1] ('oh hello w'), token 264 ('hello') in documents[2] ('hello'); "
        "take them out of the text, or use the tokenizer of this model"
    )


def test_a_tokenizer_that_cannot_be_read_is_refused_where_it_is_needed(
    checkpoint, write_folder, tmp_path
):
    folder = write_folder(checkpoint)
    (folder / "tokenizer_config.json").write_text('{"odd": 1}')
    model = load(folder)
    assert model.params["layers"]
    for use in (
        lambda: tokenise(model, Text("mine", ("hello",))),
        lambda: weights.export_hf(model, tmp_path / "out"),
        lambda: weights.save_orbax(model, tmp_path / "out"),
    ):
        with pytest.raises(InputError, match="keys that are not understood: odd"):
            use()

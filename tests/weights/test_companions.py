"""What goes along when a model is written, judged by transformers and by bytes."""

import dataclasses
import json

import gguf
import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from jaxanatomy import weights
from jaxanatomy.config import LayerShape
from jaxanatomy.errors import InputError
from jaxanatomy.weights.companions import Companions
from jaxanatomy.weights.random_init import random_params

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|endoftext|>{% endfor %}"
GENERATION = {"eos_token_id": [0, 1], "pad_token_id": 0, "do_sample": True, "temperature": 0.6}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|im_start|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "Ġw",
    "additional_special_tokens": ["hello"],
    "model_max_length": 77,
    "padding_side": "left",
}
CONFIG = {
    "eos_token_id": [0, 1],
    "pad_token_id": 0,
    "torch_dtype": "bfloat16",
    "rope_scaling": None,
    "initializer_range": 0.03,
    "temperature": 0.4,
    "_name_or_path": "somebody/something",
    "id2label": {"0": "a", "1": "b"},
    "transformers_version": "4.40.1",
}
FILES = {
    "generation_config.json": json.dumps(GENERATION),
    "tokenizer_config.json": json.dumps(TOKENIZER_CONFIG),
    "special_tokens_map.json": json.dumps({"unk_token": {"content": "Ġw", "lstrip": False}}),
    "chat_template.jinja": TEMPLATE,
    "additional_chat_templates/tools.jinja": "tools: " + TEMPLATE,
    "LICENSE": "Apache-2.0",
    "figure.png": "\x89PNG",
}
LEFT_OUT = ("rope_parameters", "attention_bias", "mlp_bias")
LEFT = {"README.md": "# of another", ".gitattributes": "*", "pytorch_model.bin": "", "onnx/m": ""}


@pytest.fixture
def source(checkpoint, write_folder):
    """A folder with everything that a checkpoint says beside its weights."""
    folder = write_folder(checkpoint, name="source", **CONFIG)
    fields = json.loads((folder / "config.json").read_text())
    for name in LEFT_OUT:  # as older checkpoints leave out what has a default
        del fields[name]
    (folder / "config.json").write_text(json.dumps(fields))
    for name, text in {**FILES, **LEFT}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode("latin-1" if "png" in name else "utf-8"))
    return folder


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(params=["file:{}", "random:file:{}", "orbax"])
def model(request, source, tmp_path):
    if request.param != "orbax":
        return weights.load(request.param.format(source))
    saved = weights.save_orbax(weights.load(f"file:{source}"), tmp_path / "saved")
    return weights.load(f"orbax:{saved}")


def one_layer(model):
    config = model.config.with_layers(model.config.layers[:1])
    params = {**model.params, "layers": model.params["layers"][:1]}
    return dataclasses.replace(model, config=config, params=params)


def test_everything_but_what_was_changed_goes_along(model, source, tmp_path):
    folder = weights.export_hf(one_layer(model), tmp_path / "out")
    before, after = contents(source), contents(folder)
    assert set(before) - set(after) == set(LEFT)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"config.json", "model.safetensors"}
    fields = json.loads(before["config.json"])
    changes = {"num_hidden_layers": 1, "torch_dtype": "float32"}
    assert json.loads(after["config.json"]) == fields | changes


def test_transformers_finds_the_same_settings(model, source, tmp_path):
    folder = weights.export_hf(one_layer(model), tmp_path / "out")
    before, after = (AutoConfig.from_pretrained(path).to_dict() for path in (source, folder))
    differ = {name for name in before | after if before.get(name) != after.get(name)}
    assert differ == {"num_hidden_layers", "dtype", "_name_or_path"}  # the last is the path here
    before, after = (GenerationConfig.from_pretrained(path).to_dict() for path in (source, folder))
    assert before == after
    assert after["eos_token_id"] == [0, 1]
    before, after = (AutoTokenizer.from_pretrained(path) for path in (source, folder))
    assert before.chat_template == after.chat_template
    assert set(after.chat_template) == {"default", "tools"}
    assert before.special_tokens_map == after.special_tokens_map
    assert after.special_tokens_map["unk_token"] == "Ġw"
    assert (after.model_max_length, after.padding_side) == (77, "left")
    text = "hello <|im_start|> world 12"
    assert before(text).input_ids == after(text).input_ids


def test_nothing_changed_in_the_dtype_of_the_source_gives_the_same_config(source, tmp_path):
    model = weights.load(f"file:{source}", "bfloat16")
    folder = weights.export_hf(model, tmp_path / "out")
    before, after = contents(source), contents(folder)
    assert json.loads(after["config.json"]) == json.loads(before["config.json"])


@pytest.mark.parametrize("names", [(), ("dtype",), ("torch_dtype", "dtype")])
def test_the_dtype_stands_under_the_names_that_the_source_uses(
    names, checkpoint, write_folder, tmp_path
):
    source = write_folder(checkpoint, **dict.fromkeys(names, "float16"))
    folder = weights.export_hf(weights.load(f"file:{source}"), tmp_path / "out")
    fields = json.loads((folder / "config.json").read_text())
    found = {name: fields[name] for name in ("torch_dtype", "dtype") if name in fields}
    assert found == dict.fromkeys(names or ("dtype",), "float32")


def test_widths_and_heads_that_change_are_the_only_other_fields(source, tmp_path):
    model = weights.load(f"file:{source}")
    config = model.config.with_layers([LayerShape(2, 1, 40)] * 2)
    params = random_params(config, np.dtype(np.float32))
    model = dataclasses.replace(model, config=config, params=params)
    fields = json.loads((weights.export_hf(model, tmp_path / "out") / "config.json").read_text())
    changes = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 40}
    changes |= {"torch_dtype": "float32"}
    assert fields == json.loads((source / "config.json").read_text()) | changes
    assert weights.load(f"file:{tmp_path / 'out'}").config == config


def test_what_the_source_leaves_to_a_default_is_written_where_that_changes(source, tmp_path):
    path = source / "config.json"
    fields = json.loads(path.read_text())
    del fields["head_dim"]
    path.write_text(json.dumps(fields))
    model = weights.load(f"file:{source}")
    written = weights.export_hf(one_layer(model), tmp_path / "one") / "config.json"
    assert "head_dim" not in json.loads(written.read_text())
    config = model.config.with_layers([LayerShape(2, 2, 96)] * 2)  # 16 wide each, not 64 / 2
    params = random_params(config, np.dtype(np.float32))
    model = dataclasses.replace(model, config=config, params=params)
    assert weights.load(f"file:{weights.export_hf(model, tmp_path / 'two')}").config == config


def test_a_model_without_a_tokenizer_keeps_its_other_settings(source, tmp_path):
    for name in (*FILES, "tokenizer.json"):
        if "token" in name or "chat" in name:
            (source / name).unlink()
    model = weights.load(f"file:{source}")
    assert model.tokenizer is None
    found = contents(weights.export_hf(model, tmp_path / "out"))
    others = {"generation_config.json", "LICENSE", "figure.png"}
    assert set(found) == {"config.json", "model.safetensors"} | others
    assert json.loads(found["config.json"])["eos_token_id"] == [0, 1]


def test_a_model_made_here_takes_its_tokenizers_files_along(source, checkpoint, tmp_path):
    tokenizer = weights.open_model(f"file:{source}").tokenizer  # as training from scratch does
    made = dataclasses.replace(checkpoint, tokenizer=tokenizer)
    found, before = contents(weights.export_hf(made, tmp_path / "out")), contents(source)
    others = {"LICENSE", "figure.png", "generation_config.json", *LEFT}
    assert set(found) == set(before) - others
    assert {name for name in found if found[name] != before[name]} == {"config.json"}
    fields = json.loads(found["config.json"])
    assert (fields["bos_token_id"], fields["eos_token_id"]) == (1, 0)


@pytest.fixture
def from_gguf(checkpoint, write_gguf, tmp_path):
    """Exports a GGUF with these special tokens and templates."""
    integer, text = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.STRING
    kinds = {int: integer, str: text, bool: gguf.GGUFValueType.BOOL}

    def export(**given):
        def change(arrays, fields):
            for name, value in given.items():
                key = name.replace("__", ".")
                fields[f"tokenizer.{key}"] = (value, kinds[type(value)])

        model = weights.load(f"file:{write_gguf(checkpoint, change=change)}")
        return weights.export_hf(one_layer(model), tmp_path / "out")

    return export


def test_a_gguf_keeps_its_template_and_special_tokens(from_gguf):
    folder = from_gguf(
        chat_template=TEMPLATE,
        ggml__padding_token_id=0,
        ggml__unknown_token_id=5,
        ggml__eot_token_id=3,
        ggml__add_bos_token=True,
    )
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, [0, 3], 0)
    assert tokenizer.chat_template == TEMPLATE
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert (*ids, tokenizer.unk_token_id) == (1, 0, 0, 5)
    assert tokenizer.model_max_length == config.max_position_embeddings
    words = tokenizer("hello", add_special_tokens=False).input_ids
    assert tokenizer("hello").input_ids == [1, *words]


@pytest.mark.parametrize(
    ("given", "before", "after"),
    [
        ({}, [], []),
        ({"ggml__add_bos_token": False}, [], []),
        ({"ggml__add_bos_token": True, "ggml__add_eos_token": True}, [1], [0]),
        ({"ggml__pre": "llama-bpe"}, [1], []),
        ({"ggml__pre": "llama-bpe", "ggml__add_bos_token": False}, [], []),
    ],
)
def test_a_gguf_that_adds_tokens_adds_them_in_transformers(given, before, after, from_gguf):
    tokenizer = AutoTokenizer.from_pretrained(from_gguf(**given))
    one, other = (tokenizer(word, add_special_tokens=False).input_ids for word in ("hello", "1"))
    assert tokenizer("hello").input_ids == [*before, *one, *after]
    assert tokenizer("hello", "1").input_ids == [*before, *one, *after, *before, *other, *after]


def test_a_gguf_with_several_templates_keeps_them_by_name(from_gguf):
    folder = from_gguf(chat_template=TEMPLATE, chat_template__tools="tools: " + TEMPLATE)
    templates = AutoTokenizer.from_pretrained(folder).chat_template
    assert templates == {"default": TEMPLATE, "tools": "tools: " + TEMPLATE}


def test_a_gguf_that_names_no_special_tokens_invents_none(from_gguf):
    fields = json.loads((from_gguf() / "config.json").read_text())
    assert fields["eos_token_id"] == 0
    assert "pad_token_id" not in fields


@pytest.mark.parametrize("field", [{"assistant_early_exit": 1}, {"dola_layers": [0, 1]}])
def test_settings_that_count_layers_are_refused_at_another_depth(field, source, tmp_path):
    (source / "generation_config.json").write_text(json.dumps(GENERATION | field))
    model = weights.load(f"file:{source}")
    with pytest.raises(InputError, match=rf"counts layers .*\({next(iter(field))}\); .* remove"):
        weights.export_hf(one_layer(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = weights.export_hf(model, tmp_path / "out")  # at the same depth it means the same
    assert json.loads((folder / "generation_config.json").read_text()) == GENERATION | field


def test_links_are_followed_inside_the_hubs_cache_and_nowhere_else(source, tmp_path):
    snapshot = tmp_path / "hub" / "models--o--n" / "snapshots" / "abc"
    blobs = snapshot.parents[1] / "blobs"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    source.rename(snapshot)
    (snapshot / "LICENSE").rename(blobs / "1")
    (snapshot / "LICENSE").symlink_to("../../blobs/1")
    folder = weights.export_hf(weights.load(f"file:{snapshot}"), tmp_path / "out")
    assert (folder / "LICENSE").read_text() == FILES["LICENSE"]
    assert not (folder / "LICENSE").is_symlink()
    (tmp_path / "secret").write_text("private")
    (snapshot / "notes.txt").symlink_to(tmp_path / "secret")
    model = weights.load(f"file:{snapshot}")
    for write in (weights.export_hf, weights.save_orbax):
        with pytest.raises(InputError, match=r"notes.txt is a link out of its folder"):
            write(model, tmp_path / "other")
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\x", "", "c:x", "."])
def test_a_stored_name_that_leaves_the_folder_is_refused(name):
    with pytest.raises(InputError, match="must lie in the model's folder"):
        Companions.from_dict({"config": {}, "files": {name: ""}})


@pytest.mark.real
def test_the_default_model_says_what_its_gguf_says(tmp_path):
    fields = metadata()
    folder = weights.export_hf(weights.load(), tmp_path / "out")
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    assert tokenizer.chat_template == fields["tokenizer.chat_template"]
    for token, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        expected = fields[f"tokenizer.ggml.{name}_token_id"]
        assert getattr(tokenizer, f"{token}_token_id") == expected
        if token != "unk":
            assert getattr(config, f"{token}_token_id") == expected
    chat = [{"role": "user", "content": "Is water wet?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nIs water wet?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(text).input_ids == weights.open_model().tokenizer.encode(text)


def metadata():
    from jaxanatomy.weights.gguf import Reader, metadata

    return metadata(Reader(weights.fetch()))

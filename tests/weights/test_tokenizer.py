import json

import pytest
from tokenizers import pre_tokenizers, processors

from jaxanatomy.errors import InputError
from jaxanatomy.weights.folder_tokenizer import from_folder
from jaxanatomy.weights.gguf_tokenizer import from_gguf
from jaxanatomy.weights.tokenizer import Tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>"]
MERGES = ["h e", "l l", "he ll", "Ġ w", "1 2", "12 3", "hell o"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
TOKENS += [merge.replace(" ", "") for merge in MERGES]
FIELDS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 0,
}


def spelled(tokenizer, text):
    return [tokenizer.token(token) for token in tokenizer.encode(text)]


@pytest.mark.parametrize(
    ("kind", "text", "tokens"),
    [
        ("smollm", "hello w123", ["hello", "Ġw", "1", "2", "3"]),
        ("gpt-2", "hello w123", ["hello", "Ġw", "123"]),
        ("gpt-2", "1234", ["123", "4"]),
        ("llama-bpe", "1231234", ["123", "123", "4"]),
        ("llama-bpe", "hello w12", ["hello", "Ġw", "12"]),
        ("smollm", "<|im_start|>hell", ["<|im_start|>", "hell"]),
    ],
)
def test_text_is_split_as_the_pre_tokenizer_says(kind, text, tokens):
    tokenizer = from_gguf({**FIELDS, "tokenizer.ggml.pre": kind})
    assert spelled(tokenizer, text) == tokens
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_llama_3_takes_a_known_word_whole_though_no_merges_lead_to_it():
    fields = {**FIELDS, "tokenizer.ggml.tokens": [*TOKENS, "xyz"]}
    assert spelled(from_gguf({**fields, "tokenizer.ggml.pre": "llama-bpe"}), "xyz") == ["xyz"]
    assert spelled(from_gguf({**fields, "tokenizer.ggml.pre": "gpt-2"}), "xyz") == ["x", "y", "z"]


def test_bos_that_a_file_asks_for_is_not_added(tmp_path):
    backend = from_gguf(FIELDS).backend
    template = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[(SPECIAL[1], 1)]
    )
    backend.post_processor = template
    assert backend.encode("he").tokens == ["<|im_start|>", "he"]
    backend.save(str(tmp_path / "tokenizer.json"))
    assert spelled(from_folder(tmp_path), "he") == ["he"]


def test_any_text_comes_back_and_nothing_is_added():
    tokenizer = from_gguf(FIELDS)
    for text in ("", " hello  world\n", "naïve 東京 🙂", "<|endoftext|>x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("") == []
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 0)
    assert tokenizer.vocab_size == len(TOKENS)
    assert tokenizer.token(None) is None


def test_tokens_of_the_user_are_not_split():
    fields = {**FIELDS, "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2)}
    fields["tokenizer.ggml.token_type"][-1] = 4  # hello
    tokenizer = from_gguf({**fields, "tokenizer.ggml.merges": MERGES[:1]})
    assert spelled(tokenizer, "hello") == ["hello"]
    fields["tokenizer.ggml.token_type"][-1] = 1
    tokenizer = from_gguf({**fields, "tokenizer.ggml.merges": MERGES[:1]})
    assert spelled(tokenizer, "hello") == ["he", "l", "l", "o"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"}, "llama with default"),
        ({"tokenizer.ggml.pre": "tekken"}, "got gpt2 with tekken; use the model's Hugging Face"),
        ({"tokenizer.ggml.pre": None}, "got gpt2 with None"),
        ({"tokenizer.ggml.merges": ["h zz"]}, "the merges of the GGUF do not fit its tokens"),
    ],
)
def test_what_is_not_understood_is_refused(change, message):
    with pytest.raises(InputError) as caught:
        from_gguf({**FIELDS, **change})
    assert message in str(caught.value)


def test_a_gguf_without_a_tokenizer_has_none():
    assert from_gguf({}) is None


def test_a_tokenizer_survives_json():
    tokenizer = from_gguf(FIELDS)
    again = Tokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode("hello 12") == tokenizer.encode("hello 12")
    assert (again.bos_id, again.eos_id) == (1, 0)


def test_truncation_and_padding_of_a_file_are_switched_off(tmp_path):
    backend = from_gguf(FIELDS).backend
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert spelled(from_folder(tmp_path), "he123") == ["he", "1", "2", "3"]


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({}, (None, None)),
        ({"tokenizer_config.json": {"bos_token": "<|im_start|>", "eos_token": None}}, (1, None)),
        ({"tokenizer_config.json": {"eos_token": {"content": "<|im_start|>"}}}, (None, 1)),
        ({"special_tokens_map.json": {"bos_token": "<|endoftext|>"}}, (0, None)),
    ],
)
def test_special_ids_of_a_folder(files, ids, tmp_path):
    from_gguf(FIELDS).backend.save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    tokenizer = from_folder(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == ids


def test_a_folder_without_tokenizer_files_has_none(tmp_path):
    assert from_folder(tmp_path) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_refused(name, tmp_path):
    from_gguf(FIELDS).backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_text("{")
    with pytest.raises(InputError, match=f"{name} must be .*; fetch it again"):
        from_folder(tmp_path)


def test_an_older_form_is_converted_by_transformers(tmp_path):
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": SPECIAL[1]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = from_folder(tmp_path)
    assert spelled(tokenizer, "hello w123") == ["hello", "Ġw", "123"]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 0)


def test_a_tokenizer_that_cannot_be_converted_is_refused(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"has no tokenizer.json and .* cannot be converted"):
        from_folder(tmp_path)

import json

import pytest
import tokenizers
from tokenizer_cases import FIELDS, MERGES, SPECIAL, TOKENS, spelled, write_tokenizer
from tokenizers import models, pre_tokenizers, processors

from jaxanatomy.errors import InputError
from jaxanatomy.weights.folder_tokenizer import from_folder
from jaxanatomy.weights.gguf_tokenizer import from_gguf
from jaxanatomy.weights.tokenizer import Tokenizer


def test_any_text_comes_back_and_nothing_is_added():
    tokenizer = from_gguf(FIELDS)
    for text in ("", " hello  world\n", "naïve 東京 🙂", "<|endoftext|>x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("") == []
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 0)
    assert tokenizer.vocab_size == len(TOKENS)
    assert tokenizer.token(None) is None


@pytest.mark.parametrize("split", [False, True])
def test_a_tokenizer_survives_json(split):
    tokenizer = from_gguf(FIELDS)
    tokenizer.backend.encode_special_tokens = split
    again = Tokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    text = "hello 12<|endoftext|>"
    assert again.encode(text) == tokenizer.encode(text)
    assert (0 in again.encode(text)) is not split
    assert (again.bos_id, again.eos_id) == (1, 0)


def test_truncation_and_padding_of_a_file_are_switched_off(tmp_path):
    backend = from_gguf(FIELDS).backend
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert spelled(from_folder(tmp_path), "he123") == ["he", "1", "2", "3"]


def test_bos_of_a_template_is_known_and_not_added(tmp_path):
    backend = from_gguf(FIELDS).backend
    assert not from_folder(write_tokenizer(tmp_path)).adds_bos
    backend.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[(SPECIAL[1], 1)]
    )
    assert backend.encode("he").tokens == ["<|im_start|>", "he"]
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"bos_token_id": 1}')
    tokenizer = from_folder(tmp_path)
    assert spelled(tokenizer, "he") == ["he"]
    assert tokenizer.adds_bos


def test_a_text_that_cannot_be_encoded_is_one_line():
    model = models.WordLevel({"a": 0, "b": 1}, unk_token="<unk>")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(backend)
    assert tokenizer.encode("a b") == [0, 1]
    with pytest.raises(InputError, match=r"must encode 'a c'; WordLevel error: .*; mend the text"):
        tokenizer.encode("a c")


def test_an_older_form_is_converted_by_transformers(tmp_path):
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": SPECIAL[1]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = from_folder(tmp_path)
    assert spelled(tokenizer, "hello w123") == ["hello", "Ġw", "123"]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 0)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model"])
def test_a_sentencepiece_model_alone_says_what_it_needs(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"a model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        from_folder(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has its tokenizer only as {name}, a SentencePiece model; pip install "
        "sentencepiece protobuf to read it here, or give a tokenizer.json beside it "
        "(transformers' save_pretrained writes one where they are installed)"
    )


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json"])
def test_a_tokenizer_that_cannot_be_converted_is_one_line(name, tmp_path, monkeypatch, capfd):
    (tmp_path / name).write_bytes(b"not a model")
    monkeypatch.setattr("jaxanatomy.weights.folder_tokenizer._SENTENCEPIECE", ())
    with pytest.raises(
        InputError, match=rf"has no tokenizer\.json and its {name} cannot be"
    ) as error:
        from_folder(tmp_path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("files", [(), ("tokenizer_config.json", "special_tokens_map.json")])
def test_a_folder_without_a_vocabulary_has_no_tokenizer(files, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    assert from_folder(tmp_path) is None

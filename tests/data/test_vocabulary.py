import pytest

from experiments import depth_growth
from jaxanatomy.data import bpe
from jaxanatomy.data.vocabulary import (
    TOKENIZERS,
    check_vocabulary,
    load_tokenizer,
    tokenizer_sha256,
)
from jaxanatomy.errors import InputError

TEXT = ["the cat and the dog and the 23 hats of the cat 2323\n"] * 20


@pytest.fixture(scope="module")
def trained():
    return bpe.train(TEXT, 265)


@pytest.fixture
def saved(trained, tmp_path):
    bpe.save(trained, tmp_path)
    return tmp_path


def test_a_model_of_another_vocabulary_is_refused(trained):
    entries = trained.vocab_size
    check_vocabulary(trained, entries)
    check_vocabulary(trained, entries + 1024)
    for size in (entries - 1, entries + 1025):
        with pytest.raises(InputError) as error:
            check_vocabulary(trained, size)
        assert str(error.value) == (
            f"the model must have the vocabulary of the tokenizer, {entries} entries; it has "
            f"{size}; set the model's vocab_size to {entries} or take its own tokenizer"
        )


def test_tokenizers_by_name(trained, saved, monkeypatch):
    monkeypatch.setattr(bpe, "offline_tokenizer", lambda size: ("offline", size))
    assert load_tokenizer("offline:300") == ("offline", 300)
    expected = tokenizer_sha256(trained)
    assert tokenizer_sha256(load_tokenizer(f"file:{saved}")) == expected
    assert tokenizer_sha256(load_tokenizer(f"file:{saved}/tokenizer.json")) == expected
    asked = []

    def download(name, **given):
        asked.append((name, given["revision"]))
        assert not [one for one in given["allow_patterns"] if "safetensors" in one or one == "*"]
        assert {"chat_template.jinja", "added_tokens.json"} <= set(given["allow_patterns"])
        return str(saved)

    assert tokenizer_sha256(load_tokenizer("hf:me/words@v2", download)) == expected
    assert asked == [("me/words", "v2")]


@pytest.mark.parametrize("settings", ["{}", '{"eos_token": null}'])
def test_a_tokenizer_without_an_end_token_is_refused(saved, settings):
    (saved / "tokenizer_config.json").write_text(settings)
    with pytest.raises(InputError) as error:
        load_tokenizer(f"file:{saved}")
    assert str(error.value) == (
        f"a tokenizer to train with must have a token that ends a document; file:{saved} has none; "
        "add an eos_token of its vocabulary to tokenizer_config.json, beside tokenizer.json"
    )


def test_names_without_a_tokenizer_are_refused(tmp_path):
    def download(name, **given):
        raise ConnectionError("no route\nto host")

    for size in ("many", "1" + "0" * 20, "9" * 5000):
        with pytest.raises(InputError) as error:
            load_tokenizer(f"offline:{size}")
        assert str(error.value) == (
            f"an offline tokenizer is written offline:SIZE; got 'offline:{size}'; give a SIZE from "
            "257 to 1048576"
        )
    with pytest.raises(InputError, match=r"^the hub cannot give hf:me/words: no route; check"):
        load_tokenizer("hf:me/words", download)
    with pytest.raises(InputError, match=r"has no tokenizer; name one, such as offline:4096$"):
        load_tokenizer(f"file:{tmp_path}")
    with pytest.raises(InputError, match="a model id starts with its kind; got 'words'"):
        load_tokenizer("words")


def test_the_list_of_the_experiment_says_how_a_tokenizer_is_named():
    shown = depth_growth.describe()
    assert all(form in shown and help_line in shown for form, help_line in TOKENIZERS.items())

import pytest
from tokenizer_cases import FIELDS, MERGES, TOKENS, spelled

from jaxanatomy.errors import InputError
from jaxanatomy.weights.gguf_tokenizer import from_gguf


def fields(**changes):
    """Metadata with other values; None leaves a key out."""
    changed = {**FIELDS, **{f"tokenizer.ggml.{name}": value for name, value in changes.items()}}
    return {key: value for key, value in changed.items() if value is not None}


def typed(**types):
    """Types of the tokens: 3, 3, then 1, and what is named."""
    return [types.get(token, kind) for token, kind in zip(TOKENS, [3, 3] + [1] * 999, strict=False)]


@pytest.mark.parametrize(
    ("kind", "text", "tokens"),
    [
        ("smollm", "hello w123", ["hello", "Ġw", "1", "2", "3"]),
        ("gpt-2", "hello w123", ["hello", "Ġw", "123"]),
        ("gpt-2", "1234", ["123", "4"]),
        ("llama-bpe", "1231234", ["123", "123", "4"]),
        ("llama-bpe", "hello w12", ["hello", "Ġw", "12"]),
        ("qwen2", "hello w123", ["hello", "Ġw", "1", "2", "3"]),
        ("smollm", "<|im_start|>hell", ["<|im_start|>", "hell"]),
    ],
)
def test_text_is_split_as_the_pre_tokenizer_says(kind, text, tokens):
    tokenizer = from_gguf(fields(pre=kind))
    assert spelled(tokenizer, text) == tokens
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_llama_3_takes_a_known_word_whole_though_no_merges_lead_to_it():
    more = {"tokens": [*TOKENS, "xyz"], "token_type": [*typed(), 1]}
    assert spelled(from_gguf(fields(**more, pre="llama-bpe")), "xyz") == ["xyz"]
    assert spelled(from_gguf(fields(**more, pre="gpt-2")), "xyz") == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [(1, ["he", "l", "l", "o"]), (2, ["hello"]), (3, ["hello"]), (4, ["hello"]), (5, None)],
)
def test_tokens_that_are_no_text_are_matched_as_a_whole(kind, tokens):
    tokenizer = from_gguf(fields(token_type=typed(hello=kind), merges=MERGES[:1]))
    assert spelled(tokenizer, "hello") == (tokens or ["he", "l", "l", "o"])


def test_bos_that_a_file_asks_for_is_in_the_template_alone():
    assert not from_gguf(FIELDS).adds_bos
    # As in llama.cpp, Llama 3's tokenizer adds it unless the file says otherwise.
    assert from_gguf(fields(pre="llama-bpe")).adds_bos
    assert not from_gguf(fields(pre="llama-bpe", add_bos_token=False)).adds_bos
    assert not from_gguf(fields(pre="llama-bpe", bos_token_id=None)).adds_bos
    tokenizer = from_gguf(fields(add_bos_token=True))
    assert tokenizer.adds_bos
    assert spelled(tokenizer, "hello") == ["hello"]
    assert tokenizer.backend.encode("hello").tokens == ["<|im_start|>", "hello"]


def test_what_decides_no_token_is_passed_over():
    more = {
        "scores": [0.0] * len(TOKENS),
        "padding_token_id": 0,
        "eot_token_id": 0,
        "add_eos_token": True,
        "add_space_prefix": False,
        "added_tokens": ["<|im_start|>"],
    }
    told = {**fields(**more), "tokenizer.chat_template": "{}", "tokenizer.chat_template.rag": "{}"}
    assert spelled(from_gguf(told), "hello w") == ["hello", "Ġw"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": "llama", "pre": "default"},
            "SentencePiece tokenizer .* use the model's Hugging",
        ),
        ({"model": "rwkv"}, "expected tokenizer.ggml.model 'gpt2' in the GGUF; got 'rwkv'; use"),
        (
            {"pre": "tekken"},
            "llama-bpe or qwen2 as tokenizer.ggml.pre, .* has 'tekken'; use",
        ),
        ({"pre": None}, "tokenizer.ggml.pre, .*; the GGUF has none; use the model's Hugging Face"),
        (
            {"merges": ["h zz"]},
            "merges of the GGUF must be of its tokens; 'h' .* needs 'zz', which",
        ),
        ({"merges": ["w w"]}, "merges of the GGUF must be of its tokens; 'w' .* needs 'ww', which"),
        ({"merges": ["h e l"]}, "merges must be of two tokens each; the GGUF has 'h e l'"),
        ({"merges": None}, "must have a list tokenizer.ggml.merges, or words would fall apart"),
        ({"merges": []}, "must have a list tokenizer.ggml.merges, or words would fall apart"),
        ({"merges": [1, 2]}, "tokenizer.ggml.merges of the GGUF must be a list of str"),
        (
            {"token_type": None},
            "a list tokenizer.ggml.token_type, or special tokens cannot be told",
        ),
        ({"token_type": [3, 3]}, r"one type for each of \d+ tokens; the GGUF has 2; fetch"),
        ({"token_type": typed(hello=6)}, "'hello' of the GGUF has type 6; understood are 1, 2, 3"),
        ({"tokens": "abc"}, "must have a list tokenizer.ggml.tokens"),
        ({"tokens": [*TOKENS[:-1], "he"]}, "the GGUF has the token 'he' twice; fetch it again"),
        ({"added_tokens": ["hello"]}, "added_tokens of the GGUF has 'hello', whose token_type is"),
        ({"add_space_prefix": True}, "add_space_prefix=False; got True in the GGUF; use the model"),
        (
            {"precompiled_charsmap": [1]},
            "keys that are not understood: tokenizer.ggml.precompiled_",
        ),
        ({"add_bos_token": 1}, "add_bos_token must be true or false; the GGUF has 1"),
        (
            {"add_bos_token": True, "bos_token_id": None},
            "add_bos_token but no .*bos_token_id; fetch",
        ),
        ({"bos_token_id": len(TOKENS)}, r"bos_token_id must be one of the tokens 0 \.\. "),
        ({"eos_token_id": -1}, r"eos_token_id must be one of the tokens 0 \.\. "),
        ({"eos_token_id": "0"}, r"eos_token_id must be one of the tokens .* has '0'"),
    ],
)
def test_what_is_not_understood_is_refused(change, message):
    with pytest.raises(InputError, match=message) as error:
        from_gguf(fields(**change))
    assert "\n" not in str(error.value)


def test_a_vocabulary_in_another_file_is_named():
    with pytest.raises(InputError, match=r"not understood: tokenizer\.huggingface\.json; use"):
        from_gguf({**FIELDS, "tokenizer.huggingface.json": "{}"})


def test_a_gguf_without_a_tokenizer_has_none():
    assert from_gguf({}) is None

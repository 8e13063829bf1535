"""Random files of tokenizers: the ids of transformers, and no traceback."""

import json
import tempfile
from pathlib import Path

import fuzz
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_cases import FIELDS, TOKENS, write_tokenizer
from tokenizers import AddedToken, normalizers, processors

from jaxanatomy.weights.folder_tokenizer import from_folder
from jaxanatomy.weights.gguf_tokenizer import from_gguf

FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
NEW = ("<tool>", "</tool>", "hello", "ell", "<|x|>", "  ", "🙂", "He", "[PAD]", " w", "w1")
PARTS = (*NEW, *TOKENS[:2], "he", " ", "W", "123", "É", "\n", "<eos>", "<|img|>", "x")
NORMALIZERS = (
    None,
    normalizers.Lowercase(),
    normalizers.NFKC(),
    normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]),
)

token_flags = st.fixed_dictionaries({name: st.booleans() for name in FLAGS})
new_tokens = st.lists(st.sampled_from(NEW), max_size=3, unique=True)
texts = st.lists(st.sampled_from(PARTS), max_size=8).map("".join)


@st.composite
def tokenizer_files(draw):
    """The files of a tokenizer, as JSON by name."""
    backend = tokenizers.Tokenizer.from_str(from_gguf(FIELDS).backend.to_str())
    if (normalizer := draw(st.sampled_from(NORMALIZERS))) is not None:
        backend.normalizer = normalizer
    backend.add_tokens([AddedToken(token, **draw(token_flags)) for token in draw(new_tokens)])
    if draw(st.booleans()):
        backend.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    files = {"tokenizer.json": json.loads(backend.to_str())}
    config = draw(
        st.fixed_dictionaries(
            {"tokenizer_class": st.sampled_from(["PreTrainedTokenizerFast", "TokenizersBackend"])},
            optional={
                "bos_token": st.sampled_from(["<|im_start|>", "[PAD]"]),
                "eos_token": st.sampled_from(["<|endoftext|>", "<eos>"]),
                "pad_token": st.sampled_from(["[PAD]", "<|endoftext|>", None]),
                "image_token": st.just("<|img|>"),
                "additional_special_tokens": new_tokens,
                "split_special_tokens": st.booleans(),
                "clean_up_tokenization_spaces": st.booleans(),
            },
        )
    )
    where = draw(st.sampled_from(("added_tokens_decoder", "added_tokens.json", "nowhere")))
    numbered = _numbered(backend, draw(new_tokens))
    if where == "added_tokens_decoder":
        config[where] = {
            str(index): {"content": token, **draw(token_flags)} for token, index in numbered.items()
        }
    elif where == "added_tokens.json":
        files[where] = numbered
    if draw(st.booleans()):
        files["special_tokens_map.json"] = draw(
            st.fixed_dictionaries(
                {"eos_token": st.sampled_from(["<|endoftext|>", "<|im_start|>"])},
                optional={"additional_special_tokens": new_tokens},
            )
        )
    return files | {"tokenizer_config.json": config}


def _numbered(backend, tokens):
    """The ids that tokens have, and those that new ones get."""
    found = {token: backend.token_to_id(token) for token in tokens}
    free = iter(range(backend.get_vocab_size(), 10**6))
    return {token: next(free) if index is None else index for token, index in found.items()}


def _write(files, folder):
    for name, content in files.items():
        (Path(folder) / name).write_text(json.dumps(content))
    (Path(folder) / "config.json").write_text('{"model_type": "llama"}')
    return Path(folder)


def _same_ids_as_transformers(files, lines):
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        ours = fuzz.reads_or_refuses(from_folder, _write(files, folder))
        if ours is None:  # two lists of special tokens, one of them for nothing
            return False
        theirs = AutoTokenizer.from_pretrained(folder)
        for line in lines:
            assert ours.encode(line) == theirs(line, add_special_tokens=False).input_ids
        for name in ("bos", "eos"):
            if f"{name}_token" in files["tokenizer_config.json"]:
                assert getattr(ours, f"{name}_id") == getattr(theirs, f"{name}_token_id")
        return True


def test_random_added_tokens_have_the_ids_of_transformers():
    compared = []

    @fuzz.bounded(60)
    @given(tokenizer_files(), st.lists(texts, min_size=5, max_size=10))
    def check(files, lines):
        compared.append(_same_ids_as_transformers(files, lines))

    check()
    assert sum(compared) > 0.8 * len(compared)


@pytest.mark.slow
@fuzz.bounded(400)
@given(tokenizer_files(), st.lists(texts, min_size=5, max_size=10))
def test_many_random_added_tokens_have_the_ids_of_transformers(files, lines):
    _same_ids_as_transformers(files, lines)


@fuzz.bounded(60)
@given(
    st.lists(
        st.tuples(st.sampled_from(NEW), st.sampled_from((3, 4))), unique_by=lambda pair: pair[0]
    ),
    st.lists(texts, min_size=5, max_size=10),
)
def test_random_added_tokens_of_a_gguf_have_the_ids_of_transformers(added, lines):
    from transformers import AutoTokenizer

    added = [(token, kind) for token, kind in added if token not in TOKENS]
    gguf = from_gguf(
        FIELDS
        | {
            "tokenizer.ggml.tokens": TOKENS + [token for token, _ in added],
            "tokenizer.ggml.token_type": FIELDS["tokenizer.ggml.token_type"]
            + [kind for _, kind in added],
        }
    )
    decoder = {
        str(len(TOKENS) + place): {"content": token, "normalized": False, "special": kind == 3}
        for place, (token, kind) in enumerate(added)
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = {"added_tokens_decoder": decoder, "tokenizer_class": "TokenizersBackend"}
        _write({"tokenizer_config.json": settings}, write_tokenizer(Path(folder)))
        theirs = AutoTokenizer.from_pretrained(folder)
    for line in lines:
        assert gguf.encode(line) == theirs(line, add_special_tokens=False).input_ids


def _reads_or_refuses(name, content):
    with tempfile.TemporaryDirectory() as folder:
        files = {"tokenizer_config.json": {"bos_token": "<|im_start|>", "added_tokens_decoder": {}}}
        write_tokenizer(Path(folder), files)
        (Path(folder) / name).write_bytes(content)
        fuzz.reads_or_refuses(from_folder, Path(folder))


CONFIG = {
    "bos_token": {"content": "<|im_start|>", "lstrip": False},
    "eos_token": "<|endoftext|>",
    "additional_special_tokens": ["<tool>"],
    "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "special": True}},
    "split_special_tokens": False,
    "add_bos_token": True,
    "add_prefix_space": False,
    "auto_map": None,
}


@pytest.mark.slow
@fuzz.bounded(300)
@given(st.data())
def test_any_settings_are_read_or_refused(data):
    name, value = data.draw(
        st.sampled_from(
            [
                ("tokenizer_config.json", CONFIG),
                ("special_tokens_map.json", {key: CONFIG[key] for key in list(CONFIG)[:3]}),
                ("added_tokens.json", {"<tool>": len(TOKENS)}),
                ("config.json", {"bos_token_id": 1, "eos_token_id": [0, 1]}),
            ]
        )
    )
    _reads_or_refuses(name, data.draw(fuzz.damaged_json(value)))


@pytest.mark.slow
@fuzz.bounded(300)
@given(st.data())
def test_any_tokenizer_json_is_read_or_refused(data):
    stored = json.loads(from_gguf(FIELDS).backend.to_str())
    stored["model"]["vocab"] = {"a": 0, "b": 1, "ab": 2}
    stored["model"]["merges"] = [["a", "b"]]
    stored["added_tokens"] = stored["added_tokens"][:1] and [
        {**stored["added_tokens"][0], "id": 3, "content": "<s>"}
    ]
    _reads_or_refuses("tokenizer.json", data.draw(fuzz.damaged_json(stored)))


@pytest.mark.slow
@fuzz.bounded(300)
@given(st.sampled_from(sorted(FIELDS)), fuzz.json_values())
def test_any_metadata_of_a_gguf_is_read_or_refused(key, value):
    fuzz.reads_or_refuses(from_gguf, FIELDS | {key: value})

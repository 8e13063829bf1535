"""Text to token ids and back, over the `tokenizers` library; no torch."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.weights import tokenizer_files

# The split of Llama 3 before BPE (its tokenizer.json, `pre_tokenizer`).
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED = 3, 4  # token types of GGUF

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


class Tokenizer:
    """A tokenizer that adds nothing of its own to a text.

    Attributes:
      backend: The `tokenizers.Tokenizer`.
      bos_id: Id of the token that begins a document, or None.
      eos_id: Id of the token that ends one, or None.
      files: Files that describe it to transformers, by name, as they came: they go along
        when a model is written. None where it was made here.
    """

    def __init__(
        self,
        backend: Any,
        bos_id: int | None = None,
        eos_id: int | None = None,
        files: Mapping[str, bytes] | None = None,
    ):
        backend.no_truncation()
        backend.no_padding()
        self.backend, self.bos_id, self.eos_id = backend, bos_id, eos_id
        self.files = dict(files or {})

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without BOS or EOS."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.backend.decode([int(token) for token in ids], skip_special_tokens=False)

    def token(self, token_id: int | None) -> str | None:
        """The spelling of one token."""
        return None if token_id is None else self.backend.id_to_token(token_id)

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_dict` is its inverse."""
        return {
            "json": self.backend.to_str(),
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "files": tokenizer_files.to_text(self.files),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Tokenizer":
        import tokenizers

        backend = tokenizers.Tokenizer.from_str(fields["json"])
        files = tokenizer_files.from_text(fields["files"])
        return cls(backend, fields["bos_id"], fields["eos_id"], files)


def from_folder(folder: Path) -> Tokenizer | None:
    """The tokenizer of a Hugging Face folder; None when it has no tokenizer files.

    Raises:
      InputError: tokenizer.json is damaged, or there is only another form of tokenizer
        and transformers cannot convert it.
    """
    import tokenizers

    if not any((folder / name).exists() for name in _TOKENIZER_FILES):
        return None
    path = folder / "tokenizer.json"
    if not path.exists():
        return _through_transformers(folder)
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise InputError(
            f"{path} must be a tokenizer of the tokenizers library; {error}; fetch it again"
        ) from error
    settings = {**_json(folder / "special_tokens_map.json")}
    settings |= _json(folder / "tokenizer_config.json")
    ids = (_special_id(backend, settings.get(key)) for key in ("bos_token", "eos_token"))
    return Tokenizer(backend, *ids, tokenizer_files.read(folder))


def from_gguf(fields: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer in the metadata of a GGUF file; None when it has none.

    Args:
      fields: Metadata by key; `tokenizer.ggml.tokens`, `merges` and `token_type` are
        lists.

    Raises:
      InputError: It is of a kind that is not understood.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    tokens = fields.get("tokenizer.ggml.tokens")
    if tokens is None:
        return None
    split, ignore_merges = _gguf_split(fields)
    merges = [tuple(merge.split(" ")) for merge in fields.get("tokenizer.ggml.merges", ())]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges)
    except Exception as error:  # the library raises bare exceptions
        raise InputError(f"the merges of the GGUF do not fit its tokens; {error}") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(split)
    backend.decoder = decoders.ByteLevel()
    types = fields.get("tokenizer.ggml.token_type", ())
    for kind, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        spelled = [token for token, given in zip(tokens, types, strict=False) if given == kind]
        add([tokenizers.AddedToken(token, normalized=False) for token in spelled])
    ids = (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
    return Tokenizer(backend, *ids, tokenizer_files.from_gguf(fields))


def _gguf_split(fields: Mapping[str, Any]) -> tuple[list[Any], bool]:
    """What splits a text before BPE, and whether whole words skip the merges."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Split

    model, kind = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model == "gpt2" and kind == "smollm":
        return [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)], False
    if model == "gpt2" and kind == "gpt-2":
        return [ByteLevel(add_prefix_space=False)], False
    if model == "gpt2" and kind == "llama-bpe":
        words = Split(Regex(_LLAMA3_SPLIT), "isolated")
        return [words, ByteLevel(add_prefix_space=False, use_regex=False)], True
    raise InputError(
        "expected a GGUF tokenizer gpt2 with pre-tokenizer smollm, gpt-2 or llama-bpe; got "
        f"{model} with {kind}; use the model's Hugging Face folder (hf: or file:)"
    )


def _through_transformers(folder: Path) -> Tokenizer:
    """A tokenizer in an older form, converted by transformers."""
    import transformers

    try:
        slow = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        ids = (slow.bos_token_id, slow.eos_token_id)
        return Tokenizer(slow.backend_tokenizer, *ids, tokenizer_files.read(folder))
    except Exception as error:  # conversions fail in as many ways as there are tokenizers
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{folder} has no tokenizer.json and its tokenizer cannot be converted; {reason}; "
            "save it with transformers' save_pretrained first"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} must be JSON; {error}; fetch it again") from error


def _special_id(backend: Any, token: str | Mapping[str, Any] | None) -> int | None:
    spelling = token["content"] if isinstance(token, Mapping) else token
    return None if spelling is None else backend.token_to_id(spelling)

"""The files that describe a tokenizer to transformers: kept as they came, or written anew."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import tokenizers
from tokenizers.processors import TemplateProcessing

from jaxanatomy.errors import InputError
from jaxanatomy.storage import read_file

# Any of these holds the vocabulary.
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
NAMES = (
    *VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_TEMPLATES = "additional_chat_templates/*.jinja"
PATTERNS = (*NAMES, _TEMPLATES)

# Where a GGUF has the ids of special tokens ("seperator" is how its format spells it).
_GGUF_TOKENS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",
    "cls_token": "cls",
    "mask_token": "mask",
}


def read(folder: Path) -> dict[str, bytes]:
    """The tokenizer's files of a Hugging Face folder, chat templates included, by name.

    Raises:
      InputError: One cannot be read.
    """
    paths = [folder / name for name in NAMES if (folder / name).exists()]
    paths += sorted(folder.glob(_TEMPLATES))
    try:
        return {path.relative_to(folder).as_posix(): read_file(path) for path in paths}
    except OSError as error:
        raise InputError(
            f"{folder} must have tokenizer files that can be read; {error}; fetch it again"
        ) from error


def gguf_settings(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """What the metadata of a GGUF says of its tokenizer beside the vocabulary.

    Special tokens, whether BOS and EOS are added, and chat templates become a
    tokenizer_config.json.

    Args:
      fields: Metadata by key; `tokenizer.ggml.tokens` is a list.
    """
    tokens = fields["tokenizer.ggml.tokens"]
    ids = {name: fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in _GGUF_TOKENS.items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{name: tokens[index] for name, index in ids.items() if _names_one_of(tokens, index)},
        "add_bos_token": fields.get("tokenizer.ggml.add_bos_token", gguf_adds_bos(fields) or None),
        "add_eos_token": fields.get("tokenizer.ggml.add_eos_token"),
        "model_max_length": fields.get(f"{fields.get('general.architecture')}.context_length"),
        "clean_up_tokenization_spaces": False,
        "chat_template": _gguf_templates(fields),
    }
    return {"tokenizer_config.json": _json(settings)}


def gguf_adds_bos(fields: Mapping[str, Any]) -> bool:
    """What llama.cpp does where the file says nothing: Llama 3's tokenizer adds BOS."""
    has_bos = fields.get("tokenizer.ggml.bos_token_id") is not None
    return has_bos and fields.get("tokenizer.ggml.pre") == "llama-bpe"


def to_write(tokenizer: Any, context_length: int) -> dict[str, bytes]:
    """The files of a tokenizer: those that it came with, and what they lack.

    Args:
      tokenizer: A `weights.Tokenizer`.
      context_length: Of the model, in tokens.
    """
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.token(tokenizer.bos_id),
        "eos_token": tokenizer.token(tokenizer.eos_id),
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    files = dict(tokenizer.files) or {"tokenizer_config.json": _json(settings)}
    if not files.keys() & set(VOCABULARIES):
        given = json.loads(files["tokenizer_config.json"])
        files["tokenizer.json"] = _with_template(tokenizer, given).encode()
    return files


def to_text(files: Mapping[str, bytes]) -> dict[str, str]:
    """Files as JSON can hold them; `from_text` is the inverse."""
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def from_text(files: Mapping[str, str]) -> dict[str, bytes]:
    """The inverse of `to_text`.

    Raises:
      InputError: A name means a file outside the folder that the files are written to.
    """
    if outside := [name for name in files if not is_local_name(name)]:
        raise InputError(f"files must lie in the model's folder; got {outside[0]!r}; copy it anew")
    return {name: base64.b64decode(content, validate=True) for name, content in files.items()}


def is_local_name(name: Any) -> bool:
    """Whether a name that a file gives means a file below the folder of that file.

    A link of that name is followed: the hub's cache is made of links, and only who owns the
    disk makes them.
    """
    if not isinstance(name, str) or set(name) & set("\\:\0\n"):
        return False
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not name.startswith("/")


def _with_template(tokenizer: Any, settings: Mapping[str, Any]) -> str:
    """tokenizer.json; it adds BOS and EOS itself, since transformers heeds no setting there."""
    text = tokenizer.backend.to_str()
    bos, eos = (
        [(tokenizer.token(token_id), token_id)]
        if settings.get(name) and token_id is not None
        else []
        for name, token_id in (
            ("add_bos_token", tokenizer.bos_id),
            ("add_eos_token", tokenizer.eos_id),
        )
    )
    if not bos + eos:
        return text
    backend = tokenizers.Tokenizer.from_str(text)
    before, after = ([token for token, _ in given] for given in (bos, eos))
    backend.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[
            *before,
            "$A",
            *after,
            *(f"{token}:1" for token in before),
            "$B:1",
            *(f"{token}:1" for token in after),
        ],
        special_tokens=list(dict.fromkeys(bos + eos)),
    )
    return backend.to_str()


def _names_one_of(tokens: list[str], index: Any) -> bool:
    return isinstance(index, int) and 0 <= index < len(tokens)


def _gguf_templates(fields: Mapping[str, Any]) -> str | list[dict[str, str]] | None:
    """The chat template; a list with names where there are several."""
    key = "tokenizer.chat_template"
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    named = {
        name.removeprefix(f"{key}."): text
        for name, text in texts.items()
        if name.startswith(f"{key}.")
    }
    if not named:
        return texts.get(key)
    every = ({"default": texts[key]} if key in texts else {}) | named
    return [{"name": name, "template": template} for name, template in every.items()]


def _json(settings: Mapping[str, Any]) -> bytes:
    given = {name: value for name, value in settings.items() if value is not None}
    return (json.dumps(given, indent=2) + "\n").encode()

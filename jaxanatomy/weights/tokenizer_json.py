"""tokenizer.json: the whole tokenizer, or a refusal that names what would be lost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from jaxanatomy.errors import InputError
from jaxanatomy.weights.tokenizer import call_library, check_merges

FLAGS = {"lstrip", "rstrip", "single_word", "normalized", "special"}
REMEDY = "fetch it again"
# Fields of parts that the library writes back under another name.
_RENAMED = {"str_rep", "add_prefix_space"}
_MODEL_KEYS = {
    "type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
    "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
    "max_input_chars_per_word", "unk_id",
}  # fmt: skip


def read_backend(stored: Mapping[str, Any], path: Path) -> Any:
    """The `tokenizers.Tokenizer` that tokenizer.json describes, all of it.

    Args:
      stored: What the file holds.
      path: The file.

    Raises:
      InputError: It is damaged, cuts words at random, has fields that the tokenizers
        library would pass over, or gives an added token another id than the library does.
    """
    added = added_tokens(stored, path)
    _check_model(stored.get("model"), path)
    backend = call_library(
        lambda: tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8-sig")),
        f"{path} must be a tokenizer of the tokenizers library",
        REMEDY,
    )
    dropped = [f"model.{name}" for name in set(stored["model"]) - _MODEL_KEYS]
    for name in ("normalizer", "pre_tokenizer"):
        if (part := getattr(backend, name)) is not None:
            dropped += _dropped(stored[name], json.loads(part.__getstate__()), name)
    if dropped:
        raise InputError(
            f"{path} has fields that are not understood: {', '.join(sorted(dropped))}; remove them "
            "if they change no token, else update the tokenizers library"
        )
    for index, token in added.items():
        if (found := backend.token_to_id(token.content)) != index:
            raise InputError(
                f"{path} declares {token.content!r} as token {index}, but after its other tokens "
                f"it is {found}; save the tokenizer again with transformers' save_pretrained"
            )
    return backend


def added_tokens(stored: Mapping[str, Any], path: Path) -> dict[int, Any]:
    """The added tokens of tokenizer.json by id.

    Raises:
      InputError: One is malformed, or two have the same id.
    """
    entries = stored.get("added_tokens") or []
    if not isinstance(entries, list):
        raise InputError(
            f"added_tokens of {path} must be a list; got {str(entries)[:80]}; {REMEDY}"
        )
    tokens = {}
    for entry in entries:
        token = added_token(entry, str(path), with_id=True)
        if entry["id"] in tokens:
            raise InputError(f"two added tokens of {path} have the id {entry['id']}; {REMEDY}")
        tokens[entry["id"]] = token
    return tokens


def added_token(entry: Any, where: str, with_id: bool = False) -> Any:
    """A `tokenizers.AddedToken` from an entry of a file; every flag is used.

    Raises:
      InputError: It is no object with a content, known flags and, if asked for, an id.
    """
    fields = entry if isinstance(entry, dict) else {}
    flags = {key: flag for key, flag in fields.items() if key in FLAGS}
    content, index = fields.get("content"), fields.get("id")
    known = FLAGS | {"content", "__type"} | ({"id"} if with_id else set())
    if (
        set(fields) - known
        or not (isinstance(content, str) and content)
        or not all(type(flag) is bool for flag in flags.values())
        or (with_id and not (type(index) is int and index >= 0))
    ):
        raise InputError(
            f"an added token of {where} must have a content{', an id' * with_id} and flags "
            f"({', '.join(sorted(FLAGS))}) that are true or false; got {str(entry)[:120]!r}; "
            "correct it"
        )
    return AddedToken(content, **flags)


def normalisation(stored: Mapping[str, Any]) -> dict[str, bool]:
    """What tokenizer.json does of that which tokenizer_config.json may speak of, too."""
    parts = [*_components(stored.get("normalizer")), *_components(stored.get("pre_tokenizer"))]
    kinds = {part.get("type") for part in parts}
    bert = [part for part in parts if part.get("type") == "BertNormalizer"]
    lowercase = any(part.get("lowercase") for part in bert)
    accents = [part.get("strip_accents") for part in bert]  # null: as lowercase
    return {
        "add_prefix_space": "Prepend" in kinds or any(map(_prepends, parts)),
        "do_lower_case": "Lowercase" in kinds or lowercase,
        "strip_accents": "StripAccents" in kinds
        or any(lowercase if strip is None else strip for strip in accents),
        "tokenize_chinese_chars": any(part.get("handle_chinese_chars") for part in bert),
    }


def _check_model(model: Any, path: Path) -> None:
    """Refuses a model that is random, ambiguous, or at which the library would panic."""
    if not isinstance(model, dict):
        raise InputError(f"{path} must be a tokenizer; it has no object 'model'; {REMEDY}")
    if model.get("dropout"):
        raise InputError(
            f"{path} cuts words at random (dropout {model['dropout']}); set dropout to null"
        )
    vocabulary, merges = model.get("vocab"), model.get("merges")
    prefix = model.get("continuing_subword_prefix") or ""
    if isinstance(vocabulary, dict):
        if not all(type(index) is int for index in vocabulary.values()):
            raise InputError(f"the ids of the tokens of {path} must be whole numbers; {REMEDY}")
        if len(set(vocabulary.values())) < len(vocabulary):
            raise InputError(f"two tokens of {path} have the same id; {REMEDY}")
    if isinstance(vocabulary, dict) and isinstance(merges, list) and isinstance(prefix, str):
        check_merges(vocabulary, _pairs(merges, path), str(path), prefix)


def _pairs(merges: Sequence[Any], path: Path) -> list[list[str]]:
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    for pair in pairs:
        if not isinstance(pair, list) or [type(token) for token in pair] != [str, str]:
            raise InputError(
                f"a merge of {path} must be two tokens; got {str(pair)[:80]!r}; {REMEDY}"
            )
    return pairs


def _dropped(given: Any, kept: Any, place: str) -> Iterator[str]:
    """Names of the fields that the library passed over when it read a part."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name in kept:
                yield from _dropped(value, kept[name], f"{place}.{name}")
            elif name not in _RENAMED:
                yield f"{place}.{name}"
    elif isinstance(given, list) and isinstance(kept, list):
        for one, other in zip(given, kept, strict=False):
            yield from _dropped(one, other, place)


def _components(part: Any) -> Iterator[Mapping[str, Any]]:
    """The single normalizers or pre-tokenizers that a part is made of."""
    if not isinstance(part, dict):
        return
    inner = next((part[key] for key in ("normalizers", "pretokenizers") if key in part), None)
    if inner is None:
        yield part
    for one in inner or ():
        yield from _components(one)


def _prepends(part: Mapping[str, Any]) -> bool:
    """Whether a pre-tokenizer puts a space before a text."""
    if part.get("type") == "Metaspace" and "prepend_scheme" in part:
        return part["prepend_scheme"] != "never"
    return part.get("type") in ("ByteLevel", "Metaspace") and part.get("add_prefix_space", True)

"""The tokenizer in the metadata of a GGUF file.

Every key under `tokenizer.` is understood, known to decide no token, or refused by name.

| key (`tokenizer.ggml.` before it) | |
| --- | --- |
| `tokens`, `merges`, `token_type` | used; all three must be there |
| `model`, `pre` | used: gpt2 with smollm, gpt-2, llama-bpe or qwen2; others are refused |
| `bos_token_id`, `eos_token_id` | used |
| `add_bos_token` | used (llama-bpe: by default) in the template; `packing.add_bos` decides |
| `added_tokens` | checked: each must have a type that is matched as a whole |
| `add_space_prefix`, `remove_extra_whitespaces` | must be false |
| `scores`, ids of other special tokens, `add_eos_token`, chat templates | decide no token |
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Split

from jaxanatomy.errors import InputError
from jaxanatomy.weights import tokenizer_files
from jaxanatomy.weights.tokenizer import Tokenizer, begin_with_bos, call_library, check_merges

# The splits of Llama 3 and of Qwen2 before BPE (their tokenizer.json, `pre_tokenizer`): up to
# three digits together, or each alone.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"llama-bpe": _SPLIT.replace("DIGITS", "{1,3}"), "qwen2": _SPLIT.replace("DIGITS", "")}
# Token types of GGUF. Those of `_SPECIAL` and `_USER_DEFINED` are matched in a text before
# it is split, as in llama.cpp; the others are reached by merges or not at all.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
_SPECIAL = (_UNKNOWN, _CONTROL)
_TYPES = (_NORMAL, *_SPECIAL, _USER_DEFINED, _UNUSED)

_GGML = "tokenizer.ggml."
_USED = {
    "model", "pre", "tokens", "merges", "token_type", "bos_token_id", "eos_token_id",
    "add_bos_token", "added_tokens",
}  # fmt: skip
# Keys of which only these values mean the tokens that we give.
_FIXED = {"add_space_prefix": (False,), "remove_extra_whitespaces": (False,)}
# Keys that decide no token: for models of other kinds, generation, padding and chats.
_IGNORED = {
    "scores", "token_type_count", "unknown_token_id", "separator_token_id", "padding_token_id",
    "seperator_token_id", "cls_token_id", "mask_token_id", "eot_token_id", "eom_token_id",
    "eog_token_ids", "prefix_token_id", "suffix_token_id", "middle_token_id", "fim_pre_token_id",
    "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id",
    "fim_sep_token_id", "add_eos_token", "add_sep_token",
}  # fmt: skip
_OTHER_FORM = "use the model's Hugging Face folder (hf: or file:)"


def from_gguf(fields: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a GGUF file; None when it has none.

    Args:
      fields: Metadata by key; `tokenizer.ggml.tokens`, `merges` and `token_type` are
        lists.

    Raises:
      InputError: It is of a kind that is not understood, incomplete or damaged.
    """
    if f"{_GGML}tokens" not in fields:
        return None
    _check_keys(fields)
    split, ignore_merges = _split(fields)
    tokens, types, merges = _lists(fields)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    check_merges(vocabulary, merges, "the GGUF")
    model = call_library(
        lambda: models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges),
        "the merges of the GGUF must fit its tokens",
        "fetch it again",
    )
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(split)
    backend.decoder = decoders.ByteLevel()
    for kinds, add in (
        (_SPECIAL, backend.add_special_tokens),
        ((_USER_DEFINED,), backend.add_tokens),
    ):
        spelled = [token for token, kind in zip(tokens, types, strict=True) if kind in kinds]
        add([tokenizers.AddedToken(token, normalized=False) for token in spelled])
    bos, eos = (_id(fields, f"{name}_token_id", len(tokens)) for name in ("bos", "eos"))
    if _flag(fields, "add_bos_token", tokenizer_files.gguf_adds_bos(fields)):
        if bos is None:
            raise InputError(
                f"the GGUF has {_GGML}add_bos_token but no {_GGML}bos_token_id; fetch it again"
            )
        begin_with_bos(backend, bos)
    return Tokenizer(backend, bos, eos, tokenizer_files.gguf_settings(fields))


def _check_keys(fields: Mapping[str, Any]) -> None:
    known = {f"{_GGML}{name}" for name in _USED | set(_FIXED) | _IGNORED}
    unknown = sorted(
        key
        for key in fields
        if key.startswith("tokenizer.")
        and key not in known
        and not key.startswith("tokenizer.chat_template")
    )
    if unknown:
        raise InputError(
            f"the tokenizer of the GGUF has keys that are not understood: {', '.join(unknown)}; "
            f"{_OTHER_FORM}"
        )
    for name, accepted in _FIXED.items():
        if (value := fields.get(f"{_GGML}{name}", accepted[0])) not in accepted:
            raise InputError(
                f"expected {_GGML}{name}={accepted[0]}; got {value!r} in the GGUF; {_OTHER_FORM}"
            )


def _split(fields: Mapping[str, Any]) -> tuple[list[Any], bool]:
    """What splits a text before BPE, and whether whole words skip the merges."""
    model, kind = fields.get(f"{_GGML}model"), fields.get(f"{_GGML}pre")
    if model == "llama":
        raise InputError(
            "the GGUF has a SentencePiece tokenizer (tokenizer.ggml.model 'llama'), which is not "
            f"read from a GGUF; {_OTHER_FORM} with its tokenizer.json"
        )
    if model != "gpt2":
        raise InputError(
            f"expected tokenizer.ggml.model 'gpt2' in the GGUF; got {model!r}; {_OTHER_FORM}"
        )
    if kind == "smollm":
        return [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)], False
    if kind == "gpt-2":
        return [ByteLevel(add_prefix_space=False)], False
    if isinstance(kind, str) and kind in _SPLITS:
        words = Split(Regex(_SPLITS[kind]), "isolated")
        return [words, ByteLevel(add_prefix_space=False, use_regex=False)], kind == "llama-bpe"
    given = "none" if kind is None else repr(kind)
    raise InputError(
        "expected smollm, gpt-2, llama-bpe or qwen2 as tokenizer.ggml.pre, which says how a text "
        f"is split before BPE; the GGUF has {given}; {_OTHER_FORM}"
    )


def _lists(fields: Mapping[str, Any]) -> tuple[list[str], list[int], list[tuple[str, str]]]:
    """Tokens, their types and merges; all there, and of one another."""
    tokens = _list_of(fields, "tokens", str, "no token can be known")
    if len(set(tokens)) < len(tokens):
        twice, _ = collections.Counter(tokens).most_common(1)[0]
        raise InputError(f"the GGUF has the token {twice!r} twice; fetch it again")
    types = _list_of(fields, "token_type", int, "special tokens cannot be told from text")
    if len(types) != len(tokens):
        raise InputError(
            f"{_GGML}token_type must have one type for each of {len(tokens)} tokens; the GGUF has "
            f"{len(types)}; fetch it again"
        )
    for token, kind in zip(tokens, types, strict=True):
        if kind not in _TYPES:
            raise InputError(
                f"token {token!r} of the GGUF has type {kind}; understood are "
                f"{', '.join(map(str, _TYPES))} for gpt2; {_OTHER_FORM}"
            )
    whole = {
        token
        for token, kind in zip(tokens, types, strict=True)
        if kind in (*_SPECIAL, _USER_DEFINED)
    }
    for token in fields.get(f"{_GGML}added_tokens", ()):
        if token not in whole:
            raise InputError(
                f"{_GGML}added_tokens of the GGUF has {token!r}, whose token_type is not that of "
                f"an added token; {_OTHER_FORM}"
            )
    spelled = _list_of(fields, "merges", str, "words would fall apart into bytes")
    merges = [tuple(merge.split(" ")) for merge in spelled]
    if odd := [merge for merge in merges if len(merge) != 2]:
        raise InputError(
            f"{_GGML}merges must be of two tokens each; the GGUF has {' '.join(odd[0])!r}; fetch "
            "it again"
        )
    return tokens, types, merges


def _list_of(fields: Mapping[str, Any], name: str, kind: type, otherwise: str) -> Sequence[Any]:
    values = fields.get(f"{_GGML}{name}")
    if not isinstance(values, list) or not values:
        raise InputError(
            f"the GGUF must have a list {_GGML}{name}, or {otherwise}; it has none; use a file "
            "converted by a later llama.cpp"
        )
    if not all(type(value) is kind for value in values):
        raise InputError(f"{_GGML}{name} of the GGUF must be a list of {kind.__name__}")
    return values


def _id(fields: Mapping[str, Any], name: str, count: int) -> int | None:
    value = fields.get(f"{_GGML}{name}")
    if value is not None and not (type(value) is int and 0 <= value < count):
        raise InputError(
            f"{_GGML}{name} must be one of the tokens 0 .. {count - 1}; the GGUF has {value!r}; "
            "fetch it again"
        )
    return value


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(f"{_GGML}{name}", default)
    if not isinstance(value, bool):
        raise InputError(f"{_GGML}{name} must be true or false; the GGUF has {value!r}")
    return value

"""What the files beside tokenizer.json say of the tokenizer.

Each key is used, must agree with tokenizer.json, decides no token, or is refused by name.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from jaxanatomy.errors import InputError
from jaxanatomy.storage import read_json_object
from jaxanatomy.weights import tokenizer_json
from jaxanatomy.weights.tokenizer_json import REMEDY, added_token

_RESAVE = "save the tokenizer again with transformers' save_pretrained"

# Special tokens that transformers knows, in the order in which it adds those that are new.
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_NAMED_KEYS = tuple(f"{name}_token" for name in _NAMED)
_LISTS = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("split_special_tokens", "add_bos_token")
_USED = {"added_tokens_decoder", "model_specific_special_tokens", *_LISTS, *_FLAGS}
# Keys that must agree with what tokenizer.json does; null says nothing.
_AGREEING = ("add_prefix_space", "do_lower_case", "strip_accents", "tokenize_chinese_chars")
# Keys of which only these values mean the tokens that tokenizer.json gives.
_FIXED = {
    "auto_map": (None, {}),
    "sp_model_kwargs": (None, {}),
    "fix_mistral_regex": (None, False),
    "from_slow": (None, False),
}
# Keys that decide no token: names of classes and files, lengths, padding, chats, decoding.
_IGNORED = {
    "tokenizer_class", "tokenizer_type", "name_or_path", "_name_or_path", "model_type",
    "processor_class", "tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file",
    "backend", "is_local", "local_files_only", "files_loaded", "use_fast", "trust_remote_code",
    "revision", "verbose", "init_inputs", "device_map", "transformers_version", "vocab_size",
    "model_max_length", "max_length", "max_len", "stride", "truncation", "truncation_side",
    "truncation_strategy", "padding", "padding_side", "pad_to_multiple_of", "pad_token_type_id",
    "model_input_names", "return_token_type_ids", "token_type_ids_pattern",
    "token_type_ids_include_template", "pad_token_id", "bos_token_id", "eos_token_id",
    "unk_token_id", "add_eos_token", "legacy", "errors", "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
    "spaces_between_special_tokens", "decode_with_prefix_space", "chat_template",
    "chat_control_tokens", "response_template", "response_schema", "use_default_system_prompt",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the files say.

    Attributes:
      added: Added tokens by id.
      special: Special tokens by name (`bos_token` ...), in the order in which new ones are
        added: spellings, or added tokens with their flags.
      extra: Further special tokens.
      ids: (file, spelling, id) of every token that a file gives an id.
      declared: All special tokens, also of lists and files that transformers passes over.
      split_special_tokens: Whether the spelling of a special token is text like any other.
      add_bos_token: Whether BOS begins every text.
      config: config.json.
      mentioned: Names of special tokens that a file mentions, if only with null.
    """

    added: Mapping[int, Any]
    special: Mapping[str, Any]
    extra: tuple[Any, ...]
    ids: tuple[tuple[str, str, int], ...]
    declared: tuple[str, ...]
    split_special_tokens: bool
    add_bos_token: bool
    config: Mapping[str, Any]
    mentioned: frozenset[str]


def read_settings(folder: Path, stored: Mapping[str, Any]) -> Settings:
    """Reads the files beside tokenizer.json, as transformers 5 reads them.

    special_tokens_map.json and added_tokens.json count where tokenizer_config.json has no
    `added_tokens_decoder`; else what they say must be so all the same.

    Args:
      folder: Where they are; any may be missing.
      stored: What tokenizer.json holds.

    Raises:
      InputError: One is damaged, has a key that is not understood, or contradicts
        tokenizer.json.
    """
    path, other = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    fields, special_map = _read(path), _read(other)
    _check_keys(fields, path)
    _check_keys(special_map, other)
    _check_agreement(fields, tokenizer_json.normalisation(stored), path)
    declared = [*_all_special(fields, path), *_all_special(special_map, other)]
    numbered = _numbered(folder / "added_tokens.json")
    ids = [("added_tokens.json", token, index) for token, index in numbered.items()]
    extra, named = _further(fields, path)
    if "added_tokens_decoder" in fields:
        added = _decoder(fields["added_tokens_decoder"], path)
        ids += [(path.name, token.content, index) for index, token in added.items()]
    else:
        more, more_named = _further(special_map, other)
        named = named | more_named
        fields = fields | special_map
        counted = extra + more if special_map.get(_LISTS[0]) else extra
        added = {index: _guessed(token, fields, counted) for token, index in numbered.items()}
        added |= tokenizer_json.added_tokens(stored, folder / "tokenizer.json")
        extra = counted or more  # the older list counts for want of another
    known = {token.content: token for token in added.values()}
    named = _named(fields) | named
    return Settings(
        added=added,
        special={key: _special_token(value, path, known) for key, value in named.items()},
        extra=tuple(_special_token(value, path, {}) for value in extra),
        ids=tuple(ids),
        declared=tuple(spelling(_special_token(value, path, {})) for value in declared),
        split_special_tokens=_flag(fields, "split_special_tokens", path),
        add_bos_token=_flag(fields, "add_bos_token", path),
        config=_read(folder / "config.json"),
        mentioned=frozenset(set(fields) & set(_NAMED_KEYS)),
    )


def spelling(token: Any) -> Any:
    """The spelling of a special token in any of the forms that files have."""
    return token.get("content") if isinstance(token, dict) else getattr(token, "content", token)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object that a folder may lack."""
    return read_json_object(path, REMEDY) if path.exists() else {}


def _check_keys(fields: Mapping[str, Any], path: Path) -> None:
    known = _USED | set(_AGREEING) | set(_FIXED) | _IGNORED
    # Special tokens have names that models choose: image_token, eot_token ...
    unknown = sorted(
        key
        for key, value in fields.items()
        if key not in known and (not key.endswith("_token") or isinstance(value, bool))
    )
    if unknown:
        raise InputError(
            f"{path} has keys that are not understood: {', '.join(unknown)}; remove them if they "
            "decide no token"
        )
    for key, accepted in _FIXED.items():
        if fields.get(key) not in accepted:
            raise InputError(
                f"{key} of {path} must be unset; got {str(fields[key])[:80]}; {_RESAVE}"
            )


def _check_agreement(fields: Mapping[str, Any], done: Mapping[str, bool], path: Path) -> None:
    for key in _AGREEING:
        said = fields.get(key)
        if said is not None and said is not done[key]:
            right = str(done[key]).lower()
            raise InputError(
                f"{path} has {key}={str(said)[:40].lower()} but tokenizer.json does as with "
                f"{right}; set it to {right} if tokenizer.json is right, else {_RESAVE}"
            )


def _decoder(entries: Any, path: Path) -> dict[int, Any]:
    """The added tokens of `added_tokens_decoder` by id."""
    if not isinstance(entries, dict) or not all(re.fullmatch("[0-9]{1,9}", key) for key in entries):
        raise InputError(
            f"added_tokens_decoder of {path} must be an object with ids as keys; got "
            f"{str(entries)[:80]!r}; {REMEDY}"
        )
    return {int(index): added_token(entry, str(path)) for index, entry in entries.items()}


def _numbered(path: Path) -> dict[str, int]:
    """The ids of added_tokens.json by token."""
    entries = _read(path)
    for token, index in entries.items():
        if type(index) is not int or index < 0:
            raise InputError(
                f"{path} must give each token its id; {token!r} has {index!r}; mend it"
            )
    return entries


def _guessed(token: str, fields: Mapping[str, Any], extra: Sequence[Any]) -> Any:
    """A token of added_tokens.json, which has no flags: normalised unless it is special."""
    special = [*(fields.get(key) for key in _NAMED_KEYS), *extra]
    is_special = any(spelling(each) == token for each in special)
    return AddedToken(token, special=is_special, normalized=not is_special)


def _named(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens by name, those that transformers knows first."""
    others = (key for key in fields if key.endswith("_token") and key not in _USED | _IGNORED)
    names = dict.fromkeys((*_NAMED_KEYS, *others))
    return {key: fields[key] for key in names if fields.get(key) is not None}


def _further(fields: Mapping[str, Any], path: Path) -> tuple[list[Any], dict[str, Any]]:
    """Special tokens of the list that counts, and those of objects by name."""
    lists, named = _lists_and_named(fields, path)
    return next((tokens for tokens in lists if tokens), []), named


def _all_special(fields: Mapping[str, Any], path: Path) -> list[Any]:
    lists, named = _lists_and_named(fields, path)
    every = [token for tokens in lists for token in tokens]
    return [*_named(fields).values(), *named.values(), *every]


def _lists_and_named(
    fields: Mapping[str, Any], path: Path
) -> tuple[list[list[Any]], dict[str, Any]]:
    lists, named = [], {}
    for key in (*_LISTS, "model_specific_special_tokens"):
        value = fields.get(key) or []
        if isinstance(value, dict):
            named |= value
        elif isinstance(value, list):
            lists.append(value)
        else:
            raise InputError(
                f"{key} of {path} must be a list of tokens, or an object; got {str(value)[:80]!r}; "
                f"{REMEDY}"
            )
    return lists, named


def _special_token(value: Any, path: Path, known: Mapping[str, Any]) -> Any:
    """A special token as it is declared among the added tokens, else as it is written."""
    content = spelling(value)
    if not isinstance(content, str) or not content:
        raise InputError(
            f"a special token of {path} must be a string; got {str(value)[:80]}; correct it"
        )
    if content in known:
        return known[content]
    return value if isinstance(value, str) else added_token({"special": True, **value}, str(path))


def _flag(fields: Mapping[str, Any], name: str, path: Path) -> bool:
    value = fields.get(name)
    if value not in (None, True, False):
        raise InputError(f"{name} of {path} must be true or false; got {str(value)[:80]}")
    return bool(value)

"""The tokenizer of a Hugging Face folder, with the ids that transformers 5 gives.

tokenizer.json is the tokenizer (`tokenizer_json`). What the files beside it say is used, must
agree with it, decides no token, or is refused by name (`tokenizer_settings`):

| | |
| --- | --- |
| `added_tokens_decoder` | used, with all flags; ids are checked |
| `bos_token` and other `*_token`, `extra_special_tokens`, `additional_special_tokens` | used: each is one token |
| `split_special_tokens` | used |
| `add_bos_token` | used: it is in the tokenizer's template; `packing.add_bos` decides |
| special_tokens_map.json, added_tokens.json | used where there is no `added_tokens_decoder` |
| config.json: `bos_token_id`, `eos_token_id` (the first of a list) | used where no file names the token |
| `add_prefix_space`, `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` | must agree with tokenizer.json |
| `auto_map`, `sp_model_kwargs`, `fix_mistral_regex`, `from_slow` | must be unset |
| classes, file names, lengths, padding, truncation, chats, decoding | decide no token |
| any other key | refused |
"""  # noqa: E501

import importlib.util
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from jaxanatomy.errors import InputError
from jaxanatomy.storage import read_json_object
from jaxanatomy.weights import tokenizer_files
from jaxanatomy.weights.tokenizer import Tokenizer, begin_with_bos
from jaxanatomy.weights.tokenizer_json import REMEDY, read_backend
from jaxanatomy.weights.tokenizer_settings import Settings, read_settings, spelling

_SENTENCEPIECE = ("tokenizer.model", "spiece.model")
_OTHER_FORMS = (*_SENTENCEPIECE, "vocab.json", "vocab.txt", "tekken.json")


def from_folder(folder: Path) -> Tokenizer | None:
    """The tokenizer of a Hugging Face folder; None when it has none.

    Raises:
      InputError: A file is damaged or says what is not understood, or there is only
        another form of tokenizer and transformers cannot convert it.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        return _through_transformers(folder)
    stored = read_json_object(path, REMEDY)
    backend = read_backend(stored, path)
    settings = read_settings(folder, stored)
    _add_tokens(backend, settings)
    _check_ids(backend, folder, settings)
    backend.encode_special_tokens = settings.split_special_tokens
    bos, eos = (_special_id(backend, folder, settings, name) for name in ("bos", "eos"))
    tokenizer = Tokenizer(backend, bos, eos, tokenizer_files.read(folder))
    if settings.add_bos_token and tokenizer.token(bos) is not None and not tokenizer.adds_bos:
        begin_with_bos(backend, bos)
    return tokenizer


def _add_tokens(backend: Any, settings: Settings) -> None:
    """Adds what tokenizer.json lacks, in the order of transformers: by id, by name, others."""
    before = backend.get_added_tokens_decoder().values()
    same = {repr(token) for token in before}
    tokens = [token for _, token in sorted(settings.added.items()) if repr(token) not in same]
    spelled = {token.content for token in (*before, *tokens)}
    for token in (*settings.special.values(), *settings.extra):
        if spelling(token) not in spelled:
            spelled.add(spelling(token))
            tokens.append(AddedToken(token, special=True) if isinstance(token, str) else token)
    special = {spelling(token) for token in settings.special.values()}
    for token in tokens:
        token.special = token.special or token.content in special
    backend.add_tokens(tokens)


def _check_ids(backend: Any, folder: Path, settings: Settings) -> None:
    """Refuses a token that is declared under another id than it has, or has none."""
    for name, token, index in settings.ids:
        found = backend.token_to_id(token)
        if found != index:
            raise InputError(
                f"{folder / name} declares {token!r} as token {index}, but after the tokens of "
                f"tokenizer.json it is {'none' if found is None else found}; save the tokenizer "
                "again with transformers' save_pretrained"
            )
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    if lost := sorted(set(settings.declared) - known):
        raise InputError(
            f"{folder} declares the special tokens {', '.join(lost)} in a list or in "
            "special_tokens_map.json that transformers passes over for another; add them to "
            "added_tokens_decoder of tokenizer_config.json"
        )


def _special_id(backend: Any, folder: Path, settings: Settings, name: str) -> int | None:
    """The id of BOS or EOS: of the token that is named, else as config.json says."""
    if f"{name}_token" in settings.mentioned:
        token = settings.special.get(f"{name}_token")
        return None if token is None else backend.token_to_id(spelling(token))
    index = settings.config.get(f"{name}_token_id")
    if isinstance(index, list):
        index = index[0] if index else None
    if index is not None and (type(index) is not int or index < 0):
        raise InputError(
            f"{name}_token_id of {folder / 'config.json'} must be a token's id; got "
            f"{str(index)[:40]}; correct it"
        )
    return index


def _through_transformers(folder: Path) -> Tokenizer | None:
    """A tokenizer in an older form, converted by transformers; None if there is no such file."""
    found = next((name for name in _OTHER_FORMS if (folder / name).exists()), None)
    if found is None:
        return None
    if found in _SENTENCEPIECE and importlib.util.find_spec("sentencepiece") is None:
        raise InputError(
            f"{folder} has its tokenizer only as {found}, a SentencePiece model; pip install "
            "sentencepiece protobuf to read it here, or give a tokenizer.json beside it "
            "(transformers' save_pretrained writes one where they are installed)"
        )
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # what it tries on the way is not for the user
    try:
        slow = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        ids = (slow.bos_token_id, slow.eos_token_id)
        return Tokenizer(slow.backend_tokenizer, *ids, tokenizer_files.read(folder))
    except Exception as error:  # conversions fail in as many ways as there are tokenizers
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{folder} has no tokenizer.json and its {found} cannot be converted; {reason}; save "
            "it with transformers' save_pretrained first"
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)

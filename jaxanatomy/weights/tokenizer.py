"""Text to token ids and back, over the `tokenizers` library; no torch.

`folder_tokenizer` reads one from a Hugging Face folder, `gguf_tokenizer` from a GGUF.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import processors

from jaxanatomy.errors import InputError
from jaxanatomy.weights import tokenizer_files


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
        """Token ids of a text, without BOS or EOS.

        Raises:
          InputError: The tokenizer has no token for a part of the text.
        """
        encode = functools.partial(self.backend.encode, text, add_special_tokens=False)
        return call_library(encode, f"the tokenizer must encode {text[:40]!r}", "mend the text").ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.backend.decode([int(token) for token in ids], skip_special_tokens=False)

    def token(self, token_id: int | None) -> str | None:
        """The spelling of one token."""
        return None if token_id is None else self.backend.id_to_token(token_id)

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def adds_bos(self) -> bool:
        """Whether its own template begins a text with BOS, which `encode` does not apply."""
        return self.bos_id is not None and self.backend.encode("").ids[:1] == [self.bos_id]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_dict` is its inverse."""
        return {
            "json": self.backend.to_str(),
            "split_special_tokens": self.backend.encode_special_tokens,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "files": tokenizer_files.to_text(self.files),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Tokenizer":
        backend = tokenizers.Tokenizer.from_str(fields["json"])
        backend.encode_special_tokens = fields["split_special_tokens"]
        files = tokenizer_files.from_text(fields["files"])
        return cls(backend, fields["bos_id"], fields["eos_id"], files)


def call_library(call: Callable[[], Any], expected: str, remedy: str) -> Any:
    """What a call of the tokenizers library gives.

    Raises:
      InputError: It failed: the library raises bare exceptions, and where it panics one
        that is no `Exception`.
    """
    try:
        return call()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{expected}; {reason}; {remedy}") from error


def begin_with_bos(backend: Any, bos_id: int) -> None:
    """Makes BOS part of a tokenizer's template, as `add_bos_token` asks for it."""
    bos = backend.id_to_token(bos_id)
    template = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, bos_id)]
    )
    before = backend.post_processor
    backend.post_processor = template if before is None else processors.Sequence([before, template])


def check_merges(
    vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]], where: str, prefix: str = ""
) -> None:
    """Refuses merges whose parts or result are no tokens: the library would panic.

    Args:
      vocabulary: Ids by token.
      merges: Pairs of tokens.
      where: The file, for the message.
      prefix: Of tokens that go on inside a word, dropped when they are merged.
    """
    for pair in merges:
        one, other = pair
        for token in (one, other, one + other.removeprefix(prefix)):
            if token not in vocabulary:
                raise InputError(
                    f"the merges of {where} must be of its tokens; {one!r} + {other!r} needs "
                    f"{token!r}, which is none; fetch the file again"
                )

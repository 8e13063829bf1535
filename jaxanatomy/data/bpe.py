"""A byte-level BPE of a few thousand entries, trained on text that every machine has.

A vocabulary of 49,152 would dwarf a model of a few million parameters. This one is
trained with the `tokenizers` library on the library of the running Python and generated
questions, and kept in the cache. Its training is a pure function of the text, so two
machines with the same Python have the same entries.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from jaxanatomy.data import arithmetic, library_text, primitives, questions
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache
from jaxanatomy.weights.folder_tokenizer import from_folder
from jaxanatomy.weights.tokenizer import Tokenizer

DEFAULT_SIZE = 4096
END = "<|endoftext|>"
SMALLEST = 256 + 1  # the bytes and END
LARGEST = 2**20  # more than any model has; room for all is taken before training
_QUESTIONS = 4000  # documents of each kind of question that it is trained on
_MADE_BY = tuple(Path(module.__file__) for module in (primitives, arithmetic, questions))


def offline_tokenizer(vocab_size: int = DEFAULT_SIZE) -> Tokenizer:
    """The tokenizer of offline training, from the cache or trained now.

    Args:
      vocab_size: Entries, `END` among them.

    Raises:
      InputError: `vocab_size` is too small for single bytes or above `LARGEST`, or the cache
        is not writable.
    """
    folder = tokenizer_folder(vocab_size)
    return from_folder(folder)


def tokenizer_folder(vocab_size: int = DEFAULT_SIZE) -> Path:
    """A folder with `tokenizer.json` and `tokenizer_config.json`, as transformers reads them."""
    if not SMALLEST <= vocab_size <= LARGEST:
        raise InputError(
            f"a byte-level vocabulary must have {SMALLEST} to {LARGEST} entries; got "
            f"{vocab_size}; {'raise' if vocab_size < SMALLEST else 'lower'} it"
        )

    def make(folder: Path) -> None:
        save(train(_training_text(), vocab_size), folder)

    made_from = f"{library_text.sha256()} {_questions_sha256()} {version('tokenizers')}"
    digest = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    return cache.entry(f"bpe/{vocab_size}-{digest}", make)


def train(texts: Iterable[str], vocab_size: int = DEFAULT_SIZE) -> Tokenizer:
    """Trains a byte-level BPE, its text split as SmolLM's: every digit alone.

    Args:
      texts: Documents.
      vocab_size: Entries; fewer are made if the text has not enough pairs.
    """
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, bos_id=None, eos_id=backend.token_to_id(END))


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a tokenizer as transformers and `tokenizers` read it."""
    cache.write_atomically(folder / "tokenizer.json", tokenizer.backend.to_str(pretty=True))
    cache.write_atomically(
        folder / "tokenizer_config.json",
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "' + END + '"}\n',
    )


def _training_text() -> Iterator[str]:
    for kind in library_text.KINDS:
        for name, text in library_text.documents(kind):
            if not library_text.held_out(name):
                yield text
    yield from _questions()


def _questions() -> Iterator[str]:
    for tasks in (primitives.PRIMITIVES, arithmetic.ARITHMETIC):
        for index in range(_QUESTIONS):
            yield questions.document(tasks, 0, index)


@functools.cache
def _questions_sha256() -> str:
    """Of the code that makes them: to make them all takes seconds."""
    parts = [f"{_QUESTIONS}".encode(), *(path.read_bytes() for path in _MADE_BY)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()

"""Simple facts in plain sentences, for training small models from scratch (AH section 4.6).

The paper trains on a small set of facts that it does not publish. These sentences were
written for this project: 120 facts, each said in five ways, among them the twelve of AH
Table 9. One of the five is held out for validation: a fact that was never told cannot be
known, but one that was told in other words can.

A batch of eight sentences makes 60 steps an epoch of the 480 training sentences, as in the
paper ("about 11 epochs" of 656 steps), and predicts 55 tokens on average.
"""

import collections
import dataclasses
import functools
import hashlib
import importlib.resources
import json
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from jaxanatomy.errors import InputError
from jaxanatomy.weights.tokenizer import Tokenizer

PAD, UNKNOWN, END = "<pad>", "<unk>", "<eos>"
SPECIAL = (PAD, UNKNOWN, END)


@dataclasses.dataclass(frozen=True)
class Facts:
    """The corpus, split by sentence.

    Attributes:
      train: Sentences, in the order of the facts.
      validation: One paraphrase of each fact that was held out.
      prompts: Pairs (beginning, the rest) of sentences in `train` (AH Table 9).
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    prompts: tuple[tuple[str, str], ...]

    @functools.cached_property
    def sha256(self) -> str:
        """A hash of all sentences and the split."""
        return hashlib.sha256(json.dumps(dataclasses.astuple(self)).encode()).hexdigest()


def facts(seed: int = 0) -> Facts:
    """The corpus of facts.

    Of each fact one sentence is held out: drawn, but never the sentence of a prompt, and
    never the last that has one of its words, so that validation has no unknown word.

    Args:
      seed: Of the draw.
    """
    source = _source()
    prompts = tuple((start, rest) for start, rest in source["prompts"])
    kept = {f"{start} {rest}" for start, rest in prompts}
    groups = _paraphrases(source)
    left = collections.Counter(word for group in groups for line in group for word in line.split())
    rng = np.random.default_rng(seed)
    validation = set()
    for group in groups:
        for index in rng.permutation(len(group)):
            words = collections.Counter(group[index].split())
            if group[index] not in kept and all(left[word] > words[word] for word in words):
                validation.add(group[index])
                left -= words
                break
    sentences = [line for group in groups for line in group]
    return Facts(
        train=tuple(line for line in sentences if line not in validation),
        validation=tuple(line for line in sentences if line in validation),
        prompts=prompts,
    )


def word_tokenizer(sentences: tuple[str, ...], vocab_size: int) -> Tokenizer:
    """One token for each word, in alphabetic order after padding, unknown and end.

    Args:
      sentences: Whose words it knows; others become `<unk>`.
      vocab_size: Entries; those that no word needs are named `<unused_0>`, ...

    Raises:
      InputError: There are more words.
    """
    words = sorted({word for line in sentences for word in line.split()})
    spare = vocab_size - len(SPECIAL) - len(words)
    if spare < 0:
        raise InputError(
            f"vocab_size must hold {len(words)} words and {len(SPECIAL)} special tokens; got "
            f"{vocab_size}; take {len(words) + len(SPECIAL)} or more"
        )
    entries = [*SPECIAL, *words, *(f"<unused_{index}>" for index in range(spare))]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend, eos_id=vocabulary[END])


def rows(sentences: tuple[str, ...], tokenizer: Tokenizer, length: int) -> np.ndarray:
    """A sentence and its end token a row, then padding; int32 [R, T].

    Args:
      sentences: One for each row.
      tokenizer: Of `word_tokenizer`.
      length: Tokens T of a row.

    Raises:
      InputError: A sentence is longer.
    """
    encoded = [[*tokenizer.encode(line), tokenizer.eos_id] for line in sentences]
    longest = max(map(len, encoded))
    if longest > length:
        raise InputError(
            f"rows of {length} tokens are too short for a sentence of {longest} with its end; "
            "raise the context"
        )
    pad = SPECIAL.index(PAD)
    token_RT = np.full((len(encoded), length), pad, np.int32)
    for row, ids in zip(token_RT, encoded, strict=True):
        row[: len(ids)] = ids
    return token_RT


def longest_row(sentences: tuple[str, ...]) -> int:
    """Tokens of the longest sentence with its end."""
    return max(len(line.split()) for line in sentences) + 1


def batch_order(num_sentences: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """Which sentences each step reads: epoch after epoch, each in an order of its own.

    A batch may hold the end of one epoch and the beginning of the next. The first steps are
    the same whatever `steps` is.

    Args:
      num_sentences: Sentences of the training split.
      batch_size: Rows R of a batch.
      steps: How many steps.
      seed: Of the orders.

    Returns:
      Indices, int64 [steps, R].
    """
    rng = np.random.default_rng(seed)
    epochs = -(-steps * batch_size // num_sentences)
    order = np.concatenate([rng.permutation(num_sentences) for _ in range(epochs)])
    return order[: steps * batch_size].reshape(steps, batch_size)


def _paraphrases(source: dict[str, Any]) -> list[list[str]]:
    """All sentences, a list for each fact."""
    groups = [
        [template.format(*fact) for template in family["templates"]]
        for family in source["families"]
        for fact in family["facts"]
    ]
    return groups + source["others"]


@functools.cache
def _source() -> dict[str, Any]:
    folder = importlib.resources.files("jaxanatomy.data")
    return json.loads(folder.joinpath("facts.json").read_text("utf-8"))

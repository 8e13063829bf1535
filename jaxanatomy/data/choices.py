"""Questions as rows of tokens: every choice after its prompt, scored and compared.

Of a model in training:

    scoring = pack_choices(questions(PRIMITIVES, 50), tokenizer, batch_size=8, seq_len=256)
    nll = [loss.nll(params, batch) for batch in scoring.batches]
    right = scoring.right(nll)                # bool [Q]

The chosen answer is the one whose tokens have the highest summed log-probability, as
lm-evaluation-harness has it (`acc`). `pack_questions` packs the same for a sweep.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxanatomy.data.packing import PackedText, best_fit
from jaxanatomy.data.prefixes import Scored, pack_sequences
from jaxanatomy.data.questions import Question, Questions
from jaxanatomy.data.sequences import TokenBatch
from jaxanatomy.data.text import LeftOut
from jaxanatomy.errors import InputError
from jaxanatomy.weights.tokenizer import Tokenizer

NO_CHOICE = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Scoring:
    """Questions with all their choices, packed.

    Attributes:
      questions: Q questions.
      batches: A weight is 1 where a token of a choice is predicted.
      item_NBT: For each batch, which choice a position belongs to, counted over all
        choices of all questions; -1 where there is none.
    """

    questions: tuple[Question, ...]
    batches: tuple[TokenBatch, ...]
    item_NBT: np.ndarray

    def __repr__(self) -> str:
        return f"Scoring({len(self.questions)} questions in {len(self.batches)} batches)"

    @property
    def chance(self) -> float:
        """The accuracy of guessing, as a mean over the questions."""
        return float(np.mean([question.chance for question in self.questions]))

    def chosen(self, nll_NBT: Sequence[np.ndarray]) -> np.ndarray:
        """Which choice of each question has the lowest summed loss, [Q]; `NO_CHOICE` if none has.

        Args:
          nll_NBT: The loss of each target of each batch, in their order.
        """
        nll_NBT = np.stack([np.asarray(nll_BT, np.float64) for nll_BT in nll_NBT])
        weight_NBT = np.stack([batch.weight_BT for batch in self.batches])
        counted = weight_NBT > 0
        sums = np.bincount(self.item_NBT[counted], nll_NBT[counted])
        sums = np.where(np.isfinite(sums), sums, np.inf)  # what is no number is never taken
        ends = np.cumsum([len(question.choices) for question in self.questions])
        return np.array(
            [
                part.argmin() if np.isfinite(part).any() else NO_CHOICE
                for part in np.split(sums, ends[:-1])
            ]
        )

    def right(self, nll_NBT: Sequence[np.ndarray]) -> np.ndarray:
        """Whether each question is answered, bool [Q]; arguments as `chosen`."""
        return self.chosen(nll_NBT) == [question.answer for question in self.questions]


def pack_choices(
    questions: Sequence[Question], tokenizer: Tokenizer, batch_size: int, seq_len: int
) -> Scoring:
    """Packs every choice of every question, each with its prompt, into rows.

    Args:
      questions: What is asked.
      tokenizer: Must split a text where a choice begins; checked.
      batch_size: Rows B of a batch.
      seq_len: Tokens T of a row.

    Raises:
      InputError: A prompt with a choice is longer than a row.
    """
    items = [
        _tokens(question, choice, tokenizer, seq_len)
        for question in questions
        for choice in question.choices
    ]
    packed = best_fit([len(token) - 1 for token, _ in items], seq_len)
    packed += [[]] * (-len(packed) % batch_size)
    shape = (len(packed), seq_len)
    fields = {name: np.zeros(shape, np.int32) for name in ("token_BT", "target_BT", "position_BT")}
    fields["weight_BT"] = np.zeros(shape, np.float32)
    fields["segment_BT"] = np.full(shape, -1, np.int32)
    item_RT = np.full(shape, -1, np.int32)
    for row, places in enumerate(packed):
        start = 0
        for segment, item in enumerate(places):
            token, prompt_length = items[item]
            inside = row, slice(start, start + len(token) - 1)
            fields["token_BT"][inside] = token[:-1]
            fields["target_BT"][inside] = token[1:]
            fields["position_BT"][inside] = np.arange(len(token) - 1)
            fields["weight_BT"][inside] = np.arange(1, len(token)) >= prompt_length
            fields["segment_BT"][inside] = segment
            item_RT[inside] = item
            start += len(token) - 1
    starts = range(0, len(packed), batch_size)
    return Scoring(
        tuple(questions),
        tuple(
            TokenBatch(**{name: leaf[at : at + batch_size] for name, leaf in fields.items()})
            for at in starts
        ),
        item_RT.reshape(-1, batch_size, seq_len),
    )


def _tokens(
    question: Question, choice: str, tokenizer: Tokenizer, seq_len: int
) -> tuple[np.ndarray, int]:
    """The tokens of a prompt with a choice, and how many of them are the prompt's."""
    prompt, own = encode_choice(question, choice, tokenizer)
    token = [*prompt, *own]
    if len(token) > seq_len + 1:
        raise InputError(
            f"a {question.task} question needs rows of {len(token) - 1} tokens; got {seq_len}; "
            "raise the sequence length, ask with a lower num_fewshot or leave its source out"
        )
    return np.asarray(token, np.int32), len(prompt)


def encode_choice(
    question: Question, choice: str, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """The tokens of a prompt, and those of a choice after it.

    Raises:
      InputError: The tokenizer does not split the text where the choice begins.
    """
    prompt = tokenizer.encode(question.prompt)
    token = tokenizer.encode(question.prompt + choice)
    if token[: len(prompt)] != prompt or len(token) == len(prompt):
        raise InputError(
            f"the tokenizer joins the prompt and the choice {choice!r} of a {question.task} "
            "question; use one that splits before spaces, as byte-level BPE does"
        )
    return prompt, token[len(prompt) :]


def pack_questions(
    questions: Questions,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    vocab_size: int,
    share: bool = True,
) -> PackedText:
    """Every choice of every question as a document of its own, the tokens of choices predicted.

    Args:
      questions: What is asked.
      tokenizer: Puts BOS first where its own template does, as lm-evaluation-harness does.
      context_length: Longest sequence, in tokens, that the model takes.
      vocab_size: Rows V of the embedding; token ids must be below.
      share: Whether choices share their prompt; see `prefixes.pack_sequences`.

    Raises:
      InputError: A question is longer than the context, or has a token beyond the vocabulary; the
        tokenizer does not split it where a choice begins.
    """
    before = [tokenizer.bos_id] if tokenizer.adds_bos else []
    found = []
    for index, question in enumerate(questions.items):
        for choice in question.choices:
            prompt, own = encode_choice(question, choice, tokenizer)
            one = Scored([*before, *prompt], own)
            place = f"questions[{index}] of {questions.name!r} ({question.prompt[-30:]!r})"
            if len(one.read) > context_length:
                raise InputError(
                    f"{place} has {len(one.read)} tokens, and the context is {context_length}; "
                    "ask with fewer examples or leave it out"
                )
            if max(*one.context, *one.continuation) >= vocab_size:
                raise InputError(
                    f"the tokens of {place} must be in the vocabulary of the model, 0 .. "
                    f"{vocab_size - 1}; use the tokenizer of this model"
                )
            found.append(one)
    return PackedText(pack_sequences(found, share=share), LeftOut(len(questions.items)))

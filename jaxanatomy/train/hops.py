"""Training on tasks that ask K questions at each position: objective, stream and scores.

    task = KHop(hops=8)
    setup = Setup(stages, optimiser, schedule, objective=partial(HopLoss, task),
                  make_batch=partial(batch_of_numbers, task))
    trainer = Trainer(setup, [NumberStream(seed, batch_size=32)])

The stream gives numbers, of which the compiled step makes sequences. Letters here: K questions
of a position, Q symbols that may answer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import DepthTask, LabelledBatch, make_batch
from jaxanatomy.errors import InputError
from jaxanatomy.train.loss import before_head, merge


@dataclasses.dataclass(frozen=True)
class HopLoss:
    """Mean cross-entropy in nats over K softmaxes, each over its slice of Q rows of the output.

    A position without an answer to a question does not count for it; the means over positions
    of all K questions weigh alike.

    Attributes:
      task: What is asked.
      config: As `loss.LanguageModelLoss` has it, and so the others.
      dtype: Of the operands of products.
      remat: What a layer keeps for its gradient, one of `model.REMAT`.
      gather: See `model.hidden`.

    Raises:
      InputError: The vocabulary has no room for the symbols or the answers, or a sequence is
        longer than the context.
    """

    task: DepthTask
    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    gather: Callable[[tree.Params], tree.Params] | None = None

    def __post_init__(self):
        task, config = self.task, self.config
        rows = max(task.alphabet + 1, task.hops * task.alphabet)
        if config.vocab_size < rows:
            raise InputError(
                f"the output of a model that answers {task.hops} questions with {task.alphabet} "
                f"symbols must have {rows} rows or more; got vocab_size {config.vocab_size}; raise "
                "it or ask fewer questions"
            )
        if config.context_length < task.seq_len:
            raise InputError(
                f"sequences of {task.seq_len} tokens must fit the context; got context_length "
                f"{config.context_length}; raise it or shorten them"
            )

    def __call__(self, trained: tree.Params, frozen: tree.Params, batch: LabelledBatch):
        nll_BTK = self.nll(merge(trained, frozen), batch)
        answered_K = (batch.label_BTK >= 0).sum((0, 1))
        return (nll_BTK.sum((0, 1)) / jnp.maximum(answered_K, 1)).mean()

    def weight(self, batch: LabelledBatch) -> jax.Array:
        """What a batch counts in a mean over several."""
        return jnp.float32(len(batch.token_BT))

    def nll(self, params: tree.Params, batch: LabelledBatch) -> jax.Array:
        """Of each answer, [B, T, K]; 0 where there is none."""
        log_BTKQ = jax.nn.log_softmax(self.logits(params, batch.token_BT), axis=-1)
        label_BTK1 = jnp.maximum(batch.label_BTK, 0)[..., None]
        nll_BTK = -jnp.take_along_axis(log_BTKQ, label_BTK1, axis=-1)[..., 0]
        return jnp.where(batch.label_BTK >= 0, nll_BTK, 0.0)

    def logits(self, params: tree.Params, token_BT: jax.Array) -> jax.Array:
        """The answers, [B, T, K, Q]."""
        h_BTD, unembedding_VD = before_head(self, params, token_BT)
        K, Q = self.task.hops, self.task.alphabet
        flat_BTR = jnp.matmul(
            h_BTD.astype(self.dtype),
            unembedding_VD[: K * Q].T.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
        return flat_BTR.reshape(*token_BT.shape, K, Q)


class NumberStream:
    """A `train.setup.BatchStream` of the numbers that sequences are made of, [B, 3]."""

    def __init__(self, seed: int, batch_size: int, first_row: int = 0):
        """Begins at the first step.

        Args:
          seed: Of all sequences.
          batch_size: Rows of this process.
          first_row: Rows of the processes before it.
        """
        self._seed, self._step = seed, 0
        self._rows = np.arange(first_row, first_row + batch_size)

    def next(self) -> np.ndarray:
        """(seed, step, row) of each sequence of the next step, uint32."""
        self._step += 1
        numbers = (self._seed, self._step - 1, self._rows)
        return np.stack(np.broadcast_arrays(*numbers), axis=-1).astype(np.uint32)

    def state(self) -> dict[str, Any]:
        """The number of steps that were read."""
        return {"step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes after so many steps."""
        self._step = state["step"]


def batch_of_numbers(task: DepthTask, number_B3: jax.Array) -> LabelledBatch:
    """The sequences of some numbers: equal numbers give equal sequences."""

    def key(numbers: jax.Array) -> jax.Array:
        seed, step, row = numbers
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), row)

    return make_batch(task, jax.vmap(key)(number_B3))


class HopScores(NamedTuple):
    """Held-out scores by question, summed over sequences; float64 and int64 [K].

    Attributes:
      nll_K: Of all answers.
      right_K: Answers that the model finds the likeliest.
      answered_K: Positions with an answer.
    """

    nll_K: np.ndarray
    right_K: np.ndarray
    answered_K: np.ndarray


def score_hops(loss: HopLoss, params: tree.Params, numbers: Sequence[np.ndarray]) -> HopScores:
    """Scores a model.

    Args:
      loss: Its objective.
      params: Its parameters.
      numbers: Batches of a `NumberStream` of a seed that nothing is trained on.
    """

    @jax.jit
    def score(params: tree.Params, number_B3: jax.Array) -> tuple:
        batch = batch_of_numbers(loss.task, number_B3)
        answered_BTK = batch.label_BTK >= 0
        likeliest_BTK = loss.logits(params, batch.token_BT).argmax(-1)
        right_BTK = answered_BTK & (likeliest_BTK == batch.label_BTK)
        parts = loss.nll(params, batch), right_BTK, answered_BTK
        return tuple(part.sum((0, 1)) for part in parts)

    found = [jax.tree.map(np.asarray, score(params, each)) for each in numbers]
    nll_K, right_K, answered_K = (
        np.stack(part).sum(0, dtype=np.float64) for part in zip(*found, strict=True)
    )
    return HopScores(nll_K, right_K.astype(int), answered_K.astype(int))

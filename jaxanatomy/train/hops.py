"""Training on tasks that ask K questions at each position: objective, stream and scores.

    task = KHop(hops=8)
    setup = Setup(stages, optimiser, schedule, objective=partial(HopLoss, task),
                  make_batch=Sequences(task))
    trainer = Trainer(setup, [NumberStream(seed, batch_size=32)])

The stream gives numbers, of which the compiled step makes sequences. Letters here: K questions
of a position, Q symbols that may answer.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.depth_tasks import DepthTask, LabelledBatch, make_batch
from jaxanatomy.data.packing import TextBatch, pack_windows
from jaxanatomy.data.windows import Window
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import Stage
from jaxanatomy.train.loss import before_head, merge
from jaxanatomy.train.points import HeldOutRows
from jaxanatomy.train.setup import Setup

HELD_OUT_STEP = 2**31  # no run is so long: nothing is trained on what is made from here on


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

    def inputs(self, batch: LabelledBatch) -> tuple[jax.Array, ...]:
        """What the model reads: tokens, [B, T]."""
        return (batch.token_BT,)

    def nll(self, params: tree.Params, batch: LabelledBatch) -> jax.Array:
        """Of each answer, [B, T, K]; 0 where there is none."""
        return answer_scores(self.logits(params, batch.token_BT), batch.label_BTK)[0]

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


_made = jax.jit(batch_of_numbers, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class Sequences:
    """A `Setup.make_batch` of the sequences of a task.

    Attributes:
      task: What is asked.
    """

    task: DepthTask

    def __call__(self, number_B3: jax.Array) -> LabelledBatch:
        return batch_of_numbers(self.task, number_B3)

    def given(self, batch_size: int) -> jax.ShapeDtypeStruct:
        """The shape of what `NumberStream` gives, [B, 3]."""
        return jax.ShapeDtypeStruct((batch_size, 3), np.uint32)


@dataclasses.dataclass(frozen=True)
class HopScorer:
    """An `evaluation.Scorer` by questions, of sequences that nothing is trained on.

    Attributes:
      task: What is asked.
      sequences: How many.
      batch_size: Sequences that are scored at once; divides them.
      seed: Of the sequences.
    """

    task: DepthTask
    sequences: int
    batch_size: int
    seed: int = 0

    def numbers(self, process: int = 0, processes: int = 1) -> list[np.ndarray]:
        """Of all sequences, a batch after the other; of each the rows of one process."""
        rows = self.batch_size // processes
        stream = NumberStream(self.seed, rows, process * rows)
        stream.restore({"step": HELD_OUT_STEP})
        return [stream.next() for _ in range(self.sequences // self.batch_size)]

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def batch(self) -> LabelledBatch:
        """All sequences, on the host."""
        return jax.tree.map(np.asarray, _made(self.task, np.concatenate(self.numbers())))

    def windows(self) -> tuple[TextBatch, ...]:
        """All sequences, as a sweep reads them: a row each, in their order."""
        windows = [
            Window(document, np.asarray(row_T, np.int64), 1, True)
            for document, row_T in enumerate(self.batch().token_BT)
        ]
        return pack_windows(windows, row_length=self.task.seq_len)

    def require_answers(self) -> None:
        """Refuses questions that no position of any sequence is asked.

        Raises:
          InputError: There is one.
        """
        asked_K = (self.batch().label_BTK >= 0).any((0, 1))
        if not asked_K.all():
            raise InputError(
                f"each hop must be asked in the held-out sequences; of {self.sequences} none asks "
                f"hop {asked_K.argmin() + 1}; raise held_out_sequences or ask fewer hops"
            )

    def __call__(self, setup: Setup, stage: Stage, params: tree.Params) -> dict[str, HeldOutRows]:
        """The rows of each question, `hop_1` to `hop_K`."""
        place, found = setup.placement, []
        with setup.precision():
            for number_B3 in self.numbers(jax.process_index(), jax.process_count()):
                arguments = setup.loss(stage.config), params, place.rows(number_B3), place.whole
                sums = hop_sums(*arguments, replicas=setup.replicas)
                found.append([np.asarray(part, np.float64) for part in sums])
        nll_MNK, right_MNK, answered_NK = (
            np.concatenate(parts, axis=-2) for parts in zip(*found, strict=True)
        )
        if not setup.replicas:
            nll_MNK, right_MNK = nll_MNK[None], right_MNK[None]
        K = self.task.hops
        return {
            f"hop_{hop + 1}": HeldOutRows(
                1 / K,
                answered_NK[:, hop].astype(int).tolist(),
                nll_MNK[..., hop].tolist(),
                right_MNK[..., hop].astype(int).tolist(),
            )
            for hop in range(K)
        }


@functools.partial(jax.jit, static_argnames=("loss", "whole", "replicas"))
def hop_sums(
    loss: HopLoss,
    params: tree.Params,
    number_B3: jax.Array,
    whole: jax.sharding.Sharding,
    replicas: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the positions of each sequence: NLL, right answers, answers.

    Args:
      loss: The objective.
      params: Parameters, with an axis M if there are replicas.
      number_B3: Of a `NumberStream`.
      whole: Where the result lies: on every device, so that every process can read it.
      replicas: Whether there are.

    Returns:
      [B, K] each, the first two with an axis M if there are replicas.
    """
    batch = batch_of_numbers(loss.task, number_B3)

    def one(params: tree.Params) -> tuple[jax.Array, jax.Array]:
        scores = loss.logits(params, batch.token_BT)
        nll_BTK, right_BTK = answer_scores(scores, batch.label_BTK)
        return nll_BTK.sum(1), right_BTK.sum(1)

    found = (jax.vmap(one) if replicas else one)(params)
    parts = (*found, (batch.label_BTK >= 0).sum(1))
    return jax.lax.with_sharding_constraint(parts, whole)


def answer_scores(logit_BTKQ: jax.Array, label_BTK: jax.Array) -> tuple[jax.Array, jax.Array]:
    """NLL of each answer, and whether it is the likeliest, [B, T, K]; 0 where there is none."""
    log_BTKQ = jax.nn.log_softmax(logit_BTKQ, axis=-1)
    there_BTK = label_BTK >= 0
    picked_BTK1 = jnp.take_along_axis(log_BTKQ, jnp.maximum(label_BTK, 0)[..., None], axis=-1)
    right_BTK = (log_BTKQ.argmax(-1) == label_BTK) & there_BTK
    return jnp.where(there_BTK, -picked_BTK1[..., 0], 0.0), right_BTK

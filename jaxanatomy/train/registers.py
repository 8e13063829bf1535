"""Training with registers (`data.registers`): what is read, what stays, how far they move."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.data.registers import Registers, prepend
from jaxanatomy.measures.arms.registers import adam_paths, movement
from jaxanatomy.train.callbacks import Every, RunState
from jaxanatomy.train.evaluation import HeldOut
from jaxanatomy.train.loss import Batch, LanguageModelLoss
from jaxanatomy.train.setup import BatchStream

_HELD_OUT = 2**32 - 1  # in the place of a seed


class RegisterStream:
    """The batches of another stream with registers: a `train.setup.BatchStream`."""

    def __init__(self, stream: BatchStream, registers: Registers, seed: int):
        """Begins where the other stream stands.

        Args:
          stream: Of rows of one segment.
          registers: What stands before them.
          seed: Of what is drawn.
        """
        self._stream, self._registers, self._seed = stream, registers, seed
        self._step = 0

    def next(self) -> Batch:
        """The next batch."""
        self._step += 1
        batch = self._stream.next()
        return prepend(batch, self._registers.draw(len(batch.token_BT), self._seed, self._step))

    def state(self) -> dict[str, Any]:
        """Where both stand."""
        return {"step": self._step, "stream": self._stream.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes from there."""
        self._step = state["step"]
        self._stream.restore(state["stream"])


def with_registers(held_out: HeldOut, registers: Registers) -> HeldOut:
    """Rows to be scored, with registers before them: the same at every point of every trial."""
    batches = [
        prepend(batch, registers.draw(len(batch.token_BT), _HELD_OUT, number))
        for number, batch in enumerate(held_out.batches)
    ]
    return dataclasses.replace(held_out, batches=batches)


@dataclasses.dataclass(frozen=True)
class FrozenRowsLoss(LanguageModelLoss):
    """The same loss, in which rows of the embedding from one on are constants.

    Their gradient is exactly 0, so that Adam leaves them as they are, unless embeddings decay.

    Attributes:
      first_frozen: The first of these rows.
    """

    first_frozen: int = 0

    def nll(self, params: tree.Params, batch: Batch) -> jax.Array:
        """As of `LanguageModelLoss`."""
        own_VD = params["embed"]["embedding"]
        frozen_V1 = jnp.arange(len(own_VD))[:, None] >= self.first_frozen
        embedding_VD = jnp.where(frozen_V1, jax.lax.stop_gradient(own_VD), own_VD)
        return super().nll({**params, "embed": {"embedding": embedding_VD}}, batch)


def following(
    rows: Mapping[str, Sequence[int]],
    emit: Callable[[RunState, list[dict[str, Any]]], Any],
    steps: int,
) -> Every:
    """A callback that follows rows of the embedding, and remembers where they began.

    Args:
      rows: Ids by the name of their group.
      emit: Called with the run and, for each seed, the `adam_paths` of its rates so far and by
        group what `movement` says.
      steps: Between calls.
    """
    memory: dict[str, Any] = {"began": []}

    def follow(state: RunState) -> None:
        rate_EM = state.setup.rates()[: state.step]
        embedding = np.asarray(state.params["embed"]["embedding"])
        own = [
            {name: state.setup.model_of(embedding, at)[list(ids)] for name, ids in rows.items()}
            for at in range(len(state.setup.seeds))
        ]
        if (
            state.step == 0
        ):  # drawn anew outside of the compiled program they differ in the last bit
            memory["began"] = [{name: x.tolist() for name, x in each.items()} for each in own]
        found = []
        for at, (before, now) in enumerate(zip(memory["began"], own, strict=True)):
            moved = {name: movement(np.array(before[name]), now[name]) for name in rows}
            found.append({**adam_paths(rate_EM[:, at]), **moved})
        emit(state, found)

    return Every(steps, follow, at_ends=True, memory=memory)

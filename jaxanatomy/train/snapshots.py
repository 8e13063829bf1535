"""Checkpoints of a training run: model, optimiser, place in the data, and the architecture.

A checkpoint is a composite of "meta" (JSON: the architecture of that stage, the step, the
state of each data stream), "params" and "moments". "meta" is read first; the arrays are then
restored into the tree of that architecture, on the devices that there are now. Writing goes
on in the background; a checkpoint that is not whole is never seen, and the one before it is
removed only after it. Besides the last ones those stay that were pinned.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxanatomy.checksums import seal, unseal
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.reprs import describe_arrays
from jaxanatomy.tree import PyTree
from jaxanatomy.weights.training_steps import (
    MOMENTS,
    PARAMS,
    array_checksums,
    checksums_of,
    require_checksums,
)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A run at a step.

    Attributes:
      step: Steps done.
      config: The architecture at that step; a model grows at the start of a step, so this
        is the one that the step before had.
      params: Parameters.
      moments: State of the optimiser.
      meta: Anything else, JSON-ready: data streams, seconds, tokens.
    """

    step: int
    config: ModelConfig
    params: PyTree
    moments: PyTree
    meta: dict[str, Any]

    def __repr__(self) -> str:
        return f"Snapshot(step={self.step}, params={describe_arrays(self.params)})"


@dataclasses.dataclass
class _Pinned(ocp.checkpoint_managers.PreservationPolicy):
    """Orbax's rule by which checkpoints stay that are not among the last ones.

    Attributes:
      steps: Theirs.
    """

    steps: set[int] = dataclasses.field(default_factory=set)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Of each checkpoint, whether it stays."""
        del context
        return [checkpoint.step in self.steps for checkpoint in checkpoints]


class Snapshots:
    """The last checkpoints of one run, in a folder of their own; use it as a context."""

    def __init__(self, folder: Path, max_to_keep: int = 2):
        """Opens a folder.

        Args:
          folder: Made if absent.
          max_to_keep: How many checkpoints stay.
        """
        self._folder = Path(folder).absolute()
        self._pinned = _Pinned()
        self._checksums: dict[str, int] = {}
        last = ocp.checkpoint_managers.LatestN(max_to_keep)
        stay = ocp.checkpoint_managers.AnyPreservationPolicy([last, self._pinned])
        try:
            self._manager = ocp.CheckpointManager(
                self._folder,
                item_handlers=_handlers(),
                options=ocp.CheckpointManagerOptions(preservation_policy=stay),
            )
        except OSError as error:
            raise InputError(
                f"expected a folder for checkpoints that can be written; {self._folder}: "
                f"{error.strerror or error}; choose another workdir"
            ) from error

    def __enter__(self) -> "Snapshots":
        self._context = contextlib.ExitStack()
        self._context.enter_context(_quiet())
        self._context.callback(self._manager.close)
        return self

    def __exit__(self, kind, *exception) -> None:
        with self._context:
            try:
                self.wait()
            except InputError:
                if kind is None:  # else the first failure is the one to be told
                    raise

    @property
    def latest(self) -> int | None:
        """Step of the latest whole checkpoint, or None."""
        return self._manager.latest_step()

    def pin_latest(self) -> None:
        """From now on the latest checkpoint stays, however many come after it."""
        if self.latest is not None:
            self._pinned.steps.add(self.latest)

    def clear(self) -> None:
        """Removes all checkpoints."""
        for step in self._manager.all_steps():
            self._manager.delete(step)
        self._pinned.steps.clear()

    def save(self, snapshot: Snapshot) -> None:
        """Begins to write a checkpoint; its arrays may be donated as soon as this returns.

        Raises:
          InputError: The one before it could not be written.
        """
        meta = {**snapshot.meta, "config": snapshot.config.to_dict()}
        meta["pinned"] = sorted(self._pinned.steps)
        meta["checksums"] = array_checksums([snapshot.params, snapshot.moments])
        items = ocp.args.Composite(
            meta=ocp.args.JsonSave(seal(meta)),
            params=ocp.args.StandardSave(snapshot.params),
            moments=ocp.args.StandardSave(snapshot.moments),
        )
        try:
            self._manager.save(snapshot.step, args=items)
        except Exception as error:  # Orbax and its stores have no common base class
            raise self._unwritten(error) from error

    def wait(self) -> None:
        """Returns when what was begun is written.

        Raises:
          InputError: It could not be.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # as above
            raise self._unwritten(error) from error

    def read_meta(self) -> tuple[ModelConfig, dict[str, Any]] | None:
        """Architecture and other fields of the latest checkpoint; None if there is none.

        Raises:
          InputError: It is damaged.
        """
        if self.latest is None:
            return None
        try:
            items = ocp.args.Composite(meta=ocp.args.JsonRestore())
            meta = unseal(self._manager.restore(self.latest, args=items)["meta"])
            self._pinned.steps.update(meta.pop("pinned"))
            self._checksums = meta.pop("checksums")
            return ModelConfig.from_dict(meta.pop("config")), meta
        except Exception as error:  # as above
            raise self._damaged(error) from error

    def restore(self, params: PyTree, moments: PyTree) -> tuple[PyTree, PyTree]:
        """The arrays of the latest checkpoint, of which `read_meta` was called.

        Args:
          params: Abstract arrays of its architecture, with the shardings they are to have.
          moments: The same for the state of the optimiser.

        Raises:
          InputError: It is damaged, of another architecture, or its arrays are not those that
            were saved.
        """
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(params), moments=ocp.args.StandardRestore(moments)
        )
        try:
            found = self._manager.restore(self.latest, args=items)
            # Buffers of the runtime's own: arrays that are donated must not lie on Orbax's.
            arrays = [jax.tree.map(jnp.copy, found[name]) for name in ("params", "moments")]
            require_checksums(array_checksums(arrays), self._checksums)
        except Exception as error:  # as above
            raise self._damaged(error) from error
        return tuple(arrays)

    def _damaged(self, error: Exception) -> InputError:
        others = [step for step in self._manager.all_steps() if step != self.latest]
        then = f"goes on from step {max(others)}" if others else "begins anew"
        return InputError(
            f"expected a whole checkpoint of this run in {self._folder} at step {self.latest}; "
            f"{_first_line(error)}; if memory or the disk failed, mend that and start again; if it "
            f"is damaged, move {self._folder / str(self.latest)} away, and the run {then}"
        )

    def _unwritten(self, error: Exception) -> InputError:
        whole = self._manager.all_steps(read=True)  # the manager has forgotten those before
        last = f"the last whole one is of step {max(whole)}" if whole else "there is none yet"
        return InputError(
            f"expected to write a checkpoint to {self._folder}; {_first_line(error)}; {last}; make "
            "room and start again, and the run goes on from there"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs the tracebacks of failures, which are raised as well and told in one line."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    """How the items of a checkpoint are written and read."""
    arrays = {name: ocp.StandardCheckpointHandler() for name in ("params", "moments")}
    return {"meta": ocp.JsonCheckpointHandler(), **arrays}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def read_snapshot(folder: Path, step: int) -> Snapshot:
    """A checkpoint on the host, whatever run it is of; the optimiser's state without its types.

    Raises:
      InputError: It is not whole, or its arrays are not those that were saved.
    """
    items = ocp.args.Composite(
        meta=ocp.args.JsonRestore(),
        params=ocp.args.StandardRestore(),
        moments=ocp.args.StandardRestore(),
    )
    options = ocp.CheckpointManagerOptions(create=False, read_only=True)
    try:
        with (
            _quiet(),
            ocp.CheckpointManager(
                Path(folder).absolute(), item_handlers=_handlers(), options=options
            ) as manager,
        ):
            found = manager.restore(step, args=items)
        meta = unseal(found["meta"])
        params = {**found["params"], "layers": tuple(found["params"]["layers"])}
        require_checksums(array_checksums([params]), checksums_of(meta, PARAMS))
        # Without its types the paths of the state are others; its arrays are the same.
        sums = array_checksums(found["moments"]).values()
        if sorted(sums) != sorted(checksums_of(meta, MOMENTS).values()):
            raise ValueError("the values of the optimiser's state are not those that were saved")
        config = ModelConfig.from_dict(meta["config"])
    except Exception as error:  # Orbax and its stores have no common base class
        raise InputError(
            f"expected a whole checkpoint of a training run in {folder} at step {step}; "
            f"{_first_line(error)}"
        ) from error
    return Snapshot(step, config, params, found["moments"], meta)

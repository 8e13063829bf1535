"""Checkpoints of replicas that train: written with Orbax, whole or not at all."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from jaxanatomy.errors import InputError
from jaxanatomy.reprs import repr_in_one_line
from jaxanatomy.train.integrity import require_checksums, seal_meta, unseal_meta

Leaves = Sequence[Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint.

    Attributes:
      step: Steps that were done.
      active: For each replica whether it still trains.
      leaves: For each replica the leaves of its parameters and moments.
    """

    step: int
    active: list[bool]
    leaves: Leaves

    __repr__ = repr_in_one_line


class Checkpoints:
    """The latest checkpoint of a group, in a folder of its own; use it as a context."""

    def __init__(self, folder: Path):
        self._folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            item_handlers={
                "meta": ocp.JsonCheckpointHandler(),
                "leaves": ocp.PyTreeCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._manager.close()

    def save(self, saved: Saved) -> None:
        """Writes a checkpoint; the one before it is removed when this one is whole."""
        leaves = _named(saved.leaves)
        meta = {"active": list(saved.active), "checksums": _checksums(leaves)}
        items = ocp.args.Composite(
            meta=ocp.args.JsonSave(seal_meta(meta)), leaves=ocp.args.PyTreeSave(leaves)
        )
        self._manager.save(saved.step, args=items)
        self._manager.wait_until_finished()

    @property
    def latest(self) -> int | None:
        """Step of the checkpoint, or None."""
        return self._manager.latest_step()

    def clear(self) -> None:
        """Removes the checkpoint."""
        if self.latest is not None:
            self._manager.delete(self.latest)

    def restore(self, like: Leaves) -> Saved | None:
        """The latest checkpoint, or None.

        Args:
          like: Leaves of the shapes and types that it has to have.

        Raises:
          InputError: It is damaged, or of other replicas.
        """
        step = self.latest
        if step is None:
            return None
        like = _named(like)
        on_host = {
            name: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
            for name, leaf in like.items()
        }
        items = ocp.args.Composite(
            meta=ocp.args.JsonRestore(),
            leaves=ocp.args.PyTreeRestore(like, restore_args=on_host),
        )
        try:
            found = self._manager.restore(step, args=items)
            leaves = {name: np.asarray(leaf) for name, leaf in found["leaves"].items()}
            meta = unseal_meta(found["meta"])
            same = all(leaves[name].shape == leaf.shape for name, leaf in like.items())
            require_checksums(_checksums(leaves), meta["checksums"])
        except Exception as error:  # Orbax and its stores have no common base class
            raise self._damaged(str(error)) from error
        if not same:
            raise self._damaged("its arrays have other shapes")
        replicas = len(meta["active"])
        numbered = [[n for n in like if n.startswith(f"{i:04d}.")] for i in range(replicas)]
        return Saved(step, meta["active"], [[leaves[n] for n in names] for names in numbered])

    def _damaged(self, reason: str) -> InputError:
        reason = (reason.strip().splitlines() or ["unreadable"])[0][:200]
        return InputError(
            f"expected a whole checkpoint of this run in {self._folder}; {reason}; remove that "
            "folder, and its replicas start anew"
        )


def _checksums(leaves: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {name: zlib.crc32(np.ascontiguousarray(leaf)) for name, leaf in leaves.items()}


def _named(leaves: Leaves) -> dict[str, np.ndarray]:
    return {
        f"{replica:04d}.{index:04d}": np.asarray(leaf)
        for replica, own in enumerate(leaves)
        for index, leaf in enumerate(own)
    }

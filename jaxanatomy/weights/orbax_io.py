"""Checkpoints of our own, written and read with Orbax; steps of a training run, read.

A checkpoint is a composite of two items: "meta" (JSON: architecture, tokenizer, the
id it came from, hash, checksum) and "params". "meta" is read first; "params" is then restored
into the tree of that architecture. Other items beside them are left alone.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxanatomy import tree
from jaxanatomy.checksums import seal, unseal
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.weights import cache, tensors, training_steps
from jaxanatomy.weights.checkpoint import Checkpoint, Source
from jaxanatomy.weights.companions import Companions
from jaxanatomy.weights.tokenizer import Tokenizer

_REMEDY = "give a folder that jaxanatomy wrote, name another step, or copy it again"


def save_orbax(checkpoint: Checkpoint, folder: Path) -> Path:
    """Writes a checkpoint that `orbax:PATH` reads; it appears whole or not at all.

    Of several processes the first writes, and waits for no other.

    Args:
      checkpoint: The model, its arrays whole in this process.
      folder: A new or empty folder.

    Returns:
      The folder.

    Raises:
      InputError: The folder is occupied or cannot be written; another process than the first.
    """
    if jax.process_index():  # of whose arrays on the host Orbax writes nothing, without a word
        raise InputError(
            "of several processes the first must save a checkpoint; got process "
            f"{jax.process_index()}; call save_orbax where jax.process_index() is 0"
        )
    items = ocp.args.Composite(
        meta=ocp.args.JsonSave(meta(checkpoint)), params=ocp.args.PyTreeSave(checkpoint.params)
    )
    with cache.new_folder(folder) as part, _manager(part) as manager:
        manager.save(0, args=items)
        manager.wait_until_finished()
    return Path(folder)


def meta(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the item "meta" holds, with a checksum of it."""
    checkpoint.require_tokenizer()
    tokenizer = checkpoint.tokenizer
    fields = {
        "config": checkpoint.config.to_dict(),
        "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        "companions": checkpoint.companions.to_dict(),
        "origin": checkpoint.id,
        "sha256": params_sha256(checkpoint.params),
    }
    return seal(fields)


def params_sha256(params: tree.Params) -> str:
    """The hash of names, dtypes, shapes and values of all leaves."""
    digest = hashlib.sha256()
    for leaf, array in tree.to_leaves(params).items():
        array = np.ascontiguousarray(array)
        digest.update(f"{leaf} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def open_orbax(
    folder: Path, model_id: str, step: int | None = None, seed: int | None = None
) -> Source:
    """A checkpoint of our own as a source; one with LN-scaling keeps it.

    Args:
      folder: What `save_orbax` wrote, or the steps of a training run that `train.snapshots` did.
      model_id: What the user asked for, for messages.
      step: Which is read; None: the latest. One that is half-written does not count.
      seed: Which of the models that a training run trains side by side.

    Raises:
      InputError: There is no complete checkpoint, it is damaged, or it has no such seed.
    """
    folder = folder.absolute()
    try:
        with _manager(folder) as manager:
            step = _whole_step(manager, folder, step)
            items = ocp.args.Composite(meta=ocp.args.JsonRestore())
            fields = unseal(manager.restore(step, args=items)["meta"])
            kept = _kept(fields, folder, step, seed)
            stored = manager.item_metadata(step)["params"].tree
        config = ModelConfig.from_dict(fields["config"])
        shapes = {
            leaf: jax.ShapeDtypeStruct(entry.shape, entry.dtype)
            for leaf, entry in tree.to_leaves(stored).items()
        }
        like = tree.to_leaves(jax.eval_shape(kept.model, tree.from_leaves(shapes)))
    except InputError:
        raise
    except Exception as error:  # Orbax and its stores have no common base class
        raise _damaged(folder, error) from error
    found = {leaf: array.shape for leaf, array in like.items()}
    tensors.check_names(found, tensors.leaf_shapes(config), str(folder))
    return Source(
        id=model_id,
        config=config,
        read_tokenizer=kept.read_tokenizer,
        read_params=functools.partial(_read_params, folder, step, shapes, kept),
        read_sha256=lambda: kept.sha256,
        companions=kept.companions,
    )


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What a checkpoint keeps beside its architecture and its arrays.

    Attributes:
      sha256: What tells its weights from others'.
      check: Raises ValueError where arrays are not those that were saved.
      model: The model's parameters, a block for each layer, of the arrays as they are stored.
      read_tokenizer: Its tokenizer, or None.
      companions: Settings that decide no forward pass.
    """

    sha256: str
    check: Callable[[tree.Params], None]
    model: Callable[[tree.Params], tree.Params]
    read_tokenizer: Callable[[], Tokenizer | None]
    companions: Companions = dataclasses.field(default_factory=Companions)


def _kept(fields: Mapping[str, Any], folder: Path, step: int, seed: int | None) -> _Kept:
    """What `save_orbax` keeps, or a step of a training run, which has "streams"."""
    if "streams" in fields:
        chosen = training_steps.choose_step(fields, seed, folder, step)
        read = functools.partial(training_steps.read_tokenizer, folder)
        return _Kept(chosen.sha256, chosen.check, chosen.model, read)
    if "sha256" not in fields:
        raise InputError(
            f"{folder} must be a model that jaxanatomy saved or the steps of a training run; it "
            "has what another experiment goes on from; take a folder below models/ or checkpoints/"
        )
    if seed is not None:
        raise InputError(f"{folder} has one model; got seed {seed}; leave /{seed} out")
    sha256 = fields["sha256"]
    return _Kept(
        sha256,
        functools.partial(_check_sha256, sha256),
        lambda params: params,
        functools.partial(_tokenizer, fields["tokenizer"]),
        Companions.from_dict(fields["companions"]),
    )


def _check_sha256(sha256: str, params: tree.Params) -> None:
    found = params_sha256(params)
    if found != sha256:
        raise ValueError(f"its weights have the hash {found:.8}, when saved {sha256:.8}")


def _whole_step(manager: ocp.CheckpointManager, folder: Path, step: int | None) -> int:
    steps = sorted(manager.all_steps())
    if not steps:
        raise InputError(f"{folder} has no complete Orbax checkpoint; {_REMEDY}")
    if step is not None and step not in steps:
        raise InputError(
            f"{folder} must have a complete checkpoint of step {step}; it has those of "
            f"{', '.join(map(str, steps))}; name one of them"
        )
    if step is None:
        training_steps.warn_of_half_written(folder)
    return steps[-1] if step is None else step


def _read_params(
    folder: Path, step: int, shapes: Mapping[str, jax.ShapeDtypeStruct], kept: _Kept, dtype: Any
) -> tree.Params:
    """The parameters as they were saved, compared with their checksum; then in another dtype."""
    like = tree.from_leaves(shapes)
    on_host = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), like)
    items = ocp.args.Composite(params=ocp.args.PyTreeRestore(like, restore_args=on_host))
    try:
        with _manager(folder) as manager:
            params = manager.restore(step, args=items)["params"]
        kept.check(params)
    except Exception as error:  # as above
        raise _damaged(folder, error) from error
    with np.errstate(over="ignore"):  # what does not fit is named
        params = jax.tree.map(lambda array: array.astype(dtype, copy=False), kept.model(params))
    tensors.require_finite(tree.not_finite(params), str(folder), dtype)
    return params


def _manager(folder: Path) -> ocp.CheckpointManager:
    """Of this process alone: others neither wait for it nor need to call it."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=process,
        active_processes={process},
        barrier_sync_key_prefix=f"process_{process}",
    )
    return ocp.CheckpointManager(
        folder,
        item_handlers={
            "meta": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
            "params": ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
            # Of a step of a training run; Orbax would warn of an item that it cannot read.
            "moments": ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
        },
        options=ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone),
    )


def _tokenizer(fields: Mapping[str, Any] | None) -> Tokenizer | None:
    return None if fields is None else Tokenizer.from_dict(fields)


def _damaged(folder: Path, error: Exception) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return InputError(f"{folder} must be an Orbax checkpoint of jaxanatomy; {reason}; {_REMEDY}")

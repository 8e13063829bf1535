"""A step of a training run as a model: what `train.snapshots` writes, read without the run.

A step is a composite of "meta" (JSON: the architecture of its stage, the seeds that train side by
side, a checksum of every array), "params", layers stacked and with an axis M where there are
several seeds, and "moments", which are left alone. The tokenizer of the text, where there is one,
lies beside the steps.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.checksums import seal
from jaxanatomy.errors import InputError
from jaxanatomy.plain_json import to_json
from jaxanatomy.progress import LOG
from jaxanatomy.storage import read_sealed, replacing
from jaxanatomy.weights.tokenizer import Tokenizer

_TOKENIZER = "tokenizer.json"
PARAMS, MOMENTS = "[0]", "[1]"  # how the paths of their checksums begin
_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


class Step(NamedTuple):
    """One seed of a step.

    Attributes:
      checksums: Of the parameters of all its seeds, by path.
      at: The place of the seed among several; None where there is one.
    """

    checksums: Mapping[str, int]
    at: int | None

    @property
    def sha256(self) -> str:
        """What tells its weights from others'."""
        return hashlib.sha256(to_json([dict(self.checksums), self.at]).encode()).hexdigest()

    def model(self, params: tree.Params) -> tree.Params:
        """Its parameters, a block for each layer, from the arrays as they were stored."""
        if self.at is not None:
            params = jax.tree.map(lambda leaf: leaf[self.at].copy(), params)
        return tree.with_layers(params, tree.unstack(params["layers"]))

    def check(self, params: tree.Params) -> None:
        """Raises ValueError where stored arrays are not those that were saved."""
        require_checksums(array_checksums([params]), self.checksums)


def choose_step(meta: Mapping[str, Any], seed: int | None, folder: Path, step: int) -> Step:
    """One seed of a step.

    Args:
      meta: Of the step.
      seed: Which; None: the one that there is.
      folder: Of the run's steps, for messages.
      step: Likewise.

    Raises:
      InputError: There are several seeds and none is named, or none of that number, or several of
        it, which differ in their learning rates.
    """
    saved = checksums_of(meta, PARAMS)
    seeds: Sequence[int] = meta["seeds"]
    if seed is None and len(seeds) == 1:
        return Step(saved, None)
    names = ", ".join(map(str, seeds))
    if len(set(seeds)) < len(seeds):
        raise InputError(
            f"{folder} must have each seed once; it has {names}, at several learning rates, to "
            "choose one; take a folder of the results"
        )
    if seed not in seeds:
        raise InputError(
            f"{folder} has the models of the seeds {names} at step {step}; got "
            f"{'no seed' if seed is None else f'seed {seed}'}; name one of them, as in "
            f"orbax:{folder}@{step}/{seeds[0]}"
        )
    return Step(saved, seeds.index(seed) if len(seeds) > 1 else None)


def checksums_of(meta: Mapping[str, Any], part: str) -> dict[str, int]:
    """The checksums of a step's `PARAMS` or `MOMENTS`, by path."""
    return {path: each for path, each in meta["checksums"].items() if path.startswith(part)}


def saved_steps(folder: Path) -> list[int]:
    """The steps that stand in a folder, whole or not, in order; half-written ones are named."""
    warn_of_half_written(folder)
    there = folder.iterdir() if folder.exists() else ()
    return sorted(int(path.name) for path in there if path.name.isdecimal())


def warn_of_half_written(folder: Path) -> None:
    """Names each step of which only a part was written; it does not count."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.name.isdecimal() and path.name.split(".")[0].isdecimal():
            LOG.warning("%s is skipped: it is half-written", path)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Keeps the tokenizer of a run beside its steps."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / _TOKENIZER) as part:
        part.write_text(to_json(seal(tokenizer.to_dict())), encoding="utf-8")


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer beside the steps of a run; None where its data are numbers.

    Raises:
      InputError: It is damaged.
    """
    path = folder / _TOKENIZER
    if not path.exists():
        return None
    return Tokenizer.from_dict(read_sealed(path, "start the run again, which writes it anew"))


def array_checksums(tree: Any) -> dict[str, int]:
    """A checksum of each array, by its path; the same on however many devices it lies.

    Computed where the arrays are, in one pass over them.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    sums = jax.device_get([_checksum(leaf) for _, leaf in paths])
    return {
        jax.tree_util.keystr(path): int(each) for (path, _), each in zip(paths, sums, strict=True)
    }


def require_checksums(found: Mapping[str, int], saved: Mapping[str, int]) -> None:
    """Raises ValueError where checksums differ, with the path of the first array."""
    for path in found:
        if found[path] != saved.get(path):
            raise ValueError(f"the values of {path} are not those that were saved")


@jax.jit
def _checksum(leaf: jax.Array) -> jax.Array:
    """The sum of the array's words modulo 2^32, each times an odd number that its place decides.

    Every flipped bit changes it, and so does an exchange of two values. Integer sums are exact
    in any order, so that it does not depend on how the array is cut.
    """
    words = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
    words = jax.lax.bitcast_convert_type(words, _WORDS[words.dtype.itemsize]).astype(jnp.uint32)
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = int(np.prod(words.shape[axis + 1 :], dtype=np.int64)) % 2**32
        place += jnp.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return jnp.sum(words * (2 * place + 1) * jnp.uint32(0x9E3779B1), dtype=jnp.uint32)

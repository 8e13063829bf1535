"""A loaded model, and a model that is known but whose tensors are not read yet."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.progress import announced
from jaxanatomy.weights.companions import Companions
from jaxanatomy.weights.tensors import parse_dtype
from jaxanatomy.weights.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model in host memory.

    Attributes:
      config: Its architecture.
      params: NumPy arrays as `jaxanatomy.tree` describes them: kernels (in, out),
        C-contiguous, `params["layers"]` a tuple with one block for each layer. What
        `load` gives is read-only, because `jax.device_put` may share its memory.
      tokenizer: None when the checkpoint came without one.
      id: The model id, as it was given.
      sha256: Of the weights file; of the list of names and hashes when there are
        several.
      companions: Settings that decide no forward pass; they go along when it is written.
      tokenizer_error: Why the tokenizer that it came with cannot be read, if it cannot:
        raised where one is needed, since weights can be measured without.
    """

    config: ModelConfig
    params: tree.Params
    tokenizer: Tokenizer | None
    id: str
    sha256: str
    companions: Companions = dataclasses.field(default_factory=Companions)
    tokenizer_error: InputError | None = None

    def __repr__(self) -> str:
        return f"Checkpoint({self.id!r}, {_summary(self.config)})"

    def require_tokenizer(self) -> None:
        """Raises `tokenizer_error` if there is one."""
        if self.tokenizer_error is not None:
            raise self.tokenizer_error


@dataclasses.dataclass(frozen=True)
class Source:
    """A model whose architecture is known and whose tensors are still on disk.

    Compilation needs only `config` and the tokenizer, so it can run while another
    thread is in `load`. All members may be used from several threads.

    Attributes:
      id: The model id, as it was given.
      config: The architecture.
      read_tokenizer: Builds the tokenizer; runs once.
      read_params: Reads the parameters in a NumPy dtype.
      read_sha256: Hashes the weights, or reads the stamp of an earlier time; runs once.
      companions: Settings that decide no forward pass.
      read_blocks: Reads the layers one after the other, each when it is asked for; None where
        they can only be read together.
    """

    id: str
    config: ModelConfig
    read_tokenizer: Callable[[], Tokenizer | None]
    read_params: Callable[[Any], tree.Params]
    read_sha256: Callable[[], str]
    companions: Companions = dataclasses.field(default_factory=Companions)
    read_blocks: Callable[[Any], Iterator[tree.BlockParams]] | None = None

    def __post_init__(self):
        object.__setattr__(self, "read_tokenizer", _once(self.read_tokenizer))
        object.__setattr__(self, "read_sha256", _once(self.read_sha256))

    def __repr__(self) -> str:
        return f"Source({self.id!r}, {_summary(self.config)})"

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self.read_tokenizer()

    def load(self, dtype: str = "float32") -> Checkpoint:
        """Reads the tensors.

        Args:
          dtype: "float32", "bfloat16" or "float16".

        Raises:
          InputError: A tensor is missing, left over, misshapen, NaN or infinite; unknown
            dtype. (A tokenizer may know tokens beyond the embedding; a text that has one is
            refused when it is read.)
        """
        numpy_dtype = parse_dtype(dtype)
        with announced(f"loading {self.id}"), ThreadPoolExecutor(2) as pool:
            sha256 = pool.submit(self.read_sha256)
            reading = pool.submit(self.read_tokenizer)
            params = _read_only(self.read_params(numpy_dtype))
            try:
                tokenizer, error = reading.result(), None
            except InputError as refused:
                tokenizer, error = None, refused
            return Checkpoint(
                self.config, params, tokenizer, self.id, sha256.result(), self.companions, error
            )

    def blocks(self) -> Iterator[tree.BlockParams]:
        """The layers in float32, one in memory at a time where the files allow it.

        They do where tensors can be read one by one: in GGUF files, Hugging Face folders, and of
        random weights. An Orbax checkpoint is read whole, since its hash is that of all arrays.

        Yields:
          Each layer, read-only, as it acts: LN-scaling is in the norms.

        Raises:
          InputError: As `load`.
        """
        dtype = parse_dtype("float32")
        blocks = self.read_blocks or (lambda dtype: iter(self.read_params(dtype)["layers"]))
        for layer, block in enumerate(blocks(dtype)):
            yield _read_only(tree.scale_norms(self.config, [block], first=layer)[0])


def _summary(config: ModelConfig) -> str:
    return f"{config.summary}, {model.parameter_count(config):,} parameters"


def _read_only(params: tree.Params) -> tree.Params:
    for array in jax.tree.leaves(params):
        array.setflags(write=False)
    return params


def _once(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function, run at most once however many threads ask."""
    lock, cached = threading.Lock(), functools.cache(function)

    def call() -> Any:
        with lock:
            return cached()

    return call

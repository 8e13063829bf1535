"""How a sweep is run: nothing here changes what is measured, only how fast."""

import dataclasses

import jax.numpy as jnp

from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.sweep.schedule import CALL_OVERHEAD

BACKENDS = ("shard_map", "pmap")
SPLITS = ("auto", "streams", "rows")
DTYPES = ("float32", "bfloat16")
PRECISIONS = ("default", "high", "highest", "bfloat16", "tensorfloat32", "float32")

# What an accelerator takes through a layer while the host starts a call; as seen on an H200.
CALL_OVERHEAD_TOKENS = 4_000


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Static settings of a sweep.

    Attributes:
      dtype: Of the operands of matrix products, "float32" or "bfloat16"; sums are float32.
      precision: `jax.default_matmul_precision` for float32 products on GPU and TPU.
      chunk_size: Variants planned and run together; rows appear after each chunk.
      tokens_per_call: Tokens that the widest call takes through a layer: enough for large
        products, few enough to stay in cache. None: 1,000 on a CPU, 16,384 elsewhere.
      widths: Streams per call that programs are compiled for; None: chosen from
        `tokens_per_call`.
      pool_megabytes: Memory for streams, on each device.
      devices: Number of devices to use; None: as many as have enough to do.
      split: Whether devices share the streams (variants) or the rows (text).
      backend: "shard_map" or "pmap"; the same programs on several devices either way.
    """

    dtype: str = "float32"
    precision: str = "highest"
    chunk_size: int = 256
    tokens_per_call: int | None = None
    widths: tuple[int, ...] | None = None
    pool_megabytes: int = 512
    devices: int | None = None
    split: str = "auto"
    backend: str = "shard_map"

    def __post_init__(self):
        choose("dtype", self.dtype, DTYPES)
        choose("sweep.precision", self.precision, PRECISIONS)
        choose("sweep.split", self.split, SPLITS)
        choose("sweep.backend", self.backend, BACKENDS)
        for name in ("chunk_size", "pool_megabytes", "tokens_per_call", "devices"):
            if getattr(self, name) is not None:
                require_whole(f"sweep.{name}", getattr(self, name))
        if self.widths is not None and (not self.widths or min(self.widths) != 1):
            raise InputError(f"sweep.widths must include 1; got {self.widths}")

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX has it."""
        return jnp.dtype(self.dtype)

    def widths_for(self, tokens: int, streams: int, platform: str) -> tuple[int, ...]:
        """The widths of calls over up to `streams` streams of `tokens` tokens, widest first.

        Each is a third of the one before, then 1: on a CPU, which starts calls at no cost, after
        the first third; elsewhere where starting a call takes longer than the call.
        """
        if self.widths is not None:
            return tuple(sorted(set(self.widths), reverse=True))
        widths = [widest_call(self.tokens_per_call, tokens, streams, platform)]
        if platform == "cpu":
            return tuple(sorted({*widths, max(1, widths[0] // 3), 1}, reverse=True))
        while widths[-1] // 3 * tokens >= CALL_OVERHEAD_TOKENS:
            widths.append(widths[-1] // 3)
        return tuple(sorted({*widths, 1}, reverse=True))

    def overhead_for(self, tokens: int, platform: str) -> float:
        """What starting a call costs, in streams of `tokens` tokens; see `schedule.split`.

        Half a millisecond on an accelerator, as a layer is three dozen kernels.
        """
        return CALL_OVERHEAD if platform == "cpu" else CALL_OVERHEAD_TOKENS / tokens


def widest_call(wanted: int | None, tokens: int, streams: int, platform: str) -> int:
    """Of up to `streams` streams of `tokens` tokens, how many make about `wanted` tokens.

    None: 1,000 tokens on a CPU, 16,384 elsewhere.
    """
    wanted = wanted or (1_000 if platform == "cpu" else 16_384)
    return max(1, min(streams, round(wanted / tokens)))

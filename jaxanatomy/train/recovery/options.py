"""How recovery trains its replicas: nothing here changes what is measured, only how fast."""

import dataclasses

import jax.numpy as jnp

from jaxanatomy.errors import choose, require_whole
from jaxanatomy.sweep.options import BACKENDS, DTYPES, PRECISIONS, widest_call


@dataclasses.dataclass(frozen=True)
class RecoveryOptions:
    """Static settings of training many replicas at once.

    Attributes:
      dtype: Of the operands of matrix products, "float32" or "bfloat16"; sums are float32.
      precision: `jax.default_matmul_precision` for float32 products on GPU and TPU.
      group_size: Replicas that train together; bounds memory (about 150 MB for each
        of a model of 30 layers of 3.5 million parameters and 128 tokens).
      tokens_per_call: Tokens that the widest call takes through a layer. None: 1,000 on a
        CPU, 16,384 elsewhere.
      clean_megabytes: Memory for clean streams, which are computed once for each batch that
        fits and anew at every step for the others.
      devices: Number of devices that share the replicas of a group; None: one.
      backend: "shard_map" or "pmap"; the same programs on several devices either way.
    """

    dtype: str = "float32"
    precision: str = "highest"
    group_size: int = 16
    tokens_per_call: int | None = None
    clean_megabytes: int = 1024
    devices: int | None = None
    backend: str = "shard_map"

    def __post_init__(self):
        choose("dtype", self.dtype, DTYPES)
        choose("train.precision", self.precision, PRECISIONS)
        choose("train.backend", self.backend, BACKENDS)
        for name in ("group_size", "tokens_per_call", "clean_megabytes", "devices"):
            if getattr(self, name) is not None:
                require_whole(f"train.{name}", getattr(self, name))

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX has it."""
        return jnp.dtype(self.dtype)

    def widths_for(self, tokens: int, slots: int, platform: str) -> tuple[int, ...]:
        """The widths of calls over up to `slots` streams of `tokens` tokens each, widest first.

        Closer together than a sweep's: the streams of neighbouring layers differ by few,
        and a call forward and back costs more to pad than to start.
        """
        widest = widest_call(self.tokens_per_call, tokens, slots, platform)
        parts = {widest, 2 * widest // 3, widest // 2, widest // 4, 1}
        return tuple(sorted(parts - {0}, reverse=True))

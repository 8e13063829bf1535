"""The models that the depth growth paper trains: SmolLM-360M and SmolLM-1.7B (DG Table 2)."""

import dataclasses
from types import MappingProxyType

from jaxanatomy.config import ModelConfig

LENGTH = 2048  # tokens of a sequence


@dataclasses.dataclass(frozen=True)
class PaperModel:
    """An architecture and its batch.

    Attributes:
      config: The architecture at its full depth.
      batch_size: Sequences of `LENGTH` tokens in a batch: one or two million tokens.
    """

    config: ModelConfig
    batch_size: int


def _smollm(layers: int, width: int, ffn_width: int, heads: int, kv_heads: int) -> ModelConfig:
    return ModelConfig.uniform(
        layers,
        heads,
        kv_heads,
        ffn_width,
        vocab_size=49_152,
        hidden_size=width,
        head_dim=64,
        context_length=LENGTH,
    )


MODELS = MappingProxyType(
    {
        "smollm_360m": PaperModel(_smollm(32, 960, 2560, 15, 5), batch_size=512),
        "smollm_1p7b": PaperModel(_smollm(24, 2048, 8192, 32, 32), batch_size=1024),
    }
)

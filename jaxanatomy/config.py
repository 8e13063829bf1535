"""The architecture of a model as a frozen value."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from jaxanatomy.errors import InputError

# Where a block may have a bias: its matrices by sublayer, in the order of the forward pass.
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")

# Beyond these no model was ever made: such a number is damage, and would fill the memory.
MAX_LAYERS = 10_000
MAX_SIZE = 2**32  # of anything else that is counted
MAX_PARAMETERS = 2**45


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """What may differ from layer to layer while the residual width is constant.

    Attributes:
      num_heads: Query heads H.
      num_kv_heads: Key-value heads K; divides H.
      ffn_width: Width F of the gated feed-forward layer.
      biases: Matrices that have a bias beside them, in the order of the forward pass.
      qk_norm: Whether queries and keys have an RMSNorm over each head, before RoPE.
      window: Tokens that a query sees, itself among them; None: all before it.
    """

    num_heads: int
    num_kv_heads: int
    ffn_width: int
    biases: tuple[str, ...] = ()
    qk_norm: bool = False
    window: int | None = None

    def __post_init__(self):
        for name in ("num_heads", "num_kv_heads", "ffn_width"):
            _require_positive("LayerShape", name, getattr(self, name))
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads must be a multiple of num_kv_heads; got {self.num_heads} "
                f"and {self.num_kv_heads}"
            )
        if self.biases != tuple(name for name in ATTENTION + MLP if name in self.biases):
            raise InputError(
                f"LayerShape.biases must be some of {', '.join(ATTENTION + MLP)}, in this order; "
                f"got {self.biases!r:.200}"
            )
        if not isinstance(self.qk_norm, bool):
            raise InputError(f"LayerShape.qk_norm must be True or False; got {self.qk_norm!r:.50}")
        if self.window is not None:
            _require_positive("LayerShape", "window", self.window)

    @property
    def weight_shape(self) -> "LayerShape":
        """What decides the shapes of the weights: layers of one such can be exchanged."""
        return dataclasses.replace(self, window=None)

    @property
    def summary(self) -> str:
        """Heads, widths and options in words, for messages."""
        options = f", biases of {', '.join(self.biases)}" if self.biases else ""
        options += ", a norm of queries and keys" if self.qk_norm else ""
        options += f", a window of {self.window}" if self.window else ""
        heads = f"{self.num_heads} heads, {self.num_kv_heads} KV heads"
        return f"{heads} and FFN width {self.ffn_width}{options}"

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "LayerShape":
        """The inverse of `dataclasses.asdict`, from JSON."""
        return cls(**{**fields, "biases": tuple(fields.get("biases", ()))})


_OPTIONS = ("biases", "qk_norm", "window")


@dataclasses.dataclass(frozen=True)
class Llama3RopeScaling:
    """Frequency scaling of Llama 3.1 (Hugging Face's `rope_type: llama3`).

    Attributes:
      factor: Low frequencies are divided by it.
      low_freq_factor: Wavelengths above `original_context_length / low_freq_factor`
        are scaled in full.
      high_freq_factor: Wavelengths below `original_context_length / high_freq_factor`
        are left alone; between the two the scaling is interpolated.
      original_context_length: Context in tokens before the extension.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int

    def __post_init__(self):
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            _require_number("Llama3RopeScaling", name, getattr(self, name))
        _require_positive(
            "Llama3RopeScaling", "original_context_length", self.original_context_length
        )
        if not 0 < self.low_freq_factor < self.high_freq_factor or not self.factor > 0:
            raise InputError(
                "RoPE scaling must have a factor above 0 and 0 < low_freq_factor < "
                f"high_freq_factor; got {self.factor}, {self.low_freq_factor} and "
                f"{self.high_freq_factor}; fetch the config again"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder like Llama: everything that the shapes and the forward need.

    Attributes:
      vocab_size: Rows V of the embedding.
      hidden_size: Residual width D.
      head_dim: Width d of one attention head.
      layers: One `LayerShape` for each layer, first to last.
      rope_theta: Base of the rotary frequencies.
      rope_scaling: None for plain RoPE.
      norm_epsilon: Added to the mean square in every RMSNorm.
      context_length: Longest sequence, in tokens, that the model was made for.
      tie_embeddings: Whether the head uses the embedding matrix.
      ln_scaling: Whether the outputs of both norms of layer l, counted from 1, are divided by
        sqrt(l) (DG appendix E). A layer that growth moves has the number of its new place.
        `tree.fold_norms` makes a plain model of such a one.
      family: As which model it is written, a name of `jaxanatomy.weights.families`.
    """

    vocab_size: int
    hidden_size: int
    head_dim: int
    layers: tuple[LayerShape, ...]
    rope_theta: float = 10_000.0
    rope_scaling: Llama3RopeScaling | None = None
    norm_epsilon: float = 1e-5
    context_length: int = 2048
    tie_embeddings: bool = True
    ln_scaling: bool = False
    family: str = "llama"

    def __post_init__(self):
        for name in ("vocab_size", "hidden_size", "head_dim", "context_length"):
            _require_positive("ModelConfig", name, getattr(self, name))
        if not self.layers:
            raise InputError("ModelConfig.layers must hold at least one LayerShape; got none")
        if self.head_dim % 2:
            raise InputError(f"head_dim must be even for RoPE; got {self.head_dim}")
        for name in ("rope_theta", "norm_epsilon"):
            _require_number("ModelConfig", name, getattr(self, name))
        if not self.rope_theta > 0 or not self.norm_epsilon >= 0:
            raise InputError(
                "rope_theta must be above 0 and norm_epsilon 0 or above; got "
                f"{self.rope_theta} and {self.norm_epsilon}"
            )
        require_depth(self.num_layers)
        widths = (shape.num_heads * self.head_dim + shape.ffn_width for shape in self.layers)
        least = self.hidden_size * (self.vocab_size + sum(widths))
        if least > MAX_PARAMETERS:
            raise InputError(
                f"a model must have at most {MAX_PARAMETERS:.0e} parameters; these sizes give more "
                f"than {least:.0e}; correct vocab_size, hidden_size, layers or widths"
            )

    @classmethod
    def uniform(
        cls, num_layers: int, num_heads: int, num_kv_heads: int, ffn_width: int, **kwargs: Any
    ) -> "ModelConfig":
        """A model whose layers all have the same shape.

        Args:
          num_layers: L.
          num_heads: H.
          num_kv_heads: K.
          ffn_width: F.
          **kwargs: Fields of `ModelConfig`, and options of `LayerShape` (`biases`, `qk_norm`,
            `window`); `head_dim` is hidden_size / num_heads by default.

        Raises:
          InputError: As `ModelConfig` and `LayerShape`; or the heads do not share the width.
        """
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        shape = LayerShape(num_heads, num_kv_heads, ffn_width, **options)
        require_depth(num_layers)
        if "head_dim" not in kwargs:
            if kwargs["hidden_size"] % num_heads:
                raise InputError(
                    "hidden_size must be a multiple of num_heads; got "
                    f"{kwargs['hidden_size']} and {num_heads}; change one of them"
                )
            kwargs["head_dim"] = kwargs["hidden_size"] // num_heads
        return cls(layers=(shape,) * num_layers, **kwargs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def is_uniform(self) -> bool:
        """Whether all layers have weights of the same shapes."""
        return len({shape.weight_shape for shape in self.layers}) == 1

    @property
    def max_heads(self) -> int:
        return max(shape.num_heads for shape in self.layers)

    @property
    def has_windows(self) -> bool:
        """Whether a layer sees a window of so many tokens, counted as they lie in a row."""
        return any(shape.window is not None for shape in self.layers)

    def with_layers(self, layers: Iterable[LayerShape]) -> "ModelConfig":
        return dataclasses.replace(self, layers=tuple(layers))

    @property
    def summary(self) -> str:
        """Family, depth and width in a few words, for a `repr`."""
        return f"{self.family}, {self.num_layers} layers, hidden size {self.hidden_size}"

    def __repr__(self) -> str:
        return f"ModelConfig({self.summary})"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ModelConfig":
        fields = dict(fields)
        fields["layers"] = tuple(LayerShape.from_dict(shape) for shape in fields["layers"])
        if fields.get("rope_scaling"):
            fields["rope_scaling"] = Llama3RopeScaling(**fields["rope_scaling"])
        return cls(**fields)


def require_depth(num_layers: int) -> None:
    """Raises InputError at an absurd depth, before there is an object for each layer."""
    if isinstance(num_layers, int) and num_layers > MAX_LAYERS:
        raise InputError(
            f"a model must have at most {MAX_LAYERS:,} layers; got {_shown(num_layers)}; correct "
            "the number of layers"
        )


def _require_positive(owner: str, name: str, value: int) -> None:
    if isinstance(value, bool) or not (isinstance(value, int) and value > 0):
        raise InputError(f"{owner}.{name} must be a positive integer; got {value!r}")
    if value > MAX_SIZE:
        raise InputError(f"{owner}.{name} must be at most {MAX_SIZE:,}; got {_shown(value)}")


def _require_number(owner: str, name: str, value: float) -> None:
    try:
        finite = not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        raise InputError(f"{owner}.{name} must be a finite number; got {value!r:.50}")


def _shown(value: int) -> str:
    """A number whose digits may be too many to print."""
    return f"{value:,}" if value < 2**64 else f"about 2**{value.bit_length() - 1}"

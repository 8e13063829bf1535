"""Models whose layers differ in width, all with as many parameters (LR section 6).

LR varies the hidden width itself; here the residual width is constant, and what a layer has inside
differs: query and key-value heads, and neurons. All orders have the same layers in other places, so
that nothing differs between them but where the wide ones stand.
"""

import numpy as np

from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.errors import InputError
from jaxanatomy.growth.stages import split_steps

WIDE_LATE, WIDE_EARLY, WIDE_MIDDLE = "wide_late", "wide_early", "wide_middle"
ORDERS = {
    WIDE_LATE: "widths rise with depth, as LR's variable-width variant",
    WIDE_EARLY: "the same layers the other way round",
    WIDE_MIDDLE: "the same layers, the widest in the middle",
}


def variable_width(config: ModelConfig, order: str, ratio: float) -> ModelConfig:
    """A model of uneven layers with as many parameters as an even one.

    Layers take shares of all key-value heads (queries with them) and of all neurons that rise in
    equal steps, by largest remainder.

    Args:
      config: Of equal layers.
      order: One of `ORDERS`.
      ratio: The widest layer over the narrowest, above 1. LR's hidden widths of 1024 to 1372 make
        it 1.8 in parameters of a layer.

    Raises:
      InputError: A ratio that is not above 1, or too few heads or neurons for one.
    """
    shape, layers = config.layers[0], config.num_layers
    if not 1 < ratio < np.inf:
        raise InputError(
            f"the widest layer must be more than 1 time as wide as the narrowest; got {ratio}"
        )
    shares = [round(1000 * share) for share in np.linspace(1, ratio, layers)]
    totals = {"key-value heads": shape.num_kv_heads * layers, "neurons": shape.ffn_width * layers}
    for name, total in totals.items():
        if total * shares[0] < sum(shares):
            raise InputError(
                f"{total // layers} {name} a layer are too few for layers {ratio:g} "
                "times as wide as others; raise them or lower the ratio"
            )
    group = shape.num_heads // shape.num_kv_heads
    rising = [
        LayerShape(group * heads, heads, neurons, shape.biases, shape.qk_norm, shape.window)
        for heads, neurons in zip(
            *(split_steps(total, shares) for total in totals.values()), strict=True
        )
    ]
    ordered = {
        WIDE_LATE: rising,
        WIDE_EARLY: rising[::-1],
        WIDE_MIDDLE: [*rising[::2], *rising[1::2][::-1]],
    }
    return config.with_layers(ordered[order])


def relative_widths(config: ModelConfig) -> np.ndarray:
    """Entries of each layer's gate over their mean: 1 where layers are equal, [L]."""
    width_L = np.array([layer.ffn_width for layer in config.layers], np.float64)
    return width_L / width_L.mean()

"""Floating point operations of training, counted from the architecture.

The count of the forward is DESIGN's and DG's: the matrix products of QKV, both products of
attention at full length, output, gated FFN and head; a product of [m, k] and [k, n] costs
2mkn. Norms, activations, softmax and the optimiser do not count.

The rule of the backward, product by product. A product has two gradients, each as costly as
itself: with respect to its weights, which only layers that train need, and with respect to
its input, which is needed where something below trains. So:

- every layer in the model costs its forward;
- a layer below the lowest trained one costs nothing more;
- a frozen layer above that costs twice its forward, and its attention products, which have
  no weights but two inputs, three times;
- a trained layer costs three times its forward, the lowest one too, though nobody needs the
  gradients with respect to the inputs of its q, k and v where nothing trains below;
- the head costs its forward and the gradient of its input, and where the embedding trains
  that of its weights.

If everything trains, that is three times the forward.
"""

import math
from collections.abc import Collection, Iterable

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.model import block_shapes


def layer_flops(config: ModelConfig, layer: int, batch_size: int, seq_len: int) -> dict[str, int]:
    """Forward FLOPs of one layer by part: `qkv`, `attention`, `output`, `mlp`.

    Args:
      config: The architecture.
      layer: Which layer.
      batch_size: Sequences R.
      seq_len: Tokens T of each, padding included.
    """
    shapes, attention = (
        block_shapes(config, layer),
        config.layers[layer].num_heads * config.head_dim,
    )
    products = {name: 2 * batch_size * seq_len * math.prod(shapes[name]) for name in tree.MATRICES}
    return {
        "qkv": sum(products[name] for name in ("q_proj", "k_proj", "v_proj")),
        "attention": 2 * 2 * batch_size * seq_len * seq_len * attention,
        "output": products["o_proj"],
        "mlp": sum(products[name] for name in tree.MLP),
    }


def head_flops(config: ModelConfig, batch_size: int, seq_len: int) -> int:
    """Forward FLOPs of the head at every position."""
    return 2 * batch_size * seq_len * config.hidden_size * config.vocab_size


def step_flops(
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    layers: Collection[int] | None = None,
    train: Collection[int] | None = None,
    embedding: bool = True,
) -> int:
    """FLOPs of one training step, forward and backward; the rule stands at the top.

    Args:
      config: The architecture.
      batch_size: Sequences R of the batch.
      seq_len: Tokens T of each, padding included.
      layers: Those that are in the model; all by default.
      train: Those that train; all in the model by default.
      embedding: Whether the embedding trains, which is the head too where they are tied.
    """
    layers = sorted(range(config.num_layers) if layers is None else layers)
    train = set(layers if train is None else train)
    total = (3 if embedding else 2) * head_flops(config, batch_size, seq_len)
    flows = embedding  # whether a gradient goes on below the layer
    for layer in layers:
        part = layer_flops(config, layer, batch_size, seq_len)
        weights = part["qkv"] + part["output"] + part["mlp"]
        total += weights + part["attention"]
        if layer in train:
            total += 2 * (weights + part["attention"])
        elif flows:
            total += weights + 2 * part["attention"]
        flows = flows or layer in train
    return total


def growth_flops(
    config: ModelConfig, stages: Iterable[tuple[int, int]], batch_size: int, seq_len: int
) -> int:
    """FLOPs of a run whose model grows in depth: the sum of its stages' steps.

    DG Table 7. Its standard rows are exact; for its grown rows the steps of PROP-1 have to
    be rounded down and what is left over given to the last stage, where the paper's text
    says largest remainder, which comes within 1e-5 of the table.

    Args:
      config: An architecture of which a stage has the first layers; all of one shape.
      stages: Pairs (layers, steps), as `stages.depth_stages` gives them.
      batch_size: Sequences R of a batch.
      seq_len: Tokens T of each, padding included.
    """
    return sum(
        steps * step_flops(config, batch_size, seq_len, layers=range(depth))
        for depth, steps in stages
    )

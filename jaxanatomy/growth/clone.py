"""One layer made from another one, across FFN widths."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy import tree
from jaxanatomy.forensics.alignment import align, apply_alignment


def co_magnitude(block: tree.BlockParams) -> jax.Array:
    """|gate_p| |up_p| of each FFN neuron p: the norms of what it reads (LR section 3), [F]."""
    gate_DF, up_DF = tree.get(block, "gate_proj"), tree.get(block, "up_proj")
    return jnp.linalg.norm(gate_DF, axis=0) * jnp.linalg.norm(up_DF, axis=0)


def resize_ffn(block: tree.BlockParams, ffn_width: int) -> tree.BlockParams:
    """A layer with another number of FFN neurons.

    Narrower: the neurons with the largest co-magnitude stay, in the order that they have.
    Wider: neurons are copied, the largest first, again and again; the down rows of all
    copies of a neuron are divided by their number, so that the layer computes the same
    (Net2Net). Neurons of zeros would compute the same too, but no gradient reaches them.

    Args:
      block: A layer.
      ffn_width: Width F of the result.
    """
    width = tree.get(block, "down_proj").shape[0]
    if ffn_width == width:
        return block
    # A stable sort: of equal neurons the first stays.
    by_size = jnp.argsort(-co_magnitude(block), stable=True)
    if ffn_width < width:
        take, copies = jnp.sort(by_size[:ffn_width]), jnp.ones(ffn_width)
    else:
        added = by_size[jnp.arange(ffn_width - width) % width]
        take = jnp.concatenate([jnp.arange(width), added])
        copies = jnp.bincount(take, length=width)[take]
    reads = tree.components(block, ["gate_proj", "up_proj"])
    return tree.replace(
        block,
        {
            **{name: array[..., take] for name, array in reads.items()},
            "down_proj": tree.get(block, "down_proj")[take] / copies[:, None],
        },
    )


def clone(
    block: tree.BlockParams,
    ffn_width: int,
    key: jax.Array,
    noise: float = 0.0,
    ffn_scale: float = 1.0,
) -> tree.BlockParams:
    """A new layer from a trained one (AH section 4.6.2).

    Args:
      block: The layer to be cloned; its attention and norms are taken over.
      ffn_width: Width F of the new layer; see `resize_ffn`.
      key: Randomness of the noise.
      noise: Standard deviation of Gaussian noise on each of the seven matrices, as a share
        of the matrix's own standard deviation. Norms and biases have none.
      ffn_scale: Factor on the down projection, hence on what the FFN adds to the stream.
    """
    block = resize_ffn(block, ffn_width)
    if noise:
        matrices = {name: tree.get(block, name) for name in tree.MATRICES}
        keys = jax.random.split(key, len(matrices))
        noised = {
            name: array + noise * jnp.std(array) * jax.random.normal(each, array.shape)
            for each, (name, array) in zip(keys, matrices.items(), strict=True)
        }
        block = tree.replace(block, noised)
    written = tree.components(block, ["down_proj"])
    return tree.replace(block, {name: ffn_scale * array for name, array in written.items()})


def matched_mean(
    block: tree.BlockParams, other: tree.BlockParams, head_dim: int
) -> tree.BlockParams:
    """The mean of two layers, the other's neurons and heads matched to those of the first.

    Inside of a program the matching runs on the host.

    Args:
      block: A layer.
      other: One of the same shapes.
      head_dim: Features of a head.
    """

    def mean(block: tree.BlockParams, other: tree.BlockParams) -> tree.BlockParams:
        block, other = jax.tree.map(np.asarray, (block, other))
        matched = apply_alignment(other, align(other, block, head_dim), head_dim)
        return jax.tree.map(lambda a, b: ((a + b) / 2).astype(a.dtype), block, matched)

    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), block)
    return jax.pure_callback(mean, like, block, other, vmap_method="sequential")

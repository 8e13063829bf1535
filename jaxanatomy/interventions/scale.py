"""A layer whose weights are multiplied by a constant."""

import jax

from jaxanatomy import tree


def scale(own: tree.BlockParams, *, alpha: float) -> tree.BlockParams:
    """W <- alpha W (AH section 3.5, strategy 5).

    Which components are scaled is up to the edit's scope; a bias is with its matrix. With
    o_proj and down_proj alone the layer writes alpha times what it wrote. With all seven it
    writes much less: the MLP has three factors alpha, values and output two, and the
    attention scores are flatter by alpha squared.
    """
    return jax.tree.map(lambda leaf: leaf * alpha, own)

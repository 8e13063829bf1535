"""A layer replaced by a copy of another one."""

from jaxanatomy import tree


def copy(own: tree.BlockParams, source: tree.BlockParams) -> tree.BlockParams:
    """The source's block in place of the layer's own.

    A control of the neighbour mean (not in AH): a whole, coherent layer, from the
    wrong depth.
    """
    del own
    return source

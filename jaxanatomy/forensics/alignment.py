"""Matching the neurons and heads of one layer with those of another.

The order of the neurons of an MLP, of the KV groups of attention and of the query
heads inside a group is arbitrary: permuting them changes no output. Before two layers
are compared or averaged, one can be put in the order of the other.
"""

import dataclasses
import hashlib

import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import InputError


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Where each part of a block goes so that it resembles a reference block.

    Attributes:
      neuron_F: `neuron_F[f]` is the neuron that takes place f.
      group_K: The same for KV heads, and with them their groups of query heads.
      head_H: The same for query heads; a group's heads stay together.
    """

    neuron_F: np.ndarray
    group_K: np.ndarray
    head_H: np.ndarray

    def inverse(self) -> "Alignment":
        """The alignment of the reference to the block."""
        return Alignment(*(np.argsort(getattr(self, f.name)) for f in dataclasses.fields(self)))


def align(block: tree.BlockParams, reference: tree.BlockParams, head_dim: int) -> Alignment:
    """The best alignment of a whole block to a reference of the same shapes."""
    group_K, head_H = align_heads(block, reference, head_dim)
    return Alignment(align_ffn(block, reference), group_K, head_H)


def align_ffn(block: tree.BlockParams, reference: tree.BlockParams) -> np.ndarray:
    """Matches FFN neurons so that the summed cosine of gate, up and down is largest.

    A neuron is its column of gate_proj, its column of up_proj and its row of down_proj;
    the similarity of two neurons is the sum of the three cosines.

    Args:
      block: The block to align, NumPy arrays.
      reference: The block to align it to.

    Returns:
      A permutation [F]: its entry f is the neuron of `block` for place f.

    Raises:
      InputError: the FFN widths differ.
    """
    _require_same_shapes(block, reference, tree.MLP)
    # One product of the three unit vectors laid end to end sums the three cosines.
    return _assign(_ffn_directions(reference) @ _ffn_directions(block).T)


def align_heads(
    block: tree.BlockParams, reference: tree.BlockParams, head_dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Matches KV groups, then query heads inside matched groups.

    The similarity of two query heads is the cosine of their q_proj slices plus that of
    their o_proj slices. The similarity of two groups is the cosine of their k_proj
    slices, plus that of their v_proj slices, plus what the best assignment of the one's
    query heads to the other's adds up to; so the sum over all slices is largest.

    Args:
      block: The block to align, NumPy arrays.
      reference: The block to align it to.
      head_dim: Width d of one head.

    Returns:
      Permutations of the groups [K] and of the query heads [H], as in `Alignment`.

    Raises:
      InputError: the numbers of heads differ.
    """
    _require_same_shapes(block, reference, tree.ATTENTION)
    cosine = {
        name: _head_directions(reference, name, head_dim)
        @ _head_directions(block, name, head_dim).T
        for name in tree.ATTENTION
    }
    query_HH = cosine["q_proj"] + cosine["o_proj"]
    group_KK = cosine["k_proj"] + cosine["v_proj"]
    K = len(group_KK)
    G = len(query_HH) // K
    query_KKGG = query_HH.reshape(K, G, K, G).swapaxes(1, 2)
    order_KKG = np.array([[_assign(query_GG) for query_GG in row] for row in query_KKGG])
    best_KK = np.take_along_axis(query_KKGG, order_KKG[..., None], axis=3).sum((2, 3))
    group_K = _assign(group_KK + best_KK)
    head_KG = order_KKG[np.arange(K), group_K] + G * group_K[:, None]
    return group_K, head_KG.reshape(-1)


def apply_alignment(
    block: tree.BlockParams, alignment: Alignment, head_dim: int
) -> tree.BlockParams:
    """The block with its neurons and heads reordered, biases too; it computes the same function."""
    neuron_F = alignment.neuron_F
    # The axis of each kernel (in, out) that runs over neurons or head features.
    orders = {
        "q_proj": (_features(alignment.head_H, head_dim), 1),
        "k_proj": (_features(alignment.group_K, head_dim), 1),
        "v_proj": (_features(alignment.group_K, head_dim), 1),
        "o_proj": (_features(alignment.head_H, head_dim), 0),
        "gate_proj": (neuron_F, 1),
        "up_proj": (neuron_F, 1),
        "down_proj": (neuron_F, 0),
    }
    return tree.replace(
        block,
        {
            name: np.take(array, order, axis if array.ndim > 1 else 0)
            for matrix, (order, axis) in orders.items()
            for name, array in tree.components(block, [matrix]).items()
            if array.ndim > 1 or axis == 1  # the bias of an output that is reordered
        },
    )


class AlignmentCache:
    """Remembers alignments by the content of the weights, so no call changes another.

    The alignment of a to b is the inverse of that of b to a, and hashing two layers costs
    a small part of an assignment. It is always computed in one direction, fixed by the
    hashes, so that not even ties depend on the order of the calls.
    """

    def __init__(self, size: int = 256):
        self._size = size
        self._known: dict[tuple, Alignment] = {}

    def __len__(self) -> int:
        return len(self._known)

    def align(
        self, block: tree.BlockParams, reference: tree.BlockParams, head_dim: int
    ) -> Alignment:
        """The same as `align`, up to ties."""
        pair = {_content_hash(block): block, _content_hash(reference): reference}
        first, last = min(pair), max(pair)
        key = (first, last, head_dim)
        if key not in self._known:
            if len(self._known) >= self._size:
                self._known.clear()
            self._known[key] = align(pair[first], pair[last], head_dim)
        alignment = self._known[key]
        return alignment if pair[first] is block else alignment.inverse()


def _assign(similarity: np.ndarray) -> np.ndarray:
    """For each row its column, so that the sum is largest."""
    from scipy.optimize import linear_sum_assignment

    cost = -similarity.astype(np.float64)
    # Taking a constant off a row or a column changes every assignment's sum alike; it
    # saves SciPy a third of the time.
    cost -= cost.min(axis=1, keepdims=True)
    cost -= cost.min(axis=0)
    return linear_sum_assignment(cost)[1]


def _ffn_directions(block: tree.BlockParams) -> np.ndarray:
    """Unit gate, up and down vectors of each neuron side by side, [F, 3 D]."""
    gate, up, down = (tree.get(block, name) for name in tree.MLP)
    return np.concatenate([_unit_rows(rows) for rows in (gate.T, up.T, down)], axis=1)


def _head_directions(block: tree.BlockParams, name: str, head_dim: int) -> np.ndarray:
    """The slice of each head of one projection as a unit vector, [heads, d D]."""
    kernel = tree.get(block, name)
    rows = kernel if name == "o_proj" else kernel.T
    return _unit_rows(rows.reshape(rows.shape[0] // head_dim, -1))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    # A zero vector has no direction: its cosine with anything is 0.
    return rows / np.where(norms == 0, 1, norms)


def _features(order: np.ndarray, head_dim: int) -> np.ndarray:
    """Feature indices of heads taken in an order."""
    return (order[:, None] * head_dim + np.arange(head_dim)).reshape(-1)


def _content_hash(block: tree.BlockParams) -> bytes:
    digest = hashlib.sha256()
    for name in tree.MATRICES:
        array = np.ascontiguousarray(tree.get(block, name))
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8))
    return digest.digest()


def _require_same_shapes(
    block: tree.BlockParams, reference: tree.BlockParams, names: tuple[str, ...]
) -> None:
    for name in names:
        shape, expected = tree.get(block, name).shape, tree.get(reference, name).shape
        if shape != expected:
            raise InputError(
                f"only layers of one shape can be aligned; {name} is {shape} in the one and "
                f"{expected} in the other; choose layers of equal shape"
            )

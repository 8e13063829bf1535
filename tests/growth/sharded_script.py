"""Growth on eight devices against growth on one; run by test_apply.py in a fresh process."""

import functools

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxanatomy import model, tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.apply import grow
from jaxanatomy.growth.maps import growth_map

CONFIG = ModelConfig.uniform(4, 4, 2, 32, vocab_size=64, hidden_size=16, head_dim=8)
MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def spec(leaf):
    """The last axis that eight devices can share, never that of the layers."""
    if leaf.ndim == 0:
        return P()
    return P(*[None] * (leaf.ndim - 1), "data")


def trained(key):
    """Parameters, and a state whose moments are not zero."""
    params = model.init(CONFIG, key)
    params = tree.with_layers(params, tree.stack(params["layers"]))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    return params, optimiser.update(params, optimiser.init(params), params)[1]


def main():
    params, state = jax.jit(trained)(jax.random.key(0))
    on_host = jax.tree.map(np.asarray, (params, state))
    expected = grow(growth_map("insert_zero", 4, 2), *on_host, "rescale")
    shardings = jax.tree.map(lambda leaf: NamedSharding(MESH, spec(leaf)), (params, state))
    sharded = jax.device_put((params, state), shardings)
    function = jax.jit(functools.partial(grow, growth_map("insert_zero", 4, 2), moments="rescale"))
    free = function(*sharded)
    placed = jax.jit(function, out_shardings=shardings)(*sharded)
    for found in (free, placed):
        for (path, leaf), right in zip(
            jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(leaf, right)
            wanted = NamedSharding(MESH, spec(leaf))
            assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), (path, leaf.sharding)
    print(f"grown on {len(jax.devices())} devices")


main()

"""One device or several lanes: the same programs either way.

With one device, programs are plain `jit`. With several, every array has a leading lane
axis that is split over the devices, weights too (each device holds its own copy, so
an edited layer may differ from lane to lane), and a program runs on each lane's
slice: by `jit(shard_map)` or by `pmap`. No lane talks to another.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxanatomy.errors import InputError

AXIS = "lane"


def choose_devices(
    wanted: int | None, useful: int, field: str = "sweep.devices"
) -> list[jax.Device]:
    """This process's first devices: `wanted` of them, by default at most `useful`.

    Raises:
      InputError: More devices wanted than there are.
    """
    devices = jax.local_devices()
    if wanted is not None and wanted > len(devices):
        raise InputError(
            f"{field}={wanted}, but this process has {len(devices)}; lower it "
            "(on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=N makes more)"
        )
    return devices[: wanted or max(1, min(useful, len(devices)))]


class Lanes:
    """Places arrays on lanes and compiles programs for them.

    Attributes:
      count: Number of lanes.
    """

    def __init__(self, devices: Sequence[jax.Device], backend: str):
        self.count = len(devices)
        self._devices, self._backend = list(devices), backend
        if self.count == 1:
            self.sharding = SingleDeviceSharding(devices[0])
        else:
            self._mesh = jax.make_mesh(
                (self.count,), (AXIS,), axis_types=(AxisType.Auto,), devices=self._devices
            )
            self.sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def wrap(self, function: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """The function over lanes, jitted, donating the arguments at `donate`."""
        if self.count == 1:
            return jax.jit(function, donate_argnums=donate)
        if self._backend == "pmap":
            return jax.pmap(function, devices=self._devices, donate_argnums=donate)
        spec = PartitionSpec(AXIS)

        def on_lane(*arguments):
            return _expand(function(*_squeeze(arguments)))

        mapped = jax.shard_map(on_lane, mesh=self._mesh, in_specs=spec, out_specs=spec)
        return jax.jit(mapped, donate_argnums=donate)

    def compile(self, function: Callable, donate: tuple[int, ...], arguments: Any) -> Callable:
        """`wrap`, compiled ahead of time for one lane's `arguments` (arrays or their shapes)."""
        wrapped = self.wrap(function, donate)
        if self._backend == "pmap" and jax.process_count() > 1 and self.count > 1:
            return wrapped  # there pmap lowers concrete arrays only: it compiles when called
        return wrapped.lower(*self.abstract(arguments)).compile()

    def shapes(self, program: Any) -> Any:
        """Shapes of what a compiled program gives on one lane; None where it is not compiled."""
        shapes = getattr(program, "out_info", None)
        if shapes is None or self.count == 1:
            return shapes
        return jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:], sharding=None), shapes)

    def abstract(self, tree: Any) -> Any:
        """Shapes of one lane's arrays as those of the placed arrays."""

        def lift(leaf):
            shape = leaf.shape if self.count == 1 else (self.count, *leaf.shape)
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=self.sharding)

        return jax.tree.map(lift, tree)

    def put(self, trees: Sequence[Any]) -> Any:
        """Places one tree of host arrays for each lane."""
        if self.count == 1:
            return jax.device_put(trees[0], self.sharding)
        return jax.tree.map(self._put_leaf, *trees)

    def replicate(self, tree: Any) -> Any:
        """Places the same tree on every lane."""
        return self.put([tree] * self.count)

    def on_lane(self, tree: Any, lane: int) -> Any:
        """One lane's slice of placed arrays, on its device, without a copy.

        With several lanes the slice keeps a lane axis of length 1.
        """
        if self.count == 1:
            return tree
        device = self._devices[lane]

        def shard(leaf):
            return next(s.data for s in leaf.addressable_shards if s.device == device)

        return jax.tree.map(shard, tree)

    def join(self, trees: Sequence[Any]) -> Any:
        """The inverse of `on_lane`: one tree from the slices of all lanes."""
        if self.count == 1:
            return trees[0]
        return jax.tree.map(lambda *shards: self._join_leaf(shards), *trees)

    def squeezed(self, function: Callable) -> Callable:
        """A function of one lane's arrays as a function of `on_lane` slices."""
        if self.count == 1:
            return function
        return lambda *arguments: _expand(function(*_squeeze(arguments)))

    def fetch(self, tree: Any) -> list[Any]:
        """Host copies of each lane's arrays."""
        tree = jax.tree.map(np.asarray, tree)
        if self.count == 1:
            return [tree]
        return [
            jax.tree.map(lambda leaf, lane=lane: leaf[lane], tree) for lane in range(self.count)
        ]

    def _put_leaf(self, *leaves: Any) -> jax.Array:
        shards = [
            jax.device_put(np.asarray(leaf)[None], device)
            for leaf, device in zip(leaves, self._devices, strict=True)
        ]
        return self._join_leaf(shards)

    def _join_leaf(self, shards: Sequence[jax.Array]) -> jax.Array:
        shape = (self.count, *shards[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self.sharding, list(shards))


def _squeeze(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _expand(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[None], tree)

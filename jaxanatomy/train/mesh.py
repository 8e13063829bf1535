"""Where arrays of a training run lie: a mesh of devices, and one rule for each kind of array.

    placement = Placement.over(jax.devices(), fsdp_shards=4)
    params = placement.make(init, key)           # never whole on one device
    batch = placement.rows(batch)                # each device its own rows
    run_steps(..., place=placement.constrain)

The mesh has two axes. Rows of a batch are shared out over both of them; parameters and
moments are cut over `shard` alone and repeated over `data`. With one shard that is plain
data parallelism, with as many shards as devices fully sharded parameters. The compiler puts
in the collectives.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxanatomy.errors import InputError
from jaxanatomy.tree import PyTree

DATA, SHARD = "data", "shard"

# A smaller array is on every device: gathering it would take longer than it saves.
MIN_SHARDED_SIZE = 2**16


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh, and the rules.

    Attributes:
      mesh: With the axes `data` and `shard`.
      min_sharded_size: Elements below which an array is not cut.
    """

    mesh: Mesh | AbstractMesh
    min_sharded_size: int = MIN_SHARDED_SIZE

    @classmethod
    def over(
        cls,
        devices: Sequence[jax.Device] | None = None,
        fsdp_shards: int = 1,
        min_sharded_size: int = MIN_SHARDED_SIZE,
    ) -> "Placement":
        """A mesh over devices, in their order.

        Args:
          devices: All by default.
          fsdp_shards: How many parts the parameters are cut into; divides the devices.
          min_sharded_size: See `Placement`.

        Raises:
          InputError: The devices are not a multiple of fsdp_shards; or they are those of a
            CPU, and neither all of them nor one.
        """
        devices = list(jax.devices() if devices is None else devices)
        shape = _shape(len(devices), fsdp_shards)
        if devices[0].platform == "cpu" and 1 < fsdp_shards < len(devices):
            # Collectives of several groups wait for each other there, each device in its order.
            raise InputError(
                f"on a CPU fsdp_shards must be 1 or all {len(devices)} devices; got {fsdp_shards}; "
                "other numbers are for GPUs and TPUs"
            )
        mesh = jax.make_mesh(shape, (DATA, SHARD), (AxisType.Auto,) * 2, devices=devices)
        return _one(cls, mesh, min_sharded_size)

    @classmethod
    def abstract(
        cls, devices: int, fsdp_shards: int = 1, min_sharded_size: int = MIN_SHARDED_SIZE
    ) -> "Placement":
        """A mesh of devices that are not here: to trace and to lower for, not to run on.

        Args:
          devices: Their number.
          fsdp_shards: As `over`.
          min_sharded_size: See `Placement`.

        Raises:
          InputError: The devices are not a multiple of fsdp_shards.
        """
        shape = _shape(devices, fsdp_shards)
        mesh = AbstractMesh(shape, (DATA, SHARD), axis_types=(AxisType.Auto,) * 2)
        return _one(cls, mesh, min_sharded_size)

    @property
    def device_count(self) -> int:
        """Devices of the mesh."""
        return self.mesh.size

    @property
    def whole(self) -> NamedSharding:
        """Where an array lies that every device has all of."""
        return NamedSharding(self.mesh, PartitionSpec())

    def sharding(self, leaf: Any) -> NamedSharding:
        """Where a parameter or a moment lies: cut along the longer of its last two axes.

        Of the two the longer one that fsdp_shards divides; a leading axis of layers or of
        replicas is never cut.
        """
        shape, fsdp_shards = np.shape(leaf), self.mesh.shape[SHARD]
        axes = [axis for axis in range(len(shape))[-2:] if shape[axis] % fsdp_shards == 0]
        spec = [None] * len(shape)
        if fsdp_shards > 1 and axes and np.prod(shape) >= self.min_sharded_size:
            spec[max(axes, key=lambda axis: shape[axis])] = SHARD
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def shardings(self, tree: PyTree) -> PyTree:
        """`sharding` of every leaf."""
        return jax.tree.map(self.sharding, tree)

    def abstract_of(self, tree: PyTree) -> PyTree:
        """Shapes of parameters or moments, and where each is to lie."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(leaf)),
            tree,
        )

    def constrain(self, tree: PyTree) -> PyTree:
        """Inside a compiled function: keeps parameters and moments where they belong."""
        return jax.lax.with_sharding_constraint(tree, self.shardings(tree))

    @property
    def gather(self) -> Callable[[PyTree], PyTree] | None:
        """Inside a compiled function: brings cut parameters together where they are used.

        Without it the compiler may bring the rows of a batch together instead, and every
        device then computes all of them. None where nothing is cut.
        """
        return self._whole if self.mesh.shape[SHARD] > 1 else None

    def make(self, function: Callable[..., PyTree], *arguments: Any) -> PyTree:
        """The result of a function of arrays, computed where it is to lie."""
        return self.maker(function, *arguments)(*arguments)

    def maker(self, function: Callable[..., PyTree], *arguments: Any) -> Callable[..., PyTree]:
        """What `make` calls, not compiled yet; of the arguments only shapes are asked for."""
        shardings = self.shardings(jax.eval_shape(function, *arguments))
        return jax.jit(function, out_shardings=shardings)

    def put(self, tree: PyTree) -> PyTree:
        """Parameters or moments from the host; every process has the whole of them."""
        return jax.tree.map(lambda leaf: _put(leaf, self.sharding(leaf)), tree)

    def replicate(self, tree: PyTree) -> PyTree:
        """A tree that is whole on every device."""
        return jax.tree.map(lambda leaf: _put(leaf, self.whole), tree)

    def fetch(self, tree: PyTree) -> PyTree:
        """Parameters or moments on the host, NumPy; every process gets the whole of them."""
        return jax.tree.map(np.asarray, _together(tree, self.whole))

    def rows(self, tree: PyTree, axis: int = 0) -> PyTree:
        """Batches from the host, their rows shared out; a process gives its own rows.

        Args:
          tree: Arrays, rows along `axis`.
          axis: Which axis counts rows.

        Raises:
          InputError: The rows are not a multiple of the devices.
        """
        return jax.tree.map(functools.partial(self._rows, axis), tree)

    def check_rows(self, rows: int) -> None:
        """Refuses a batch that cannot be shared out.

        Args:
          rows: Of one part of a batch, over all processes.

        Raises:
          InputError: They are not a multiple of the devices.
        """
        if rows % self.device_count:
            raise InputError(
                "the rows of a batch, divided by the parts that are accumulated, must be a "
                f"multiple of the devices; got {rows} rows and {self.device_count} devices"
            )

    def row_sharding(self, axis: int = 0) -> NamedSharding:
        """Where the rows of a batch lie: each device its own."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, (DATA, SHARD)))

    def _rows(self, axis: int, leaf: np.ndarray) -> jax.Array:
        self.check_rows(leaf.shape[axis] * jax.process_count())
        return jax.make_array_from_process_local_data(self.row_sharding(axis), np.asarray(leaf))

    def _whole(self, tree: PyTree) -> PyTree:
        return jax.lax.with_sharding_constraint(tree, self.whole)


@functools.cache
def _one(kind: type[Placement], mesh: Mesh | AbstractMesh, min_sharded_size: int) -> Placement:
    """One object for equal placements: its methods are part of what finds a compiled program."""
    return kind(mesh, min_sharded_size)


def training_devices(count: int | None = None) -> list[jax.Device]:
    """The devices of a run: so many, or all that there are.

    Raises:
      InputError: There are fewer; or several processes would leave some out.
    """
    here = jax.devices()
    fits = count is None or 0 < count <= len(here)
    if not fits or (count and count != len(here) and jax.process_count() > 1):
        raise InputError(
            f"the run is to have {count} devices; there are {len(here)}; start it on as many, or "
            f"set train.devices={len(here)} where a batch and the memory allow it"
        )
    return here[:count]


def _shape(devices: int, fsdp_shards: int) -> tuple[int, int]:
    """Sizes of the axes `data` and `shard`."""
    if fsdp_shards < 1 or devices < 1 or devices % fsdp_shards:
        raise InputError(
            "fsdp_shards must divide the number of devices; got "
            f"{fsdp_shards} and {devices} devices"
        )
    return devices // fsdp_shards, fsdp_shards


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


@functools.partial(jax.jit, static_argnames="whole")
def _together(tree: PyTree, whole: NamedSharding) -> PyTree:
    return jax.lax.with_sharding_constraint(tree, whole)

"""Fields that several configs share, with their defaults: one place to read what they mean."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

# Fields of `sweep` that decide no result beyond rounding: a run may go on with other values.
SWEEP_MAY_CHANGE = (
    "sweep.chunk_size",
    "sweep.tokens_per_call",
    "sweep.pool_megabytes",
    "sweep.devices",
    "sweep.split",
    "sweep.backend",
)


def packing() -> ConfigDict:
    """How a text is cut into windows; keyword arguments of `jaxanatomy.data.packing.pack`."""
    fields = ConfigDict()
    fields.add_bos = "none"  # or before each "document" or "window"; see data.windows.ADD_BOS
    fields.window = None  # longest window, in tokens; None: 512 or the context
    fields.stride = None  # None: half a window
    fields.token_budget = None  # tokens to read of each text; None: all
    return fields


def sweep() -> ConfigDict:
    """How a sweep runs; see `jaxanatomy.sweep.SweepOptions`.

    All but `dtype` and `precision` decide no result beyond rounding (`SWEEP_MAY_CHANGE`).
    """
    fields = ConfigDict()
    fields.dtype = "float32"  # or "bfloat16": operands of products, sums in float32
    fields.precision = "highest"  # of float32 products on GPU and TPU
    fields.chunk_size = 256  # variants that run together; rows appear after each
    fields.tokens_per_call = None  # None: 1,000 on a CPU, 16,384 elsewhere
    fields.pool_megabytes = 512  # memory for streams, on each device
    fields.devices = None  # None: as many as have enough to do
    fields.split = "auto"  # devices share "streams" (variants) or "rows" (text)
    fields.backend = "shard_map"  # or "pmap"
    return fields


def distributed() -> ConfigDict:
    """Several processes that write to one workdir: arguments of `jax.distributed.initialize`."""
    fields = ConfigDict()
    fields.coordinator_address = ""  # HOST:PORT of process 0; "auto" on Cloud TPU and Slurm
    fields.num_processes = 1
    fields.process_id = 0
    return fields


def optimiser(**changes: Any) -> ConfigDict:
    """Fields of `jaxanatomy.train.optimiser.Optimiser`, which says what they mean."""
    from jaxanatomy.train.optimiser import Optimiser

    return ConfigDict(dataclasses.asdict(Optimiser()) | changes)


def alarms() -> ConfigDict:
    """Fields of `jaxanatomy.train.alarms.Alarms`, which says what they mean."""
    from jaxanatomy.train.alarms import Alarms

    return ConfigDict(dataclasses.asdict(Alarms()))


def policy() -> ConfigDict:
    """Fields of `jaxanatomy.train.policy.PolicySettings`, which says what they mean."""
    from jaxanatomy.train.policy import PolicySettings

    return ConfigDict(dataclasses.asdict(PolicySettings()))


def training(**changes: Any) -> ConfigDict:
    """How training runs: fields of `jaxanatomy.train.setup.TrainOptions`, and where.

    All but `dtype` and `grad_accum_steps` decide nothing, and those no more than rounding.
    """
    from jaxanatomy.train.setup import TrainOptions

    fields = ConfigDict(dataclasses.asdict(TrainOptions()))
    fields.vmap_seeds = True  # train seeds together; False: one after the other, less memory
    fields.devices = None  # None: all that there are; a number also for --dry_run
    fields.fsdp_shards = 1  # parts of the parameters (FSDP); divides the devices
    fields.update(changes)
    return fields

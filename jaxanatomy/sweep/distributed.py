"""Several processes, each with its own devices and its own share of the chunks.

No process sends arrays to another: each plans the same full list, runs every n-th
chunk on its own devices and writes its own rows. They only wait for each other at the end.
"""

import hashlib
import json
from typing import Any

import jax
import numpy as np

from jaxanatomy import peers
from jaxanatomy.errors import InputError


def start(coordinator: str = "", count: int = 1, index: int = 0) -> tuple[int, int]:
    """Joins the other processes; call it before anything else uses JAX.

    Args:
      coordinator: "HOST:PORT" of process 0; "auto" where JAX finds it out by itself
        (Cloud TPU, Slurm); "" for a single process.
      count: Number of processes.
      index: Which of them this is.

    Returns:
      (index of this process, number of processes).

    Raises:
      InputError: An index outside the count, several processes without a coordinator, or
        "auto" where JAX does not find one.
    """
    if not coordinator:
        if count != 1 or index != 0:
            raise InputError(
                f"distributed.count={count} and distributed.index={index} need "
                "distributed.coordinator=HOST:PORT (or auto); give it, or leave all three out"
            )
        return 0, 1
    if coordinator != "auto" and not 0 <= index < count:
        raise InputError(
            f"distributed.index must be 0 .. {count - 1} with distributed.count={count}; "
            f"got {index}"
        )
    peers.explain_loss()
    # Its handler of SIGTERM would keep the signal from ours.
    jax.config.update("jax_enable_preemption_service", False)
    address = () if coordinator == "auto" else (coordinator, count, index)
    try:
        jax.distributed.initialize(*address, heartbeat_timeout_seconds=peers.HEARTBEAT_SECONDS)
    except ValueError as error:
        if coordinator != "auto":
            raise
        raise InputError(
            "distributed.coordinator=auto is for Cloud TPU and Slurm; JAX finds neither here; "
            "give HOST:PORT with count and index, or an empty one for a single process"
        ) from error
    return jax.process_index(), jax.process_count()


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; `name` tells such places apart."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def require_same(what: str, value: Any) -> None:
    """Refuses to begin where the processes do not agree on something.

    Args:
      what: Its name, for the message.
      value: JSON-ready; each process gives its own.

    Raises:
      InputError: That of some process differs from that of process 0; in every process.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    digest_PB = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    others = np.flatnonzero((digest_PB != digest_PB[0]).any(axis=1)).tolist()
    if others:
        raise InputError(
            f"all processes must have the same {what}; those of processes {others} are not those "
            "of process 0; give every host the same files, config, Python and version of this "
            "package"
        )

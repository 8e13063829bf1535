"""Several processes, each with its own devices and its own share of the chunks.

No process sends arrays to another: each plans the same full list, runs every n-th
chunk on its own devices and writes its own rows. They only wait for each other at the end.
"""

import hashlib
import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxanatomy import peers
from jaxanatomy.errors import InputError


def start(
    coordinator_address: str = "", num_processes: int = 1, process_id: int = 0
) -> tuple[int, int]:
    """Joins the other processes; call it before anything else uses JAX.

    Args:
      coordinator_address: "HOST:PORT" of process 0; "auto" where JAX finds it out by itself
        (Cloud TPU, Slurm); "" for a single process.
      num_processes: Number of processes.
      process_id: Which of them this is.

    Returns:
      (index of this process, number of processes).

    Raises:
      InputError: A `process_id` beyond the last process, several processes without a coordinator,
        or "auto" where JAX does not find one.
    """
    if not coordinator_address:
        if num_processes != 1 or process_id != 0:
            raise InputError(
                f"distributed.num_processes={num_processes} and "
                f"distributed.process_id={process_id} need "
                "distributed.coordinator_address=HOST:PORT (or auto); give it, or leave all three "
                "out"
            )
        return 0, 1
    found_by_jax = coordinator_address == "auto"
    if not found_by_jax and not 0 <= process_id < num_processes:
        raise InputError(
            f"distributed.process_id must be 0 .. {num_processes - 1} with "
            f"distributed.num_processes={num_processes}; got {process_id}"
        )
    peers.explain_loss()
    # Its handler of SIGTERM would keep the signal from ours.
    jax.config.update("jax_enable_preemption_service", False)
    address = () if found_by_jax else (coordinator_address, num_processes, process_id)
    try:
        jax.distributed.initialize(*address, heartbeat_timeout_seconds=peers.HEARTBEAT_SECONDS)
    except ValueError as error:
        if not found_by_jax:
            raise
        raise InputError(
            "distributed.coordinator_address=auto is for Cloud TPU and Slurm; JAX finds neither "
            "here; give HOST:PORT with num_processes and process_id, or an empty one for a single "
            "process"
        ) from error
    return jax.process_index(), jax.process_count()


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; `name` tells such places apart."""
    if jax.process_count() > 1:
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
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    digest_PB = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    others = np.flatnonzero((digest_PB != digest_PB[0]).any(axis=1)).tolist()
    if others:
        raise InputError(
            f"all processes must have the same {what}; those of processes {others} are not those "
            "of process 0; give every host the same files, config, Python and version of this "
            "package"
        )

"""Batches made by several processes, which end with the one that reads them."""

import multiprocessing
import os
import signal
import threading

import grain
from absl import flags

from jaxanatomy.errors import InputError


def share_out(read: grain.IterDataset, workers: int, prefetched: int) -> grain.IterDataset:
    """The same elements in the same order, made by processes.

    Args:
      read: What each of them reads a part of.
      workers: Processes.
      prefetched: Elements that they make ahead, at least one each; they lie in shared memory, of
        which containers often have 64 MB.
    """
    if not flags.FLAGS.is_parsed():  # grain's own, which it gives its processes
        flags.FLAGS.mark_as_parsed()
    ahead = max(1, prefetched // workers)
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=ahead)
    return read.mp_prefetch(options, worker_init_fn=_begin)


def lost(error: RuntimeError) -> InputError:
    """What is said of a process that ended before its time."""
    return InputError(
        f"a process that makes batches ended: {str(error).splitlines()[0]}; it may have had too "
        "little memory: lower train.data_workers, 0 for none, and start again to continue"
    )


def _begin(index: int, count: int) -> None:
    """Where a worker begins: an interrupt is for the process that reads, whose end ends it, too."""
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

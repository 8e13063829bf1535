"""Trains the small growing model on 1 and on 8 devices, or as one of two processes.

One seed, and two side by side.

Prints for each placement the largest differences of losses and scores from one device.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import growing_run
import jax
import numpy as np

from jaxanatomy.sweep import distributed
from jaxanatomy.train.mesh import Placement


def difference(found, expected):
    (_, points, losses), (_, expected_points, expected_losses) = found, expected
    apart = np.abs(np.array(losses) - np.array(expected_losses)).max()
    scores = [np.array([point.eval_nll for point in each]) for each in (points, expected_points)]
    return apart, np.abs(scores[0] - scores[1]).max()


def one_process(folder):
    own = Placement.over(jax.devices()[:1])
    for seeds in ((0,), (0, 3)):
        one = growing_run.train(f"{folder}/one{seeds}", placement=own, seeds=seeds)
        for fsdp_shards in (1, 8):
            placement = Placement.over(fsdp_shards=fsdp_shards, min_sharded_size=1)
            found = growing_run.train(
                f"{folder}/{fsdp_shards}{seeds}", placement=placement, seeds=seeds
            )
            print(fsdp_shards, *difference(found, one))
        # A checkpoint of eight devices is read on one.
        params, _, losses = growing_run.train(f"{folder}/8{seeds}", placement=own, seeds=seeds)
        assert losses == []
        jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(np.asarray, found[0]))


def one_of_several(folder, count, index):
    """Each process reads its own rows; the losses are of all.

    A few steps, and only the larger arrays are cut: each exchange waits for the other process.
    """
    rows = growing_run.ROWS // count
    placement = Placement.over(fsdp_shards=jax.device_count(), min_sharded_size=500)
    part = slice(index * rows, (index + 1) * rows)
    _, points, losses = growing_run.train(
        folder, placement=placement, part=part, seeds=(0, 3), stages=growing_run.SHORT
    )
    print(json.dumps({"losses": losses, "scores": [point.eval_nll for point in points]}))


def main():
    count, index = int(os.environ["PROCESS_COUNT"]), int(os.environ["PROCESS_INDEX"])
    distributed.start(os.environ["COORDINATOR"] if count > 1 else "", count, index)
    if count > 1:
        one_of_several(sys.argv[1], count, index)
        return
    with tempfile.TemporaryDirectory() as folder:
        one_process(folder)


if __name__ == "__main__":
    main()

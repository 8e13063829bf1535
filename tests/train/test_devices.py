"""Several devices train the same replicas as one.

The trap: inside `shard_map` the gradient with respect to replicated weights is summed over
lanes. Here every lane has weights of its own, and the losses after updates show it.
"""

from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "devices_script.py"


@pytest.mark.slow
def test_several_devices_train_the_same_as_one(run_python):
    printed = run_python(SCRIPT, "shard_map", "pmap", devices=8, timeout=400)
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines] == ["shard_map", "pmap"]
    for _, losses, evaluation, moved in lines:
        assert float(losses) < 1e-5
        assert float(evaluation) < 1e-5
        assert float(moved) > 0.01

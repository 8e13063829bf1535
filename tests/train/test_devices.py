"""Several devices train the same replicas as one.

The trap: inside `shard_map` the gradient with respect to a replicated input is summed over
lanes. Here every lane has weights of its own, the same or not, so that no gradient is. The
last figure shows it, and so do the moments, whose size AdamW would hide from the losses.
"""

from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "devices_script.py"


@pytest.mark.slow
def test_several_devices_train_the_same_as_one(run_python):
    printed = run_python(SCRIPT, "shard_map", "pmap", devices=8, timeout=400)
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines] == ["shard_map", "pmap"]
    for line in lines:
        losses, evaluation, moments, moved, gradients = map(float, line[1:])
        assert max(losses, evaluation, moments) < 1e-5
        assert moved > 0.01
        assert gradients < 1e-5

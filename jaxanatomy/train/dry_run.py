"""What runs would take of devices that need not be here, in words for a dry run."""

import dataclasses
from collections.abc import Sequence

from jaxanatomy.train.lowering import PLATFORMS, export_run
from jaxanatomy.train.memory import StepMemory, step_memory
from jaxanatomy.train.setup import Setup


def describe_runs(setups: Sequence[Setup], batch_size: int, seq_len: int, lower: bool) -> list[str]:
    """Memory of one device at the deepest stage; and that the programs can be lowered.

    Args:
      setups: Of each arm, all on the same devices.
      batch_size: Rows B of a batch, of all processes together.
      seq_len: Tokens T of a row.
      lower: Whether to lower what the arms compile, for `lowering.PLATFORMS`; a few seconds.
    """
    deepest = max(
        (stage for each in setups for stage in each.stages),
        key=lambda stage: stage.config.num_layers,
    )
    memory = step_memory(setups[0], deepest, batch_size, seq_len)
    count = setups[0].placement.device_count
    lines = [
        f"memory of each of {count} devices, {deepest.config.num_layers} layers: {_figures(memory)}"
    ]
    if lower:
        # Arms that differ in their growth map alone have the same steps.
        by_stages = {tuple(stage.config for stage in each.stages): each for each in setups}
        found = [export_run(each, batch_size, seq_len) for each in by_stages.values()]
        names = " and ".join(PLATFORMS)
        lines.append(f"lowered for {count} devices of {names}: {sum(map(len, found))} programs")
    return lines


def _figures(memory: StepMemory) -> str:
    parts = dataclasses.asdict(memory).items()
    listed = ", ".join(f"{name} {size / 1e9:,.2f}" for name, size in parts if size)
    return f"{memory.total / 1e9:,.2f} GB on paper (GB: {listed})"

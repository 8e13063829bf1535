"""The arms of the developmental experiment: training regimes of one architecture (AH Table 8)."""

import dataclasses

import numpy as np

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import choose
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.growth.phases import (
    CORE,
    Phase,
    clone_init_phases,
    core_phases,
    developmental_phases,
    reordered_phases,
    restarted_phases,
    stages,
    uniform_phases,
)
from jaxanatomy.growth.stages import Stage, total_flops

ARMS = {
    "uniform_100": "every layer at every step, in all the steps: the paper's baseline",
    "growth_50": "the phases of Table 7 in fewer steps (the paper's '50 %' is 416 of 656)",
    "growth_100": "the phases of Table 7 in all the steps",
    "clone_init_uniform": "control: all clones are made at the start, then every layer trains",
    "uniform_restarts": "control: uniform; the optimiser restarts where that of growth_100 does",
    "shuffled_phases": "control: the growing phases in a random order, with the same steps",
    "reversed_phases": "control: the growing phases in reverse order, with the same steps",
    "core_first_phases": "control: the core's phase first, the others reversed; the core trains in "
    "as many steps as in growth_100",
    "core_third_phases": "control: phases 4, 5, 1, 3, 2; the core trains in as many steps as in "
    "growth_100",
    "equal_flops": "control: uniform, for as many steps as the FLOPs of growth_100 buy",
    "core_alone": "control: the two core layers alone, in all the steps: what do the others add?",
}
# Which of the growing phases of Table 7 comes first, second, ...; maturation stays last. Where
# phase 1, which brings the core, comes before 2 and 3, which train it again, its steps are those of
# Table 7's order.
ORDERS = {
    "reversed_phases": (4, 3, 2, 1, 0),
    "core_first_phases": (0, 4, 3, 2, 1),
    "core_third_phases": (3, 4, 0, 2, 1),
}
MAIN = ("uniform_100", "growth_50", "growth_100")


@dataclasses.dataclass(frozen=True)
class ArmSettings:
    """What all arms share.

    Attributes:
      steps: Of the full budget.
      growth_50_steps: Of growth_50.
      core: One of `phases.CORE_READINGS`.
      not_yet_grown: One of `phases.NOT_YET_GROWN`.
      shuffle_seed: Seed of the order of shuffled_phases.
      batch_size: Rows of a batch.
      seq_len: Tokens of each, several documents and padding included.
    """

    steps: int
    growth_50_steps: int
    core: str
    not_yet_grown: str
    shuffle_seed: int
    batch_size: int
    seq_len: int


def arm_stages(name: str, config: ModelConfig, settings: ArmSettings) -> tuple[Stage, ...]:
    """What an arm does, stage by stage.

    Args:
      name: One of `ARMS`.
      config: The architecture at the end.
      settings: What all arms share.

    Raises:
      InputError: No such arm, or the steps do not suffice for its phases.
    """
    choose("arm", name, ARMS)
    growing = developmental_phases(settings.core)
    phases: tuple[Phase, ...] = growing
    steps = settings.growth_50_steps if name == "growth_50" else settings.steps
    if name in ("uniform_100", "equal_flops"):
        phases = uniform_phases(config.num_layers)
    elif name == "clone_init_uniform":
        phases = clone_init_phases(growing)
    elif name == "uniform_restarts":
        phases = restarted_phases(growing)
    elif name == "shuffled_phases":
        phases = reordered_phases(growing, random_order(len(growing) - 1, settings.shuffle_seed))
    elif name in ORDERS:
        phases = reordered_phases(growing, ORDERS[name])
    if name == "core_alone":
        # Layers outside of it are absent, however those that are not grown yet are treated.
        return stages(config, core_phases(), settings.steps, whole=False)
    if name == "equal_flops":
        shape = settings.batch_size, settings.seq_len
        spent = total_flops(arm_stages("growth_100", config, settings), *shape)
        each = step_flops(config, *shape)
        steps = max(1, round(spent / each))
    return stages(config, phases, steps, settings.not_yet_grown)


def core_steps(plan: tuple[Stage, ...]) -> int:
    """The core's exposure: steps in which it trains."""
    return sum(stage.steps for stage in plan if set(CORE) <= set(stage.train))


def random_order(count: int, seed: int) -> tuple[int, ...]:
    """A random order of `count` phases that is neither the given one nor one of `ORDERS`."""
    rng = np.random.default_rng(seed)
    while True:
        order = tuple(int(index) for index in rng.permutation(count))
        if order not in (tuple(range(count)), *ORDERS.values()):
            return order

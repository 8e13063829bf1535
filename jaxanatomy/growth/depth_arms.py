"""The arms of the depth growth experiment: baseline, growth, LN-scaling (DG section 3.2)."""

import dataclasses

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.growth.apply import grown_config
from jaxanatomy.growth.flops import growth_flops, step_flops
from jaxanatomy.growth.maps import OPERATORS, growth_map
from jaxanatomy.growth.stages import MOMENTS, Stage, depth_stages

BASELINE = "baseline"
LN_SCALING = "ln_scaling"
EQUAL_FLOPS = "_equal_flops"
SHALLOW, MEAN_DEPTH = "shallow", "mean_depth"
ARMS = {
    BASELINE: "all layers from the first step on",
    SHALLOW: "control: never more layers than a growing model starts with",
    MEAN_DEPTH: "control: the constant depth that takes a growing model's FLOPs in as many steps",
    LN_SCALING: "the same, the outputs of the norms of layer l divided by sqrt(l)",
    **{name: operator.help for name, operator in OPERATORS.items()},
    **{f"{LN_SCALING}_{name}": f"both: LN-scaling, and {name}" for name in OPERATORS},
}


@dataclasses.dataclass(frozen=True)
class DepthArmSettings:
    """What all arms share.

    Attributes:
      steps: Of the baseline, and of every arm that is compared at equal steps.
      block: Layers b that a growth step adds; the depth at the start, too.
      growth_fraction: Share of the steps in which PROP-alpha spreads the stages; what is left
        is trained at the last depth.
      alpha: Of PROP-alpha.
      batch_size: Sequences of a batch.
      seq_len: Tokens of each.
      moments: What becomes of the moments when a model grows, one of `stages.MOMENTS`.
    """

    steps: int
    block: int
    growth_fraction: float = 0.85
    alpha: float = 1.0
    batch_size: int = 8
    seq_len: int = 256
    moments: str = "copy"

    def __post_init__(self):
        choose("policy for moments", self.moments, MOMENTS)
        if not 0 < self.growth_fraction <= 1:
            raise InputError(
                f"growth_fraction must be above 0 and 1 at most; got {self.growth_fraction}; the "
                "paper's is 0.85"
            )


def arm_names() -> tuple[str, ...]:
    """Every arm that there is; those that grow have a twin of equal FLOPs."""
    grown = (name for name in ARMS if _operator(name))
    return (*ARMS, *(name + EQUAL_FLOPS for name in grown))


def depth_arm(name: str, config: ModelConfig, settings: DepthArmSettings) -> tuple[Stage, ...]:
    """The stages of an arm.

    Args:
      name: One of `arm_names()`. With `_equal_flops` a growing arm takes as many steps as
        the FLOPs of the baseline buy it.
      config: The architecture at the end, without LN-scaling; layers of one shape.
      settings: What all arms share.

    Raises:
      InputError: No such arm; the depth is not reached in steps of b; fewer steps than stages.
    """
    choose("arm", name, arm_names())
    base = name.removesuffix(EQUAL_FLOPS)
    operator = _operator(base)
    config = dataclasses.replace(config, ln_scaling=base.startswith(LN_SCALING))
    if not operator:
        depth = _constant_depth(base, config, settings)
        return (Stage(config.with_layers(config.layers[:depth]), settings.steps),)
    steps = settings.steps if name == base else _steps_of_equal_flops(config, settings)
    first, *rest = _depths(config, settings, steps)
    depth, count = first
    stages = [Stage(config.with_layers(config.layers[:depth]), count)]
    for _, count in rest:
        before = stages[-1].config
        growth = growth_map(operator, before.num_layers, settings.block)
        config = grown_config(before, growth)
        stages.append(Stage(config, count, growth, moments=settings.moments))
    return tuple(stages)


def grows(name: str) -> bool:
    """Whether an arm's model gains layers while it trains."""
    return bool(_operator(name.removesuffix(EQUAL_FLOPS)))


def _operator(name: str) -> str:
    """The growth operator of an arm; empty where the depth is constant."""
    found = name.removeprefix(f"{LN_SCALING}_")
    return found if found in OPERATORS else ""


def _constant_depth(name: str, config: ModelConfig, settings: DepthArmSettings) -> int:
    """Layers of an arm that does not grow."""
    if name == SHALLOW:
        return min(settings.block, config.num_layers)
    if name != MEAN_DEPTH:
        return config.num_layers
    shape = settings.batch_size, settings.seq_len
    spent = growth_flops(config, _depths(config, settings, settings.steps), *shape)
    return min(
        range(1, config.num_layers + 1),
        key=lambda depth: abs(growth_flops(config, [(depth, settings.steps)], *shape) - spent),
    )


def _depths(config: ModelConfig, settings: DepthArmSettings, steps: int):
    growing = round(settings.growth_fraction * steps)
    return depth_stages(
        settings.block, config.num_layers, settings.block, growing, steps, settings.alpha
    )


def _steps_of_equal_flops(config: ModelConfig, settings: DepthArmSettings) -> int:
    """Steps whose FLOPs come nearest to the baseline's; the stages share them in proportion."""
    shape = settings.batch_size, settings.seq_len
    budget = settings.steps * step_flops(config, *shape)
    spent = growth_flops(config, _depths(config, settings, settings.steps), *shape)
    guess = round(settings.steps * budget / spent)
    # Stages are rounded to whole steps: the best of the neighbours that suffice for them.
    return min(
        range(max(settings.steps, guess - 3), max(settings.steps, guess + 3) + 1),
        key=lambda steps: abs(
            growth_flops(config, _depths(config, settings, steps), *shape) - budget
        ),
    )

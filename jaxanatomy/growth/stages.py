"""How long a model that grows in depth stays at each depth (DG appendix A)."""

import math
from fractions import Fraction
from typing import NamedTuple

from jaxanatomy.errors import InputError
from jaxanatomy.growth.maps import depths
from jaxanatomy.growth.phases import split_steps

_LARGEST_EXACT = 64  # alpha; beyond it exact fractions grow long, and the last stage has all


class DepthSteps(NamedTuple):
    """A stage of growth.

    Attributes:
      num_layers: Depth of the model.
      steps: How many steps it has it.
    """

    num_layers: int
    steps: int


def prop_alpha(steps: int, stages: int, alpha: float = 1.0) -> tuple[int, ...]:
    """PROP-alpha: stage i of k takes i^alpha / sum_j j^alpha of the steps.

    Rounded by largest remainder, ties to the earlier stage, so that the sum is exact.

    Args:
      steps: Of all stages together.
      stages: Their number k.
      alpha: 0 makes them equal; the larger, the longer the late, deep ones.

    Raises:
      InputError: Fewer steps than stages, a stage without steps, or an alpha that is negative
        or not finite.
    """
    if not 0 <= alpha < math.inf:
        raise InputError(
            f"alpha of PROP-alpha must be a number, 0 or above; got {alpha}; 1 is usual"
        )
    if stages < 1 or steps < stages:
        raise InputError(
            f"each of at least one stage needs a step; got {stages} stages and {steps} steps; "
            "raise the steps or the block size"
        )
    try:
        found = split_steps(steps, prop_alpha_shares(stages, alpha))
    except InputError:
        found = (0,)
    if 0 in found:
        raise InputError(
            f"PROP-{alpha:g} leaves one of {stages} stages without any of {steps} steps; raise the "
            "steps or lower alpha"
        )
    return found


def prop_alpha_shares(stages: int, alpha: float) -> tuple[Fraction, ...]:
    """i^alpha / k^alpha of each stage i of k; exact for whole alpha, so that ties are ties.

    Args:
      stages: Their number k.
      alpha: See `prop_alpha`.
    """
    # Relative to the last one: a large alpha makes small numbers, not infinite ones.
    ratios = [Fraction(stage, stages) for stage in range(1, stages + 1)]
    if float(alpha).is_integer() and alpha <= _LARGEST_EXACT:
        return tuple(ratio ** int(alpha) for ratio in ratios)
    return tuple(Fraction(float(ratio) ** alpha) for ratio in ratios)


def depth_stages(
    initial: int, target: int, block: int, growing_steps: int, steps: int, alpha: float = 1.0
) -> tuple[DepthSteps, ...]:
    """The stages of a run that grows from one depth to another, then goes on at the last.

    The paper grows in the first 170,000 of 200,000 steps, from b layers on, so that the
    model has its final depth when the cooldown starts.

    Args:
      initial: Layers at the start.
      target: Layers at the end.
      block: Layers b that a growth step adds.
      growing_steps: Steps T that PROP-alpha divides among the depths.
      steps: Of the whole run; those beyond T are added to the last stage.
      alpha: See `prop_alpha`.

    Raises:
      InputError: The target is not reached in steps of b; more growing steps than steps; and
        as `prop_alpha`.
    """
    found = depths(initial, target, block)
    if growing_steps > steps:
        raise InputError(
            f"a model grows within its run; got {growing_steps} growing steps of {steps}; lower "
            "the growing steps"
        )
    lengths = list(prop_alpha(growing_steps, len(found), alpha))
    lengths[-1] += steps - growing_steps
    return tuple(map(DepthSteps, found, lengths))

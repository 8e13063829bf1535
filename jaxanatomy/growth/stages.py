"""A training run as stages, and how long each lasts.

A stage says which architecture is trained for how many steps, where its layers come from, which
of them train, and what becomes of the optimiser's moments when it begins. A run of constant
depth is one stage; depth growth has one for each depth (DG section 3), developmental training
one for each phase (AH section 4.6).
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose
from jaxanatomy.growth.apply import MOMENTS as GROWN_MOMENTS
from jaxanatomy.growth.flops import step_flops
from jaxanatomy.growth.maps import GrowthMap, depths

# What becomes of the optimiser's moments where a stage begins.
MOMENTS = {
    **GROWN_MOMENTS,
    "restart": "the optimiser restarts, its count of steps too (AH section 4.6)",
}
_LARGEST_EXACT = 64  # alpha; beyond it exact fractions grow long, and the last stage has all


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run in which the architecture and what trains stay the same.

    Attributes:
      config: The architecture.
      steps: How long it lasts; with 0 it only changes the model.
      growth: Where its layers come from: from the stage before, in the first stage from the
        initial model. None: they stay.
      layers: The number of each layer, by which its noise is drawn and its initial weights are
        found; empty: 0, 1, ...
      train: The layers that train, by number; None: all.
      train_ends: Whether embedding, head and final norm train.
      noise: Standard deviation of Gaussian noise on the matrices of layers that are new, as a
        share of each matrix's own.
      ffn_scale: Factor on what the FFN of a new layer writes.
      fresh: New layers, by number, that have their initial weights instead of their source's.
      aligned: Whether a new layer is the mean of its source and of the layer that follows it,
        matched to it first (`forensics.alignment`); its moments are its source's.
      moments: What becomes of the optimiser's moments, one of `MOMENTS`.
      name: As reports have it.
    """

    config: ModelConfig
    steps: int
    growth: GrowthMap | None = None
    layers: tuple[int, ...] = ()
    train: tuple[int, ...] | None = None
    train_ends: bool = True
    noise: float = 0.0
    ffn_scale: float = 1.0
    fresh: tuple[int, ...] = ()
    aligned: bool = False
    moments: str = "copy"
    name: str = ""

    def __post_init__(self):
        choose("policy for moments", self.moments, MOMENTS)
        if not self.layers:
            object.__setattr__(self, "layers", tuple(range(self.config.num_layers)))
        if len(self.layers) != self.config.num_layers:
            raise ValueError(f"{len(self.layers)} numbers for {self.config.num_layers} layers")
        if self.train is None:
            object.__setattr__(self, "train", self.layers)

    @property
    def trains_all(self) -> bool:
        """Whether every parameter trains."""
        return self.train_ends and set(self.train) == set(self.layers)

    @property
    def changes_new(self) -> bool:
        """Whether its new layers are more than what the growth map gathers."""
        if self.growth is None or not self.growth.inserted:
            return False
        edited = self.noise or self.ffn_scale != 1 or self.fresh or self.aligned
        return bool(edited) or not self.config.is_uniform

    def step_flops(self, batch_size: int, seq_len: int) -> int:
        """FLOPs of one step of one model; see `flops.step_flops`."""
        train = [place for place, layer in enumerate(self.layers) if layer in self.train]
        return step_flops(self.config, batch_size, seq_len, train=train, embedding=self.train_ends)


def total_steps(stages: Iterable[Stage]) -> int:
    """Steps of all stages."""
    return sum(stage.steps for stage in stages)


def total_flops(stages: Iterable[Stage], batch_size: int, seq_len: int) -> int:
    """FLOPs of all steps of all stages, of one model."""
    return sum(stage.steps * stage.step_flops(batch_size, seq_len) for stage in stages)


def split_steps(total: int, shares: Sequence[int | Fraction]) -> tuple[int, ...]:
    """Divides steps in proportion to shares, by largest remainder; ties go to the earlier.

    Raises:
      InputError: Shares are negative or all zero, or a share above 0 would get no step.
    """
    if not shares or min(shares) < 0 or sum(shares) == 0:
        raise InputError(f"shares of steps must be 0 or above and not all 0; got {tuple(shares)}")
    exact = [Fraction(total) * Fraction(share) / Fraction(sum(shares)) for share in shares]
    steps = [math.floor(each) for each in exact]
    by_remainder = sorted(range(len(shares)), key=lambda at: (steps[at] - exact[at], at))
    for at in by_remainder[: total - sum(steps)]:
        steps[at] += 1
    if any(share and not count for share, count in zip(shares, steps, strict=True)):
        phases = sum(1 for share in shares if share)
        raise InputError(
            f"{total} steps are too few for {phases} phases of shares {tuple(shares)}: one would "
            "get none; raise the steps"
        )
    return tuple(steps)


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
) -> tuple[tuple[int, int], ...]:
    """(layers, steps) of each stage of a run that grows from one depth to another.

    It goes on at the last one.

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
    return tuple(zip(found, lengths, strict=True))

"""A policy that proposes coefficients and learns by REINFORCE which of them help.

    state = start(settings, lever, layers=6, seeds=2)
    x_MLC = draw(state, seeds=(0, 1), number=0)
    lever.coefficient(x_MLC)                  # what is used, clamped
    state = update(settings, lever, state, x_MLC, reward_M)

LR section 5 has "a small policy that proposes a weight-decay coefficient for each of the body's
tensors", "updated by REINFORCE against held-out loss", and holds its design back (section 10). So
this one is ours, the plainest that can be checked: each coefficient is log-normal, its logarithm
drawn with a mean and a standard deviation of its own; the reward is what the held-out loss fell by
since the proposal, less a moving mean and over a moving deviation of rewards; an entropy bonus
keeps the spread from closing. Seeds that train side by side have a policy each.

Axes: M seeds, L layers, C tensors of a layer with a coefficient of their own.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxanatomy.errors import InputError, require_positive, require_whole

LARGEST = 2.0  # advantage, in deviations of the reward: one lucky step moves no mean far
NARROWEST, WIDEST = 0.25, 2.0  # times the spread at the start
REWARDS_UNTIL_LEARNED = 3  # the first two say what is usual, so that no mean has moved before
NEAR = 0.43  # deviations, beyond which lies a third of a normal law


@dataclasses.dataclass(frozen=True)
class PolicySettings:
    """How a policy proposes and learns.

    Attributes:
      every: Steps between proposals.
      spread: Standard deviation of the logarithm of a coefficient at the start.
      rate: Of learning: how many deviations of a proposal the mean moves by towards one of an
        advantage of 1.
      entropy: The bonus, per nat.
      memory: Share of the moving mean and deviation of rewards that stays at each reward.
      decay: The least and the greatest weight decay.
      rate_scale: The least and the greatest factor on a layer's learning rate.
    """

    every: int = 10
    spread: float = 0.5
    rate: float = 0.2
    entropy: float = 0.02
    memory: float = 0.8
    decay: tuple[float, float] = (0.01, 1.0)
    rate_scale: tuple[float, float] = (0.3, 3.0)

    def __post_init__(self):
        require_whole("policy.every", self.every)
        for name in ("spread", "rate"):
            require_positive(f"policy.{name}", getattr(self, name))
        require_positive("policy.entropy", self.entropy, or_zero=True)
        if not 0 <= self.memory < 1:
            raise InputError(f"policy.memory must be at least 0 and below 1; got {self.memory}")
        for name in ("decay", "rate_scale"):
            ends = tuple(getattr(self, name))
            if len(ends) != 2 or not 0 < ends[0] < ends[1] < np.inf:
                raise InputError(
                    f"policy.{name} must be two numbers above 0, the lower first; got {ends}; a "
                    "coefficient of 0 has no logarithm"
                )
            object.__setattr__(self, name, ends)
        if not self.rate_scale[0] < 1 < self.rate_scale[1]:
            raise InputError(
                f"policy.rate_scale must hold 1, from which it begins; got {self.rate_scale}; "
                "widen it"
            )


@dataclasses.dataclass(frozen=True)
class Lever:
    """What is proposed.

    Attributes:
      factors: The part of the optimiser's state that it sets, "layer_decays" or "layer_rates".
      tensors: What has a coefficient of its own in each layer.
      begin: The coefficient that all begin with.
      low: The least, below that.
      high: The greatest, above.
    """

    factors: str
    tensors: tuple[str, ...]
    begin: float
    low: float
    high: float

    def coefficient(self, x_MLC: np.ndarray) -> np.ndarray:
        """The coefficients of logarithms, clamped."""
        return np.exp(np.clip(x_MLC, np.log(self.low), np.log(self.high)))


class PolicyState(NamedTuple):
    """What a policy knows, float64.

    Attributes:
      mean_MLC: Of the logarithm of each coefficient.
      log_std_MLC: The logarithm of its standard deviation.
      baseline_M: Moving mean of the rewards.
      variance_M: Moving mean of their squared distance from it.
      rewards: How many there were.
    """

    mean_MLC: np.ndarray
    log_std_MLC: np.ndarray
    baseline_M: np.ndarray
    variance_M: np.ndarray
    rewards: int

    def to_json(self) -> list[Any]:
        """JSON-ready, to the bit."""
        return [np.asarray(part).tolist() for part in self]

    @classmethod
    def from_json(cls, parts: Sequence[Any]) -> "PolicyState":
        """The inverse."""
        return cls(*map(np.array, parts[:-1]), parts[-1])


def at_clamp(lever: Lever, state: PolicyState) -> np.ndarray:
    """Which means lie so near an end that a third of their proposals is clamped, bool [M, L, C]."""
    room_MLC = np.minimum(state.mean_MLC - np.log(lever.low), np.log(lever.high) - state.mean_MLC)
    return room_MLC < NEAR * np.exp(state.log_std_MLC)


def start(settings: PolicySettings, lever: Lever, layers: int, seeds: int) -> PolicyState:
    """Before the first proposal: every coefficient about where all begin."""
    shape, nothing = (seeds, layers, len(lever.tensors)), np.zeros(seeds)
    mean_MLC = np.full(shape, np.log(lever.begin))
    return PolicyState(mean_MLC, np.full(shape, np.log(settings.spread)), nothing, nothing, 0)


def draw(state: PolicyState, seeds: Sequence[int], number: int) -> np.ndarray:
    """The logarithms of proposal `number`, [M, L, C]; not clamped, so that their law is normal.

    The noise is that of the seed and the number: policies of the same seed that are in the same
    state propose the same.
    """
    shape = state.mean_MLC.shape[1:]
    z_MLC = np.stack([np.random.default_rng((seed, number)).normal(size=shape) for seed in seeds])
    return state.mean_MLC + np.exp(state.log_std_MLC) * z_MLC


def update(
    settings: PolicySettings,
    lever: Lever,
    state: PolicyState,
    x_MLC: np.ndarray,
    reward_M: np.ndarray,
) -> PolicyState:
    """A step of REINFORCE (Williams 1992) along the natural gradient.

    The gradient of log N(x; m, s) is (x - m) / s^2 with respect to m and z^2 - 1 with respect to
    log s, z = (x - m) / s; that of the entropy is 0 and 1; the inverse of the Fisher information is
    s^2 and 1/2. Clamping is part of the world: the law of x knows nothing of it.

    Args:
      settings: How it learns.
      lever: Whose means stay within the clamp.
      state: Before.
      x_MLC: The proposal, of `draw`.
      reward_M: Of each seed; one that is not finite teaches nothing.
    """
    known_M = np.isfinite(reward_M)
    excess_M = np.where(known_M, reward_M, state.baseline_M) - state.baseline_M
    deviation_M = np.sqrt(state.variance_M)
    ratio_M = np.divide(excess_M, deviation_M, out=np.zeros_like(excess_M), where=deviation_M > 0)
    advantage_M11 = np.clip(ratio_M, -LARGEST, LARGEST)[:, None, None]
    std_MLC = np.exp(state.log_std_MLC)
    z_MLC = (x_MLC - state.mean_MLC) / std_MLC
    mean_MLC = state.mean_MLC + settings.rate * advantage_M11 * std_MLC * z_MLC
    entropy_M11 = settings.entropy * known_M[:, None, None]
    slope_MLC = advantage_M11 * (z_MLC**2 - 1) + entropy_M11
    log_std_MLC = state.log_std_MLC + settings.rate / 2 * slope_MLC
    share_M = np.where(known_M, max(1 - settings.memory, 1 / (state.rewards + 1)), 0.0)
    # The first reward is its own mean; what it deviates by is not known.
    second_M = excess_M**2 * (state.rewards > 0)
    return PolicyState(
        np.clip(mean_MLC, np.log(lever.low), np.log(lever.high)),
        np.clip(log_std_MLC, *np.log(np.multiply(settings.spread, (NARROWEST, WIDEST)))),
        state.baseline_M + share_M * excess_M,
        state.variance_M + share_M * (second_M - state.variance_M),
        state.rewards + 1,
    )

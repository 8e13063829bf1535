"""Learning rates over a run, as plain numbers for each step."""

import dataclasses

import numpy as np

from jaxanatomy.errors import InputError, require_positive


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay:
    """One continuous trapezoid: linear warmup, a plateau, and a cooldown by 1 - sqrt.

    The rate does not restart when a model grows (DG section 3).

    Attributes:
      peak: Learning rate of the plateau.
      warmup: Share of the steps that the warmup takes.
      cooldown: Share of the steps that the cooldown takes; it ends at 0 after the last one.
    """

    peak: float
    warmup: float = 0.05
    cooldown: float = 0.2

    def __post_init__(self):
        require_positive("a learning rate", self.peak)
        if not (self.warmup >= 0 <= self.cooldown and self.warmup + self.cooldown <= 1):
            raise InputError(
                "warmup and cooldown are shares of a run, 0 or above and 1 at most together; got "
                f"{self.warmup} and {self.cooldown}"
            )

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate of each of `steps` steps, float32 [steps]."""
        step = np.arange(steps, dtype=np.float64)
        warmup, cooldown = round(self.warmup * steps), round(self.cooldown * steps)
        rising = (step + 1) / warmup if warmup else np.ones(steps)
        done = (step - (steps - cooldown)) / max(cooldown, 1)
        falling = 1 - np.sqrt(np.clip(done, 0, 1))
        return (self.peak * np.minimum(np.minimum(rising, 1), falling)).astype(np.float32)

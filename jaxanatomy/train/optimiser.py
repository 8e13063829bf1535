"""The optimiser of the protocols: AdamW after clipping by the global norm."""

import dataclasses

import optax

from jaxanatomy.errors import InputError, require_positive


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Settings of AdamW (AH section 3.6; what it leaves open is PyTorch's default).

    Attributes:
      learning_rate: Constant over the steps.
      beta1: Decay of the first moment.
      beta2: Decay of the second moment.
      epsilon: Added to the root of the second moment.
      weight_decay: Decoupled; times the learning rate. Matrices and norms decay alike.
      clip_norm: Largest global norm of the gradient of all that is trained together.
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self):
        for name in ("learning_rate", "epsilon", "clip_norm"):
            require_positive(f"optimiser.{name}", getattr(self, name))
        require_positive("optimiser.weight_decay", self.weight_decay, or_zero=True)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"optimiser.{name} must be at least 0 and below 1; got {getattr(self, name)}"
                )

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser as optax has it."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(
                self.learning_rate,
                b1=self.beta1,
                b2=self.beta2,
                eps=self.epsilon,
                weight_decay=self.weight_decay,
            ),
        )

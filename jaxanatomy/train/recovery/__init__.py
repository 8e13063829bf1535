"""Many replicas of a model, each healing one layer, trained at once on a tape (AH section 3.6)."""

from jaxanatomy.train.recovery.curves import StepPlan, noised_points, train_curves
from jaxanatomy.train.recovery.options import RecoveryOptions
from jaxanatomy.train.recovery.trainer import (
    Group,
    RecoveryTrainer,
    Replica,
    recovery_step_flops,
)

__all__ = [
    "Group",
    "RecoveryOptions",
    "RecoveryTrainer",
    "Replica",
    "StepPlan",
    "noised_points",
    "recovery_step_flops",
    "train_curves",
]

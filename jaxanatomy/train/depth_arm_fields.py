"""What a plan whose arms grow in depth takes from its config, whatever it is trained on."""

from typing import Any

from ml_collections import ConfigDict

from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import require_whole
from jaxanatomy.growth.depth_arms import DepthArmSettings, depth_arms
from jaxanatomy.train.arm_fields import check_trials, training_fields
from jaxanatomy.train.metrics import require_tensorboard


def depth_arm_fields(
    config: ConfigDict, model: ModelConfig, seq_len: int, dry_run: bool = False
) -> dict[str, Any]:
    """The fields of an `ArmPlan`, with arms of `growth.depth_arms`.

    Args:
      config: Of the experiment.
      model: The architecture at the end.
      seq_len: Tokens of a sequence.
      dry_run: The devices need not be here then.

    Raises:
      InputError: Something in the config does not fit; the message says what.
    """
    check_trials(config)
    require_whole("steps", config.steps)
    if config.tensorboard:
        require_tensorboard()
    settings = DepthArmSettings(
        steps=config.steps,
        block=config.block,
        growth_fraction=config.growth_fraction,
        alpha=config.alpha,
        batch_size=config.batch_size,
        seq_len=seq_len,
        moments=config.moments,
        step_overhead=config.step_overhead,
    )
    return {
        "config": config,
        "model": model,
        "arms": depth_arms(config.arms, model, settings),
        **training_fields(config, dry_run),
    }

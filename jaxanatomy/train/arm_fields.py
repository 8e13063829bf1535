"""What the plan of an experiment with arms takes from its config, checked before any work."""

from typing import Any

import jax
from ml_collections import ConfigDict

from jaxanatomy.errors import InputError, require_each_once, require_whole
from jaxanatomy.measures.arms.tuning import require_seeds
from jaxanatomy.train.alarms import Alarms
from jaxanatomy.train.mesh import Placement, training_devices
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.schedule import WarmupStableDecay
from jaxanatomy.train.setup import TrainOptions


def training_fields(config: ConfigDict, dry_run: bool = False) -> dict[str, Any]:
    """How every arm is trained: schedule, optimiser, options, placement and alarms.

    On paper (`dry_run`) the devices need not be here.

    Raises:
      InputError: Settings that do not fit; more devices than there are.
    """
    schedule, *_ = (
        WarmupStableDecay(rate, config.warmup, config.cooldown) for rate in config.learning_rates
    )
    fields = config.train.to_dict()
    devices, shards, _ = (fields.pop(name) for name in ("devices", "fsdp_shards", "vmap_seeds"))
    options = TrainOptions(**fields)
    if dry_run:
        count = jax.device_count() if devices is None else devices
        placement = Placement.abstract(count, shards)
    else:
        placement = Placement.over(training_devices(devices), shards)
    options.check_batch_size(config.batch_size, placement)
    return {
        "schedule": schedule,
        "optimiser": Optimiser(**config.optimiser),
        "options": options,
        "placement": placement,
        "alarms": Alarms(**config.alarms),
    }


def check_trials(config: ConfigDict) -> None:
    """Refuses arms, seeds and rates that cannot be, and what every training needs.

    Raises:
      InputError: Something in the config does not fit; the message says what.
    """
    tunes = ("tuning_seeds",) if len(config.learning_rates) > 1 else ()
    for name in ("arms", "seeds", "learning_rates", *tunes):
        require_each_once(name, config[name])
    require_seeds(seeds=config.seeds, tuning_seeds=config.tuning_seeds)
    require_whole("batch_size", config.batch_size)
    require_whole("eval_every", config.eval_every)
    require_whole("roles_every", config.roles_every, 0)
    if config.roles_every % config.eval_every:
        raise InputError(
            "roles_every must be a multiple of eval_every, so that each look has a loss; got "
            f"{config.roles_every} and {config.eval_every}; change one of them"
        )


def require_whole_batches(config: ConfigDict, *names: str) -> None:
    """Refuses numbers of rows that are scored that do not fill batches.

    Raises:
      InputError: One is no whole number, or no multiple of `batch_size`.
    """
    for name in names:
        require_whole(name, config[name])
        if config[name] % config.batch_size:
            raise InputError(
                f"{name} must be a multiple of batch_size; got {config[name]} and "
                f"{config.batch_size}; change one of them"
            )


def require_some_held_out(depth_sequences: int, held_out_sequences: int) -> None:
    """Refuses to read depth on more sequences than are held out.

    Raises:
      InputError: They are more.
    """
    if depth_sequences > held_out_sequences:
        raise InputError(
            f"depth_sequences must be some of the held-out sequences; got {depth_sequences} of "
            f"{held_out_sequences}; lower it"
        )

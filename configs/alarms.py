"""Alarms put to the test: six kinds of faults in training runs of a small model, and healthy runs.

    python -m experiments.alarms --config=configs/alarms.py --workdir=runs/alarms

Twenty seeds of each; the levels are chosen on twenty healthy runs with other seeds, and two hundred
more healthy ones say how often an alarm is false.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    del variant
    config = ConfigDict()
    config.faults = (
        "late_layers",
        "rate_spike",
        "corrupted_batch",
        "head_scaled",
        "no_warmup",
        "gain_drift",
    )
    config.seeds = tuple(range(20))  # of the scored runs: weights, sentences and faults
    config.healthy_seeds = tuple(range(200, 400))  # of scored runs that have no fault
    config.calibration_seeds = tuple(range(100, 120))  # of the runs that levels are chosen on
    config.intervals = (1, 10, 25, 100)  # steps between checks; other experiments check every 100
    config.margin = 1.25  # chosen levels over the highest reading of a healthy run
    config.shipped = config_fields.alarms()  # the default levels; the lowest are scored, too
    del config.shipped.every, config.shipped.actions  # the intervals; nothing is done here

    config.model = ConfigDict()
    config.model.num_layers = 6
    config.model.hidden_size = 32
    config.model.num_heads = 4
    config.model.num_kv_heads = 4
    config.model.ffn_width = 64

    config.steps = 250  # of healthy runs, and of the schedule of all
    config.fault_step = 120
    config.after = 60  # steps from a fault to the end of its run
    config.batch_size = 8  # sentences of a step, as AH section 4.6
    config.learning_rate = 1e-2
    config.warmup = 0.1  # share of the steps
    config.cooldown = 0.2
    config.optimiser = config_fields.optimiser(weight_decay=0.01, beta2=0.99)
    del config.optimiser.learning_rate  # the plateau of the schedule, above
    return config

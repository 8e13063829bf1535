"""Growing a 9.6-million-parameter transformer against training it flat, with controls.

    python -m experiments.developmental --workdir=runs/developmental

The three arms of AH Table 8 and eight controls, five seeds each, after tuning each arm's
learning rate: 196 TFLOP, 50 minutes on two cores. `:main` has only the three arms of the paper
(52 TFLOP, 13 minutes), `:quick` one seed of them in 60 steps.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "main", "quick")
MAIN = ("uniform_100", "growth_50", "growth_100")
CONTROLS = (
    "clone_init_uniform",
    "uniform_restarts",
    "equal_flops",
    "core_alone",
    "shuffled_phases",
    "reversed_phases",
    "core_first_phases",
    "core_third_phases",
)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    config = ConfigDict()
    config.arms = (*MAIN, *CONTROLS)
    config.steps = 656
    config.growth_50_steps = 416  # 63 %, though the paper calls it half
    config.seeds = (0, 1, 2, 3, 4)
    # Tried for each arm; as many as seeds, so that the same compiled program trains both.
    config.learning_rates = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)
    config.tuning_seeds = (100,)  # none of the results is from these
    config.core = "text"  # the core trains in phases 1, 2, 3, 6; "table": in 1 and 6
    config.not_yet_grown = "absent"  # or "frozen"
    config.shuffle_seed = 0  # of the order of shuffled_phases
    config.batch_size = 8  # sentences of a step; 60 steps are an epoch
    config.warmup = 0.05  # share of the steps
    config.cooldown = 0.2
    config.optimiser = config_fields.optimiser(weight_decay=0.01)
    del config.optimiser.learning_rate  # the plateau of the schedule, above
    config.eval_every = 32
    config.split_seed = 0  # which sentences are held out
    config.train = config_fields.training(scan_layers=False, steps_per_call=32, devices=1)
    config.alarms = config_fields.alarms()
    config.roles_every = 0  # steps between looks at the roles of layers, a multiple of eval_every
    if variant in ("main", "quick"):
        config.arms = MAIN
    if variant == "quick":
        config.steps, config.growth_50_steps = 60, 40
        config.seeds, config.learning_rates = (0,), (1e-3,)
    return config

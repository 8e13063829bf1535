"""Growth in depth where depth matters: k-hop induction.

    python -m experiments.khop_growth --config=configs/khop_growth.py --workdir=runs/khop
    python -m experiments.khop_growth --config=configs/khop_growth.py:depths --workdir=runs/hops

The first grows to six layers at 24 hops, against constant depth and a model that stays shallow,
each at three learning rates on a tuning seed, then five seeds at the best: 19 minutes on two
cores. The second has constant depths at 8 hops: nine minutes. `:all` is the first with
every kind of arm, 32 in all, an hour and 40 minutes, but not every combination: blocks of one, two
and three layers (growing by four does not reach six), LN-scaling with LIDAS only
(`ln_scaling_midas` can be named), equal seconds for LIDAS and two layers only. At 24 hops no arm
gets near the last one, and the spread over seeds is a twentieth of the loss; at 12 it is a third.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "depths", "all")


def get_config(variant: str = "") -> ConfigDict:
    """The default, or a variant of it."""
    config = _default()
    if variant == "depths":
        config.arms = ("flat_1", "flat_2", "flat_3", "flat_4", "baseline")
        config.seeds = (0, 1, 2)
        config.task.hops = 8
        config.task.seq_len = 40
        config.batch_size = 32
        config.steps = 800
        config.learning_rates = (3e-3, 9e-3, 2.7e-2)
    if variant == "all":
        config.arms = (*config.arms, *_MORE_ARMS)
    return config


def _default() -> ConfigDict:
    config = ConfigDict()
    config.arms = (
        "baseline",
        "midas",
        "lidas",
        "expand_2_at_70",
        "shallow",
    )
    config.seeds = (0, 1, 2, 3, 4)  # of initial weights and of the sequences

    config.task = _task()
    config.held_out_sequences = 512
    config.depth_sequences = 128  # the first of them, on which depth use is read

    config.model = _model()
    config.init = "fan_in"  # or "normal", 0.02 everywhere

    # Layers that a growth step adds, and of the first stage; all arms are read in such blocks.
    config.block = 2
    config.alpha = 1.0  # of PROP-alpha: how long a stage is
    config.growth_fraction = 0.8  # share of the steps until the model has its full depth
    config.moments = "copy"  # "zero", "rescale" or "restart"; see --list
    # For _equal_seconds: time of a step outside its layers, in layers, as measured on two cores.
    config.step_overhead = 0.14

    config.steps = 400  # of the baseline
    config.batch_size = 16
    config.learning_rates = (3e-3, 6e-3, 1.2e-2)  # tried for each arm
    config.tuning_seeds = (100,)  # none of the results is from these
    config.warmup = 0.05  # share of the steps
    config.cooldown = 0.2
    config.optimiser = config_fields.optimiser(weight_decay=0.01, beta2=0.99)
    del config.optimiser.learning_rate  # the plateau of the schedule, above
    config.eval_every = 100

    config.train = config_fields.training(
        scan_layers=False, steps_per_call=20, checkpoint_every=200
    )
    config.alarms = config_fields.alarms()
    config.roles_every = 0  # steps between looks at the roles of layers, a multiple of eval_every
    config.distributed = config_fields.distributed()
    config.save_models = True  # each trained model as a Hugging Face folder, below models/
    config.tensorboard = False  # beside metrics.jsonl; needs the [tensorboard] extra
    return config


def _task() -> ConfigDict:
    task = ConfigDict()
    task.name = "khop"  # or "automaton" or "assignments"; see --list
    task.alphabet = 4  # for assignments this and seq_len follow from names and values
    task.seq_len = 104  # tokens, the start token included
    task.hops = 24  # questions at each position
    task.rule_seed = 0  # of the automaton
    task.own_rules = False  # whether each of its steps has a rule of its own
    task.names = 19  # of assignments
    task.values = 4
    task.recent = 3
    return task


def _model() -> ConfigDict:
    model = ConfigDict()
    model.num_layers = 6
    model.hidden_size = 64
    model.num_heads = 4
    model.num_kv_heads = 4
    model.ffn_width = 128
    model.vocab_size = 96  # symbols, and all answers to all questions
    model.rope_theta = 10_000.0
    model.norm_epsilon = 1e-6
    model.tie_embeddings = False
    return model


_MORE_ARMS = (
    "fresh_layers",
    "random_copies",
    "lidas_equal_flops",
    "shallow_equal_flops",
    "flat_1",
    "flat_3",
    "flat_4",
    "stack_top",
    "stack_last",
    "insert_zero",
    "aligned",
    "lidas_b1",
    "lidas_b3",
    "lidas_prop0",
    "lidas_prop2",
    "lidas_zero_moments",
    "lidas_rescale_moments",
    "expand_1_at_50",
    "expand_1_at_70",
    "expand_1_at_90",
    "expand_2_at_50",
    "expand_2_at_90",
    "ln_scaling",
    "ln_scaling_lidas",
    "midas_equal_flops",
    "lidas_equal_seconds",
    "shallow_equal_seconds",
)

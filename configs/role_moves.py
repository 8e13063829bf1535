"""Roles moved on purpose: by decay and rates that a policy proposes, by widths, by registers.

    python -m experiments.role_moves --config=configs/role_moves.py --workdir=runs/role_moves

Six layers of width 64 on English text from the Python installation, five seeds of each arm, 150,000
tokens each: 12 minutes of CPU time for the thirteen arms. Weights are still near their initial
values then, and decay has shrunk them by a tenth, so arms differ little.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)
ARMS = (
    "uniform",
    "uniform_again",
    "none",
    "random_policy",
    "learned_policy",
    "random_rates",
    "rate_scale",
    "wide_late",
    "wide_early",
    "wide_middle",
    "registers_learned",
    "registers_frozen",
    "registers_random",
)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    del variant
    config = ConfigDict()
    config.arms = ARMS
    config.seeds = (0, 1, 2, 3, 4)  # of initial weights, of the order of the text, of proposals

    config.text = "library_english"  # or files, such as my/*.txt; see data.corpora.SOURCES
    config.tokenizer = "offline:512"
    config.held_out_rows = 48  # that arms are scored on
    config.judged_rows = 8  # of other documents, on which proposals are judged
    config.policy = config_fields.policy()
    config.width_ratio = 1.8  # the widest layer over the narrowest; LR's 1372 / 1024, squared
    config.registers = ConfigDict()
    config.registers.count = 4  # before every window
    config.registers.pool = 32  # rows of the embedding that registers_random draws from
    config.skip_most = 3  # most layers of the baseline to leave out; every set is measured

    config.model = ConfigDict()
    config.model.num_layers = 6
    config.model.hidden_size = 64
    config.model.num_heads = 4
    config.model.num_kv_heads = 4
    config.model.ffn_width = 192
    config.model.context_length = 64
    config.model.vocab_size = 544  # the tokenizer's, and a pool of registers
    config.model.rope_theta = 10_000.0
    config.model.norm_epsilon = 1e-5
    config.model.tie_embeddings = False
    config.init = "fan_in"  # or "normal", 0.02 everywhere

    config.steps = 300
    config.batch_size = 8
    # A single rate is used without tuning; of several each arm takes the best on tuning_seeds.
    config.learning_rates = (4e-3,)
    config.tuning_seeds = (100,)
    config.warmup = 0.05  # share of the steps
    config.cooldown = 0.2
    config.optimiser = config_fields.optimiser(
        weight_decay=0.1, beta2=0.99, decay_norms_and_embeddings=False
    )
    del config.optimiser.learning_rate  # the plateau of the schedule, above
    config.eval_every = 60
    config.roles_every = 0  # steps between looks at the roles of layers, a multiple of eval_every

    config.train = config_fields.training(
        scan_layers=False, steps_per_call=10, checkpoint_every=150, devices=1
    )
    config.alarms = config_fields.alarms()
    return config

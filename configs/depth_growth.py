"""A model that grows in depth while it trains, against one of constant depth.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/growth

As it stands `growth_tiny`: 2 million parameters, baseline, MIDAS and LIDAS, three seeds, on
text that needs no download. It shows that everything works, not that growth wins. All arms,
larger and longer, with arms of equal FLOPs:

    python -m experiments.depth_growth --config=configs/depth_growth.py:small --workdir=runs/small
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "small")
ARMS = ("baseline", "midas", "lidas")


def get_config(variant: str = "") -> ConfigDict:
    """The tiny experiment; "small" is all arms of the paper, and those of equal FLOPs."""
    config = ConfigDict()
    config.arms = ARMS
    config.seeds = (0, 1, 2)  # of initial weights and of the order of the data

    config.model = ConfigDict()
    config.model.num_layers = 8
    config.model.hidden_size = 128
    config.model.num_heads = 4
    config.model.num_kv_heads = 2
    config.model.ffn_width = 384
    config.model.context_length = 128
    config.model.vocab_size = 4096  # that of the tokenizer

    config.block = 2  # layers that a growth step adds, and of the first stage
    config.alpha = 1.0  # of PROP-alpha: how long a stage is
    config.growing_share = 0.85  # share of the steps until the model has its depth
    config.moments = "copy"  # "zero" or "rescale": of layers that are copies

    config.data = ConfigDict()
    config.data.tokenizer = "offline:4096"
    config.data.mixture = "offline"  # or "0.7 library_code, 0.3 my/*.txt"; see --list
    config.data.cooldown_mixture = ""  # from the start of the cooldown on; empty: the same
    config.data.held_out_rows = 32  # of each source, to evaluate on
    config.data.questions = 40  # of each reasoning primitive, at the end

    config.steps = 300  # of the baseline
    config.rows = 16  # sequences of a batch
    config.learning_rate = 3e-3
    config.warmup = 0.05  # share of the steps
    config.cooldown = 0.15
    config.weight_decay = 0.1
    config.beta2 = 0.95
    config.eval_every = 50

    config.train = ConfigDict()  # how to run; decides no result beyond rounding
    config.train.dtype = "float32"  # or "bfloat16"
    config.train.remat = "none"  # "dots" or "full": less memory, more time
    config.train.accumulate = 1
    config.train.chunk = 10  # steps of one call
    config.train.checkpoint_every = 100
    config.train.keep = 1
    config.train.shards = 1  # parts that the parameters are cut into, over the devices
    config.train.peak_flops = 0.0  # of one device, FLOP/s, for MFU; 0: as published, if it is
    config.distributed = config_fields.distributed()
    config.tensorboard = False  # beside metrics.jsonl; needs the [tensorboard] extra
    config.progress = False  # report progress even where stderr is no terminal

    if variant == "small":
        config.arms = (
            *(*ARMS, "ln_scaling", "ln_scaling_midas", "ln_scaling_lidas"),
            *("midas_equal_flops", "lidas_equal_flops"),
        )
        config.model.num_layers, config.model.hidden_size = 12, 192
        config.model.num_heads, config.model.num_kv_heads = 6, 2
        config.model.ffn_width, config.model.context_length = 512, 128
        config.steps, config.eval_every = 1000, 100
    return config

"""A model that grows in depth while it trains, against one of constant depth.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/depth

All arms of the paper, those of equal FLOPs and two controls, with 2.9 million parameters on
text that needs no download: each arm at three learning rates on a seed of its own, then three
seeds at the best. Three hours and 4.8 GB on two cores; --config.learning_rates=3e-3 tunes
nothing and takes half of that. This is `growth_small`. The other configs of the experiment start
from it:

    configs/growth_tiny.py    four arms of 2 million parameters
    configs/growth_gpu.py     one GPU, 40 minutes
    configs/smollm_360m.py    the paper's models on a pod; --dry_run needs none
    configs/smollm_1p7b.py
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full experiment, as far as a laptop goes."""
    del variant
    config = ConfigDict()
    config.arms = (
        "baseline",
        "midas",
        "lidas",
        "ln_scaling",
        "ln_scaling_midas",
        "ln_scaling_lidas",
        "midas_equal_flops",
        "lidas_equal_flops",
        "shallow",
        "mean_depth",
    )
    config.seeds = (0, 1, 2)  # of initial weights and of the order of the data

    config.model = ConfigDict()
    config.model.num_layers = 12
    config.model.hidden_size = 128
    config.model.num_heads = 4
    config.model.num_kv_heads = 2
    config.model.ffn_width = 384
    config.model.context_length = 128
    config.model.vocab_size = 4096  # that of the tokenizer
    config.model.rope_theta = 10_000.0
    config.model.norm_epsilon = 1e-5
    config.model.tie_embeddings = True

    config.block = 2  # layers that a growth step adds, and of the first stage
    config.alpha = 1.0  # of PROP-alpha: how long a stage is
    config.growth_fraction = 0.85  # share of the steps until the model has its depth
    config.moments = "copy"  # "zero" or "rescale": of layers that are copies

    config.data = ConfigDict()
    config.data.tokenizer = "offline:4096"
    config.data.mixture = "offline"  # or "0.7 library_code, 0.3 my/*.txt"; see --list
    config.data.cooldown_mixture = ""  # from the start of the cooldown on; empty: the same
    config.data.held_out_sequences = 32  # of each source, to evaluate on
    config.data.questions = 40  # of each reasoning primitive, at the end
    config.data.num_fewshot = 0  # examples before each question; five in the paper

    config.steps = 500  # of the baseline
    config.batch_size = 16  # sequences of a batch
    # Tried for each arm; as many as seeds, so that one compiled program trains both. One rate
    # alone is taken as it is.
    config.learning_rates = (1.5e-3, 3e-3, 6e-3)
    config.tuning_seeds = (100,)  # which none of the results is from
    config.warmup = 0.05  # share of the steps
    config.cooldown = 0.15
    config.weight_decay = 0.01  # DG Table 2
    config.beta2 = 0.95
    config.eval_every = 100

    config.train = _how_to_run()
    config.distributed = config_fields.distributed()
    config.save_models = True  # each trained model as a Hugging Face folder, below models/
    config.tensorboard = False  # beside metrics.jsonl; needs the [tensorboard] extra
    return config


def _how_to_run() -> ConfigDict:
    """Decides no result beyond rounding."""
    train = ConfigDict()
    train.dtype = "float32"  # or "bfloat16"
    train.remat = "none"  # "dots" or "full": less memory, more time; needs scan_layers
    train.scan_layers = False  # True on a GPU: faster to compile; False: faster on a CPU
    train.vmap_seeds = True  # train seeds together; False: one after the other, less memory
    train.grad_accum_steps = 1  # parts of a batch, one after the other
    train.steps_per_call = 10  # of one compiled call
    train.checkpoint_every = 100
    train.max_to_keep = 2  # checkpoints
    train.devices = None  # None: all that there are; a number also for --dry_run
    train.fsdp_shards = 1  # parts of the parameters (FSDP); divides the devices
    train.peak_flops = 0.0  # of one device, FLOP/s, for MFU; 0: as published, if it is
    return train

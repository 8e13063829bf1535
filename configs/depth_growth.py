"""A model that grows in depth while it trains, against one of constant depth.

    python -m experiments.depth_growth --config=configs/depth_growth.py --workdir=runs/depth

All arms of the paper, those of equal FLOPs and three controls, with 2.9 million parameters on
text that needs no download: each arm at four learning rates on a tuning seed, then three
seeds at the best. 1,300 TFLOP, three to four hours on two cores; --config.learning_rates=1.5e-3
tunes nothing and takes less than half of that. `growth_small` is this config under another name;
the other configs of the experiment start from it:

    configs/growth_tiny.py    four arms of 2 million parameters
    configs/growth_gpu.py     one GPU, an estimated half an hour
    configs/smollm_360m.py    the paper's models on a pod; --dry_run needs none
    configs/smollm_1p7b.py
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full experiment, at a size that a laptop can train."""
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
        "shallow_equal_flops",
        "mean_depth",
    )
    config.seeds = (0, 1, 2)  # of initial weights and of the order of the data

    config.model = _model()
    config.block = 2  # layers that a growth step adds, and of the first stage
    config.alpha = 1.0  # of PROP-alpha: how long a stage is
    config.growth_fraction = 0.85  # share of the steps until the model has its full depth
    config.moments = "copy"  # "zero", "rescale" or "restart"; see --list
    # For arms _equal_seconds: time of a step outside its layers, in layers; here the head's FLOPs.
    config.step_overhead = 2.5

    config.data = _data()
    # Held-out rows, in the mixture's shares, on which trained models are edited and their depth is
    # read; 0: neither.
    config.depth_sequences = 16

    config.steps = 500  # of the baseline
    config.batch_size = 16  # sequences of a batch
    # Tried for each arm; deep arms take 1.5e-3, others 3e-3. A single rate is used without tuning.
    config.learning_rates = (7.5e-4, 1.5e-3, 3e-3, 6e-3)
    config.tuning_seeds = (100,)  # none of the results is from these
    config.warmup = 0.05  # share of the steps
    config.cooldown = 0.15
    # The decay of DG Table 2 and the clipping of its appendix A, which say neither what decays
    # (here all, as plain AdamW has it) nor beta2 (here as is usual for language models).
    config.optimiser = config_fields.optimiser(weight_decay=0.01, clip_norm=1.0, beta2=0.95)
    del config.optimiser.learning_rate  # the plateau of the schedule, above
    config.eval_every = 100

    # Without a scan steps are faster on a CPU; with one compilation is, and remat saves memory.
    config.train = config_fields.training(
        scan_layers=False, steps_per_call=10, checkpoint_every=100
    )
    config.alarms = config_fields.alarms()
    config.roles_every = 0  # steps between looks at the roles of layers, a multiple of eval_every
    config.distributed = config_fields.distributed()
    config.save_models = True  # each trained model as a Hugging Face folder, below models/
    config.tensorboard = False  # beside metrics.jsonl; needs the [tensorboard] extra
    return config


def _data() -> ConfigDict:
    """What is read, and what is asked."""
    data = ConfigDict()
    data.tokenizer = "offline:4096"
    data.mixture = "offline"  # or "0.8 offline, 0.2 hops", "0.7 offline, 0.3 my/*.txt"
    data.cooldown_mixture = ""  # from the start of the cooldown on; empty: the same
    data.held_out_sequences = 32  # of each source, to evaluate on
    data.tasks = ("primitives",)  # asked at the end: generated sources, such as "hops"
    data.questions = 40  # of each of their tasks
    data.num_fewshot = 0  # examples before each question; five in the paper
    return data


def _model() -> ConfigDict:
    """The architecture at its full depth."""
    model = ConfigDict()
    model.num_layers = 12
    model.hidden_size = 128
    model.num_heads = 4
    model.num_kv_heads = 2
    model.ffn_width = 384
    model.context_length = 128
    model.vocab_size = 4096  # that of the tokenizer
    model.rope_theta = 10_000.0
    model.norm_epsilon = 1e-5
    model.tie_embeddings = True
    return model

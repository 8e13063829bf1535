"""SmolLM-360M as the depth growth paper trains it (DG appendix A, Tables 1, 2 and 8).

    python -m experiments.depth_growth --config=configs/smollm_360m.py --dry_run
    python -m experiments.depth_growth --config=configs/smollm_360m.py --workdir=DIR

The dry run needs neither devices nor network: it gives the FLOPs of every arm, the memory of a
device, and whether the programs can be lowered for TPU and CUDA. The run itself is for a pod, one
process on each host, all with the same DIR; they find each other on Cloud TPU and under Slurm,
elsewhere with --config.distributed.coordinator_address=HOST:PORT
--config.distributed.num_processes=8 --config.distributed.process_id=0 .. 7. As in the paper, 64
devices of 40 GB (--config.train.devices for another number). Not run yet.

    python -m experiments.depth_growth --config=configs/smollm_360m.py:math_cooldown --workdir=DIR

switches to OpenWebMath at the start of the cooldown.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("", "math_cooldown")


def get_config(variant: str = "") -> ConfigDict:
    """The paper's run; "math_cooldown" is the other half of its Table 1."""
    config = config_files.shipped("depth_growth")
    config.arms = (
        "baseline",
        "ln_scaling",
        "midas",
        "lidas",
        "ln_scaling_midas",
        "ln_scaling_lidas",
    )
    config.seeds = (0,)

    config.model.num_layers = 32
    config.model.hidden_size = 960
    config.model.num_heads = 15
    config.model.num_kv_heads = 5
    config.model.ffn_width = 2560
    config.model.context_length = 2048
    config.model.vocab_size = 49_152
    config.model.rope_theta = 10_000.0
    config.model.tie_embeddings = True
    config.block = 4

    config.data.tokenizer = "hf:HuggingFaceTB/cosmo2-tokenizer"
    config.data.mixture = "smollm_corpus"  # 70 % web, 15 % textbooks, 9 % code, 6 % mathematics
    config.data.cooldown_mixture = "open_web_math" if variant == "math_cooldown" else ""
    config.data.held_out_sequences = 512
    config.data.questions = 500
    config.data.num_fewshot = 5

    config.steps = 200_000
    config.batch_size = 512  # of 2,048 tokens: "1M"
    config.learning_rates = (3e-3,)  # DG Table 2; too expensive to tune
    config.warmup = 0.01  # 2,000 steps
    config.cooldown = 0.15  # 30,000 steps
    config.growth_fraction = 0.85  # 170,000 steps
    config.optimiser.weight_decay = 0.01
    config.optimiser.beta2 = 0.95  # the paper does not say; as SmolLM was trained
    config.eval_every = 2000

    config.train.dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.remat = "full"
    config.train.grad_accum_steps = 8  # one row of each device at a time
    config.train.steps_per_call = 20
    config.train.checkpoint_every = 1000
    config.train.max_to_keep = 3
    config.train.devices = 64
    config.distributed.coordinator_address = "auto"
    return config

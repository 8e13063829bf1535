"""Depth growth on one GPU, on text mixed with questions that need depth: six legs, an arm each.

    python tools/bench_accelerator.py --minutes 9 --out runs/accelerator

does a leg or so in each call, goes on where the last one was ended, and says how many are left.
The same by hand, status 124 where there is more to do and 0 when the report is written:

    timeout 540 python -m experiments.depth_growth --config=configs/growth_gpu.py --workdir=runs/gpu

An estimate, never measured
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """Of `configs/depth_growth.py` a larger model and more tokens, in bfloat16."""
    config = config_files.shipped("depth_growth", variant)
    config.arms = (
        "baseline",
        "midas",
        "lidas",
        "midas_equal_flops",
        "lidas_equal_flops",
        "shallow",
    )
    config.model.num_layers = 12
    config.model.hidden_size = 384
    config.model.num_heads = 6
    config.model.num_kv_heads = 2
    config.model.ffn_width = 1024
    config.model.context_length = 256
    config.block = 3
    config.data.mixture = "0.6 offline, 0.4 chains"
    config.data.tasks = ("primitives", "chains")
    config.data.held_out_sequences = 64
    config.data.questions = 200
    config.steps = 2500
    config.batch_size = 64
    config.learning_rates = (5e-4, 1e-3, 2e-3)
    config.eval_every = 500
    config.train.dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.steps_per_call = 50
    config.train.checkpoint_every = 500
    return config

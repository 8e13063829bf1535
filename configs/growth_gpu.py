"""Depth growth on one GPU, on text mixed with questions that need depth: six arms, a leg each.

    python tools/bench_accelerator.py --minutes 9 --out runs/accelerator

trains about one leg in each call, continues where the last call ended, and says how many are left.
The same by hand, with status 124 while there is more to do and 0 when the report is written:

    timeout 540 python -m experiments.depth_growth --config=configs/growth_gpu.py --workdir=runs/gpu

Between legs only config.json and the .jsonl files are needed; within one, checkpoints/ as well.

An estimate, not yet measured: 20 million parameters; 16,384 tokens a step, 2.2 TFLOP for one
seed; 1,000 steps, 16 million tokens, two in five of them k-hop induction and chains of variables
as text, one in four reasoning primitives. An arm is three rates tuned on one seed, then three
seeds: 13.5 PFLOP, two and a half minutes at 90 TFLOP/s, a tenth of an H100's peak in bfloat16.
It reads 66 million tokens, those of equal FLOPs 82. One process makes 400,000 a second (measured
on a CPU): four processes for each seed keep up. With a minute and a half to compile, evaluate and
start a leg takes about four. 29 GB of memory on paper; --config.train.remat=dots needs less.
The question is whether any task rises above guessing, which at one hop is right two times in three,
not one in four.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """As `configs/depth_growth.py`, with a larger model and more tokens, in bfloat16."""
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
    config.data.mixture = "0.6 offline, 0.2 hops, 0.2 chains"
    config.data.tasks = ("primitives", "hops", "chains")
    config.data.held_out_sequences = 64
    config.data.questions = 100
    config.steps = 1000
    config.batch_size = 64
    config.learning_rates = (1e-3, 2e-3, 4e-3)
    config.eval_every = 250
    config.depth_sequences = 0  # the trained models are saved: depth_use reads them afterwards
    config.train.dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.steps_per_call = 50
    config.train.checkpoint_every = 500
    config.train.data_workers = 4
    return config

"""Depth growth on one GPU in 40 minutes, in legs of at most nine: start it again until it is done.

    timeout 540 python -m experiments.depth_growth --config=configs/growth_gpu.py --workdir=runs/gpu

A leg ends where `timeout` ends it and the next one goes on from the last checkpoint; five
legs are meant to do. Status 124 says that there is more to do, 0 that the report is written.

An estimate, never measured: 20 million parameters; 16,384 tokens a step, 2.2 TFLOP for one
seed; 4,000 steps, 66 million tokens, 26 million of them reasoning primitives. One seed of the
baseline is 9.0 PFLOP, of MIDAS and LIDAS 7.2 each, of the shallow model 2.7; with three seeds of
each, and three rates tuned on one more, 156 in all. At 90 TFLOP/s, a tenth of an H100's peak
in bfloat16, that is 29 minutes, and some five more to compile, evaluate and start again.
--config.learning_rates=1e-3 tunes nothing and takes half the time. 30 GB of memory on paper;
--config.train.remat=dots where there is less. Copying should be learnt early in 26 million
tokens of primitives; whether every primitive leaves its level of chance is what the run is to
say.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """Of `configs/depth_growth.py` a larger model and more tokens, in bfloat16."""
    config = config_files.shipped("depth_growth", variant)
    config.arms = ("baseline", "midas", "lidas", "shallow")
    config.model.num_layers = 12
    config.model.hidden_size = 384
    config.model.num_heads = 6
    config.model.num_kv_heads = 2
    config.model.ffn_width = 1024
    config.model.context_length = 256
    config.block = 3
    config.data.held_out_sequences = 64
    config.data.questions = 100
    config.steps = 4000
    config.batch_size = 64
    config.learning_rates = (5e-4, 1e-3, 2e-3)
    config.eval_every = 500
    config.train.dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.steps_per_call = 50
    config.train.checkpoint_every = 500
    return config

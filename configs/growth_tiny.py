"""Depth growth on a CPU in half an hour: 2 million parameters, four arms, three seeds.

    python -m experiments.depth_growth --config=configs/growth_tiny.py --workdir=runs/growth_tiny

Baseline, MIDAS, LIDAS and two layers throughout, each at four learning rates on a tuning seed,
then three seeds at the best. It shows that everything works; 600,000 tokens say little about
growth.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """As `configs/depth_growth.py`, with fewer layers, arms and steps."""
    config = config_files.shipped("depth_growth", variant)
    config.arms = ("baseline", "midas", "lidas", "shallow")
    config.model.num_layers = 8
    config.steps = 300
    config.eval_every = 50
    return config

"""Depth growth in minutes on a CPU: 2 million parameters, baseline, MIDAS and LIDAS, three seeds.

    python -m experiments.depth_growth --config=configs/growth_tiny.py --workdir=runs/growth_tiny

13 minutes on two cores; held-out loss 2.94 (baseline) and 2.86 (MIDAS and LIDAS). It shows that
everything works, not that growth wins: 600,000 tokens teach little.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """Of `configs/depth_growth.py` fewer layers, arms and steps."""
    config = config_files.shipped("depth_growth", variant)
    config.arms = ("baseline", "midas", "lidas", "shallow")
    config.model.num_layers = 8
    config.steps = 300
    config.eval_every = 50
    return config

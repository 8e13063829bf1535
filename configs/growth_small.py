"""All arms of depth growth and those of equal FLOPs, three seeds: the default by its name.

    python -m experiments.depth_growth --config=configs/growth_small.py --workdir=runs/growth_small

Each arm takes the best of four learning rates, tried on a seed of its own. The run ends by
printing what has grown less the arm that stays shallow, and the loss of each rate, marked where
the best is at the edge of those that were tried. 1,300 TFLOP of matrix products, three to four
hours on two cores. It may be killed and started again.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """What configs/depth_growth.py says."""
    return config_files.shipped("depth_growth", variant)

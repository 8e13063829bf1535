"""The default of depth growth under a name of its own: all arms and equal FLOPs, three seeds.

    python -m experiments.depth_growth --config=configs/growth_small.py --workdir=runs/growth_small

Each arm takes the best of four learning rates, tried on a tuning seed. At the end the run prints
the grown arms against the shallow one, and the loss at each rate, marked where the best is at the
edge of those tried. 1,300 TFLOP of matrix products, three to four hours on two cores. It may be
killed and started again.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The same as configs/depth_growth.py."""
    return config_files.shipped("depth_growth", variant)

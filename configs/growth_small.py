"""All arms of depth growth and those of equal FLOPs, three seeds: the default by its name.

python -m experiments.depth_growth --config=configs/growth_small.py --workdir=runs/growth_small
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """What configs/depth_growth.py says."""
    return config_files.shipped("depth_growth", variant)

"""Which claims of the papers hold on SmolLM2-135M, from the runs of the other experiments.

    python -m experiments.claims --config=configs/claims.py --workdir=runs/claims

A few seconds. With the importance run alone:

    python -m experiments.claims --workdir=runs/claims --config.runs=runs/atlas
"""

from ml_collections import ConfigDict

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The runs of all experiments that claims are about, of one model."""
    del variant
    config = ConfigDict()
    config.runs = ("runs/atlas", "runs/structure", "runs/predict", "runs/manipulation")
    return config

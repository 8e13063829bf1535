"""Which claims of the papers hold on SmolLM2-135M, from the runs of the other experiments.

    python -m experiments.claims --config=configs/claims.py --workdir=runs/claims

A few seconds. With the importance run alone:

    python -m experiments.claims --workdir=runs/claims --config.runs=runs/atlas

With a second text of the same model, read together, or runs of a second model, audited separately:

    python -m experiments.claims --workdir=runs/claims --config.runs=runs/atlas,runs/other

With depth use, the experiments that train, and what growth costs:

    python -m experiments.claims --config=configs/claims.py:all --workdir=runs/claims
"""

from ml_collections import ConfigDict

VARIANTS = ("", "all")


def get_config(variant: str = "") -> ConfigDict:
    """The runs that `make anatomy` makes; "all" is every run that claims are about."""
    config = ConfigDict()
    config.runs = (
        "runs/atlas",
        "runs/structure",
        "runs/predict",
        "runs/manipulation",
        "runs/roles",
    )
    if variant == "all":
        config.runs += ("runs/depth_use", "runs/recovery", "runs/developmental", "runs/depth")
        config.runs += ("runs/khop", "runs/role_moves", "runs/alarms", "runs/flops", "runs/grown")
    return config

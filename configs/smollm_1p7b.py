"""SmolLM-1.7B as the depth growth paper trains it (DG appendix A, Tables 1, 2 and 8).

    python -m experiments.depth_growth --config=configs/smollm_1p7b.py --dry_run
    python -m experiments.depth_growth --config=configs/smollm_1p7b.py --workdir=DIR

On 128 devices of 40 GB, as in the paper, the parameters cut into eight parts, shared by the
devices of a host. All else as in configs/smollm_360m.py, including `:math_cooldown`. Not run yet.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_files

VARIANTS = ("", "math_cooldown")


def get_config(variant: str = "") -> ConfigDict:
    """As `configs/smollm_360m.py`, with another architecture, batch and learning rate."""
    config = config_files.shipped("smollm_360m", variant)
    config.arms = ("baseline", "ln_scaling", "midas", "lidas", "ln_scaling_lidas")
    config.model.num_layers = 24
    config.model.hidden_size = 2048
    config.model.num_heads = 32
    config.model.num_kv_heads = 32
    config.model.ffn_width = 8192
    config.batch_size = 1024  # of 2,048 tokens: "2M"
    config.learning_rates = (5e-4,)
    config.data.held_out_sequences = 1024
    config.train.devices = 128
    config.train.fsdp_shards = 8
    return config

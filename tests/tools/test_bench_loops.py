"""The loops that the benchmark compares with compute what they claim to."""

import copy
import importlib
import math
import pathlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = pytest.mark.parity

TOOLS = pathlib.Path(__file__).parents[2] / "tools"
LENGTHS = (3, 9, 2, 6)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


@pytest.fixture
def folder(tool, tmp_path):
    """A tiny model and four sentences, as the benchmark lays them out."""
    make_golden, random = tool("make_golden"), np.random.default_rng(7)
    make_golden.tiny_llama("gqa_untied", seed=7).save_pretrained(tmp_path / "model")
    sentences = [random.integers(0, make_golden.VOCABULARY, n).tolist() for n in LENGTHS]
    tool("bench.tokens").write(tmp_path, sentences)
    return tmp_path


def naive_map(tool, folder):
    """Each sentence alone through a copy of the model whose layer 1 is replaced."""
    model = tool("make_golden").tiny_llama("gqa_untied", seed=7)
    edited = copy.deepcopy(model)
    below, _, above = (dict(layer.named_parameters()) for layer in model.model.layers)
    with torch.no_grad():
        for name, weight in edited.model.layers[1].named_parameters():
            if "norm" not in name:
                weight.copy_((below[name] + above[name]) / 2)
    return [naive_perplexity(one, tool("bench.tokens").read(folder)) for one in (model, edited)]


def naive_perplexity(model, sentences):
    nll = 0.0
    for sentence in sentences:
        with torch.no_grad():
            logits = model(torch.tensor([sentence])).logits[0].double()
        for position, target in enumerate(sentence[1:]):
            nll -= logits[position].log_softmax(-1)[target].item()
    return math.exp(nll / sum(len(sentence) - 1 for sentence in sentences))


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("loop", ["open_loop", "open_cached_loop"])
def test_transformers_loops(tool, folder, loop, layout):
    importance_map = getattr(tool("bench.torch_loops"), loop)(folder, layout)["map"]
    first, second = importance_map(), importance_map()
    np.testing.assert_allclose(first, naive_map(tool, folder), rtol=1e-5)
    assert first == second, "the edit was not undone"


@pytest.mark.filterwarnings("ignore")  # of TransformerLens and what it imports
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_transformer_lens_loop(tool, folder, layout):
    pytest.importorskip("transformer_lens", reason="needs the [bench] extra")
    importance_map = tool("bench.lens_loop").open_loop(folder, layout)["map"]
    first, second = importance_map(), importance_map()
    np.testing.assert_allclose(first, naive_map(tool, folder), rtol=1e-5)
    assert first == second, "the edit was not undone"

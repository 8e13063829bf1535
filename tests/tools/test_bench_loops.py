"""The loops that the benchmark compares with compute what they claim to."""

import copy
import importlib
import math
import pathlib

import numpy as np
import pytest

from jaxanatomy.config import ModelConfig

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
    make_golden.tiny_model("gqa_untied", seed=7).save_pretrained(tmp_path / "model")
    sentences = [random.integers(0, make_golden.VOCABULARY, n).tolist() for n in LENGTHS]
    tool("bench.tokens").write(tmp_path, sentences)
    return tmp_path


def naive_map(tool, folder):
    """Each sentence alone through a copy of the model whose layer 1 is replaced."""
    model = tool("make_golden").tiny_model("gqa_untied", seed=7)
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


@pytest.fixture
def training(tool, tmp_path, monkeypatch):
    """A folder with a tiny model, two batches of random tokens, and the task."""
    tiny = ModelConfig.uniform(2, 4, 2, 24, vocab_size=61, hidden_size=16, head_dim=4)
    monkeypatch.setattr(tool("bench.jax_training"), "smollm2_135m", lambda layers: tiny)
    monkeypatch.setattr(tool("bench.torch_training"), "CHUNK", 5)  # a remainder of 3
    task = {"batch_size": 3, "seq_len": 7, "batches": 2, "learning_rate": 0.01, "remat": "none"}
    tool("bench.jax_training").export(tmp_path, 2, task)
    return tmp_path


def naive_losses(tool, folder, steps):
    """AdamW and clipping written out, on the gradient of whole scores."""
    model = tool("bench.torch_loops").load_model(folder).train().requires_grad_(True)
    own = list(model.parameters())
    first, second = ([torch.zeros_like(leaf) for leaf in own] for _ in range(2))
    batches, losses = torch.from_numpy(np.load(folder / "batches.npy")), []
    for number in range(steps):
        token_BT = batches[number % 2]
        logits_PV = model(token_BT).logits[:, :-1].reshape(-1, 61)
        loss = torch.nn.functional.cross_entropy(logits_PV, token_BT[:, 1:].reshape(-1))
        gradient = torch.autograd.grad(loss, own)
        norm = torch.sqrt(sum((leaf**2).sum() for leaf in gradient))
        with torch.no_grad():
            for leaf, g, m, v in zip(own, gradient, first, second, strict=True):
                g = g * min(1, 1 / norm)
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
                mean, square = m / (1 - 0.9 ** (number + 1)), v / (1 - 0.999 ** (number + 1))
                leaf.sub_(0.01 * (mean / (square.sqrt() + 1e-8) + 0.01 * leaf))
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("module", "opener"),
    [
        ("jax_training", "open_trainer"),
        ("torch_training", "open_plain"),
        ("torch_training", "open_careful"),
    ],
)
def test_training_steps(tool, training, module, opener):
    step = getattr(tool(f"bench.{module}"), opener)(training)["step"]
    found = [step(number) for number in range(5)]
    expected = naive_losses(tool, training, 5)
    assert expected[0] > expected[2] + 1e-2, "nothing is learnt"
    np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-5)

"""Sets of layers changed in live transformers, by hand, against the sweep; the real model.

Needs the `[parity]` extra (torch). Edits are written again here, in torch, from
the text of AH section 3.5.
"""

import numpy as np
import pytest
from parity_marks import PARITY

from jaxanatomy import weights
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY, pytest.mark.real]

RELATIVE = 1e-3
PAPER = (0, 3, 5, 6, 12, 14, 17, 19, 29)
INNER = PAPER[1:-1]
MATRICES = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)


def source(layer, layers):
    """The nearest layer that is not changed; of two the lower."""
    others = [other for other in range(30) if other not in layers]
    return min(others, key=lambda other: (abs(other - layer), other))


def clone(old, layer, layers):
    return old[source(layer, layers)]


def blend_4(old, layer, layers):
    near = sorted(set(range(30)) - set(layers), key=lambda other: (abs(other - layer), other))[:4]
    share = np.array([1 / abs(other - layer) for other in near])
    return sum(float(w) * old[other] for w, other in zip(share / share.sum(), near, strict=True))


def low_rank(old, layer, layers):
    own = torch.linalg.svdvals(old[layer])
    u, _, v = torch.linalg.svd(old[source(layer, layers)], full_matrices=False)
    return u @ torch.diag(own) @ v


def own_svd_half(old, layer, layers):
    u, s, v = torch.linalg.svd(old[layer], full_matrices=False)
    kept = len(s) // 2
    return u[:, :kept] @ torch.diag(s[:kept]) @ v[:kept]


def predicted(old, layer, layers):
    """Ridge regression with penalty 1 and an intercept on four functions of the index."""

    def features(index):
        angle = index * np.pi / 30
        return np.array([index, index**2, np.sin(angle), np.cos(angle)])

    x = np.stack([features(index) for index in range(layer)])
    centre = x.mean(axis=0)
    gram = (x - centre).T @ (x - centre) + np.eye(4)
    share = 1 / layer + (features(layer) - centre) @ np.linalg.solve(gram, (x - centre).T)
    return sum(float(w) * old[index] for w, index in zip(share, range(layer), strict=True))


CASES = {
    "scale_0.9/set/paper": (PAPER, lambda old, layer, layers: 0.9 * old[layer]),
    "zero/set/paper_inner": (INNER, lambda old, layer, layers: 0 * old[layer]),
    "clone/set/paper_inner": (INNER, clone),
    "blend_4/set/paper_inner": (INNER, blend_4),
    "low_rank_full/set/paper_inner": (INNER, low_rank),
    "own_svd_half/set/paper_inner": (INNER, own_svd_half),
    "predicted/set/14,17": ((14, 17), predicted),
    "zero/set/0,29": ((0, 29), lambda old, layer, layers: 0 * old[layer]),
}


@pytest.fixture(scope="module")
def checkpoint():
    return weights.load(weights.DEFAULT_MODEL)


@pytest.fixture(scope="module")
def llama(checkpoint, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("smollm2") / "model"
    weights.export_hf(checkpoint, folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def swept(checkpoint):
    """Perplexities of all cases in one sweep."""
    config = checkpoint.config
    variants = parse_variants(config, CASES)
    sweep = Sweep(config, variants, tokenise(checkpoint, load_text("sentences")), {"nll": nll})
    sweep.place(checkpoint.params)
    readings = sweep.run(0)
    return {name: np.exp(np.mean(readings["nll"][name], dtype=np.float64)) for name in CASES}


def their_perplexity(llama, tokenizer):
    losses = []
    for document in load_text("sentences").documents:
        ids = torch.tensor([tokenizer.encode(document)])
        with torch.no_grad():
            scores = llama(ids).logits[0, :-1].double().log_softmax(-1)
        losses.append(-scores.gather(1, ids[0, 1:, None])[:, 0].numpy())
    return np.exp(np.concatenate(losses).mean())


@pytest.mark.parametrize("name", CASES)
def test_perplexity_of_a_changed_set(name, llama, swept, checkpoint):
    layers, change = CASES[name]
    modules = [
        [layer.get_submodule(matrix).weight for layer in llama.model.layers] for matrix in MATRICES
    ]
    old = [[weight.detach().clone() for weight in own] for own in modules]
    try:
        with torch.no_grad():
            for own, before in zip(modules, old, strict=True):
                for layer in layers:
                    own[layer].copy_(change(before, layer, layers))
        expected = their_perplexity(llama, checkpoint.tokenizer)
    finally:
        with torch.no_grad():
            for own, before in zip(modules, old, strict=True):
                for layer in layers:
                    own[layer].copy_(before[layer])
    assert swept[name] == pytest.approx(expected, rel=RELATIVE)

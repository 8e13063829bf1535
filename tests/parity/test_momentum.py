"""Momentum of a text against torch: autograd through live transformers, `torch.optim.Adam`.

Needs the `[parity]` extra (torch). Their model reads one document at a time, ours packed rows;
their weights stay, as the learning rate is 0.
"""

import numpy as np
import pytest
from naive import CONFIG, random_params
from parity_marks import PARITY

from jaxanatomy import tree, weights
from jaxanatomy.data.packing import pack_windows
from jaxanatomy.data.windows import Window
from jaxanatomy.forensics.momentum import momentum_features
from jaxanatomy.train.text_moments import text_moments
from jaxanatomy.weights import Checkpoint

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY]

LENGTHS, ROW, TOLERANCE = (9, 5, 7, 4, 8, 6), 12, 1e-5
DOCUMENTS = [
    np.random.default_rng(at).integers(1, CONFIG.vocab_size, length)
    for at, length in enumerate(LENGTHS)
]
# Four rows, two in each batch.
WINDOWS = [Window(at, own, 1, True) for at, own in enumerate(DOCUMENTS)]
BATCHES = pack_windows(WINDOWS, row_length=ROW, tokens_per_batch=2 * ROW)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def llama(params, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("momentum") / "model"
    weights.export_hf(Checkpoint(CONFIG, params, None, "tests", "0" * 64), folder)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    )


def moments(llama, updates):
    """(first, second) moments of Adam by parameter, after gradients of the batches in turn."""
    adam = torch.optim.Adam(llama.parameters(), lr=0.0, betas=(0.9, 0.999))
    before = [each.detach().clone() for each in llama.parameters()]
    for update in range(updates):
        batch = BATCHES[update % len(BATCHES)]
        own = [DOCUMENTS[at] for at in np.unique(batch.document_P[batch.document_P >= 0])]
        adam.zero_grad()
        total = 0.0
        for document in own:
            ids = torch.from_numpy(document)
            scores = llama(ids[None, :-1], use_cache=False).logits[0]
            total += torch.nn.functional.cross_entropy(scores, ids[1:], reduction="sum")
        (total / sum(len(each) - 1 for each in own)).backward()
        adam.step()
    assert all(map(torch.equal, before, llama.parameters()))
    return adam.state


def their_features(llama, updates):
    """By layer and matrix: the weight, both moments."""
    state, found = moments(llama, updates), {}
    for layer, block in enumerate(llama.model.layers):
        for name in tree.MATRICES:
            module = block.self_attn if name in tree.ATTENTION else block.mlp
            weight = getattr(module, name).weight
            arrays = weight, state[weight]["exp_avg"], state[weight]["exp_avg_sq"]
            found[layer, name] = [each.detach().numpy().ravel() for each in arrays]
    return found


@pytest.mark.parametrize("updates", [1, 3])
def test_momentum_is_that_of_torch(llama, params, updates):
    assert len(BATCHES) == 2
    theirs = their_features(llama, updates)
    own = momentum_features(params, *text_moments(CONFIG, params, BATCHES, updates))
    largest = 0.0
    for name in tree.MATRICES:
        _, m, v = (
            np.concatenate(each)
            for each in zip(*(theirs[at, name] for at in range(len(own))), strict=True)
        )
        limits = [0.01 * np.sqrt(np.mean(each)) for each in (m**2, v)]
        for layer, found in enumerate(own):
            weight, first, second = theirs[layer, name]
            cosine = -(weight @ first) / np.linalg.norm(weight) / np.linalg.norm(first)
            assert found[name, "momentum_cosine"] == pytest.approx(cosine, abs=TOLERANCE)
            largest = max(largest, abs(cosine))
            stuck = np.mean((abs(first) < limits[0]) & (np.sqrt(second) < limits[1]))
            # An entry or two may lie at the limit to rounding.
            assert found[name, "stuck_share"] == pytest.approx(stuck, abs=2 / len(first))
    assert largest > 1000 * TOLERANCE

"""Live transformers against this package: logits, generation, export.

Needs the `[parity]` extra (torch). `tests/golden` holds stored results of the same
comparison for machines without torch.
"""

import copy
import dataclasses
import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from parity_marks import PARITY

from jaxanatomy import model, tree, weights

torch = pytest.importorskip("torch", reason="needs the [parity] extra")
pytestmark = [*PARITY]

ROOT = pathlib.Path(__file__).parents[2]
SEED = 1000
TOLERANCE, REAL_TOLERANCE = 1e-5, 5e-4
FAR = 100 * TOLERANCE


def _tool(name):
    """A module of `tools/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_golden = _tool("make_golden")
TOKEN_BT = np.random.default_rng(SEED).integers(0, make_golden.VOCABULARY, (3, 40))


def their_logits(llama, token_BT):
    with torch.no_grad():
        return llama(torch.from_numpy(np.asarray(token_BT)), use_cache=False).logits.numpy()


def our_logits(config, params, token_BT):
    return np.asarray(model.forward(config, params, jnp.asarray(token_BT, jnp.int32)))


def load_with_transformers(folder):
    import transformers

    llama, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    # An untied model without its head only warns in transformers.
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return llama.eval()


@pytest.fixture(scope="module", params=make_golden.KINDS)
def pair(request, tmp_path_factory):
    """One tiny model, freshly drawn, as both libraries see it."""
    folder = tmp_path_factory.mktemp(request.param)
    llama = make_golden.tiny_model(request.param, SEED)
    llama.save_pretrained(folder)
    return llama, weights.load(f"file:{folder}")


def test_logits(pair):
    """Against transformers in float64, of the largest logit: what rounds is a share of a number.

    In float32 its own rounding, as large as ours, counts too (1.3e-5 and 9e-6 of logits up to 4.4
    on one processor), and on some processors the two add up to more than the tolerance.
    """
    llama, ours = pair
    exact = their_logits(copy.deepcopy(llama).double(), TOKEN_BT)
    difference = our_logits(ours.config, ours.params, TOKEN_BT) - exact
    assert np.abs(difference).max() < TOLERANCE * np.abs(exact).max()


def test_packed_documents_are_scored_as_if_alone(pair):
    llama, ours = pair
    lengths = (7, 13, 20)  # of 40
    documents = np.split(TOKEN_BT[:1], np.cumsum(lengths)[:-1], axis=1)
    alone = [their_logits(llama, document) for document in documents]
    packed = model.forward(
        ours.config,
        ours.params,
        jnp.asarray(TOKEN_BT[:1], jnp.int32),
        jnp.concatenate([jnp.arange(n) for n in lengths])[None],
        jnp.repeat(jnp.arange(3), jnp.asarray(lengths))[None],
    )
    assert np.abs(np.asarray(packed) - np.concatenate(alone, 1)).max() < TOLERANCE


def test_export_is_read_back_by_transformers(pair, tmp_path):
    llama, ours = pair
    weights.export_hf(ours, tmp_path / "exported")
    again = load_with_transformers(tmp_path / "exported")
    np.testing.assert_array_equal(their_logits(again, TOKEN_BT), their_logits(llama, TOKEN_BT))


def test_greedy_generation(pair):
    llama, ours = pair
    prompt = torch.from_numpy(TOKEN_BT[:, :9])
    theirs = llama.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False
    )
    written = model.generate(ours.config, ours.params, jnp.asarray(TOKEN_BT[:, :9], jnp.int32), 6)
    np.testing.assert_array_equal(written, theirs[:, 9:].numpy())


def test_a_slightly_wrong_rope_base_fails(pair):
    llama, ours = pair
    wrong = dataclasses.replace(ours.config, rope_theta=1.01 * ours.config.rope_theta)
    difference = our_logits(wrong, ours.params, TOKEN_BT) - their_logits(llama, TOKEN_BT)
    assert np.abs(difference).max() > FAR


@pytest.mark.parametrize("name", ["q_proj", "k_proj"])
def test_a_wrong_order_inside_heads_fails(pair, name):
    llama, ours = pair
    d = ours.config.head_dim

    def permute(block):
        kernel = tree.get(block, name)
        pairs = kernel.reshape(len(kernel), -1, 2, d // 2).swapaxes(2, 3)
        return tree.replace(block, {name: pairs.reshape(kernel.shape)})

    wrong = tree.with_layers(ours.params, map(permute, ours.params["layers"]))
    difference = our_logits(ours.config, wrong, TOKEN_BT) - their_logits(llama, TOKEN_BT)
    assert np.abs(difference).max() > FAR


@pytest.mark.real
def test_default_model_and_its_export(tmp_path):
    from jaxanatomy.data.text import load_text

    ours = weights.load(weights.DEFAULT_MODEL)
    weights.export_hf(ours, tmp_path / "exported")
    llama = load_with_transformers(tmp_path / "exported")
    sentences = [ours.tokenizer.encode(text) for text in load_text("sentences").documents]
    longest = max(map(len, sentences))
    # Padding at the end: no real token sees it.
    token_BT = np.stack([np.pad(ids, (0, longest - len(ids))) for ids in sentences])
    real_BT = np.arange(longest) < np.asarray([[len(ids)] for ids in sentences])
    difference = our_logits(ours.config, ours.params, token_BT) - their_logits(llama, token_BT)
    assert np.abs(difference[real_BT]).max() < REAL_TOLERANCE

"""Models of other families through the experiments: measured, healed, grown, written, studied."""

import json
import math
import shutil

import jax
import numpy as np
import pytest
import run_files

from jaxanatomy import model, tree, weights
from jaxanatomy.data.text import load_text

pytestmark = pytest.mark.slow
FAMILIES = ("llama_biases", "mistral", "qwen2", "qwen3")


def perplexity(checkpoint, path):
    """Of all tokens but each document's first, from whole logits in float64."""
    losses = []
    for document in load_text(path).documents:
        ids = np.asarray(checkpoint.tokenizer.encode(document))
        scores = model.forward(checkpoint.config, checkpoint.params, ids[None].astype(np.int32))
        scores = np.asarray(scores[0, :-1], np.float64)
        top = scores.max(axis=1, keepdims=True)
        total = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
        losses.append(total - scores[np.arange(len(ids) - 1), ids[1:]])
    return math.exp(np.concatenate(losses).mean())


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, copy_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    copy_model(folder / "model", request.param)
    return folder


@pytest.fixture
def run(family, tiny, command, tmp_path):
    """Runs an experiment on the model; gives its rows, and its workdir."""

    def start(experiment, *more, at=None):
        workdir = tmp_path / experiment
        chosen = f"--config.model=file:{at or family / 'model'}"
        done = command(experiment, chosen, f"--workdir={workdir}", *more)
        assert (done.status, done.err) == (0, "")
        rows = workdir / "rows.jsonl"
        return run_files.read_rows(workdir) if rows.exists() else [], workdir

    return start


def test_importance_and_what_is_written_of_it(run, family, tiny):
    texts = f"--config.texts={tiny.jsonl}"
    scopes = "--config.scopes=layer,attention,mlp,v_proj,down_proj"
    some = ("--config.interventions=zero,neighbour_mean,matched_noise", scopes)
    rows, _ = run("importance", texts, *some, "--config.layers=1")
    found = {row["variant"]: row["ppl"] for row in rows}
    before = perplexity(weights.load(f"file:{family / 'model'}"), tiny.jsonl)
    assert found["baseline"] == pytest.approx(before, rel=1e-5)
    changes = ["zero/v_proj/1", "neighbour_mean/layer/1"]
    for change in changes:
        _, workdir = run("export", f"--config.variants={change}", f"--config.text={tiny.jsonl}")
        written = weights.load(f"file:{workdir / 'model'}")
        assert perplexity(written, tiny.jsonl) == pytest.approx(found[change], rel=1e-5)
        assert abs(found[change] / before - 1) > 1e-3
        old, new = (
            json.loads((folder / "model" / "config.json").read_text())
            for folder in (family, workdir)
        )
        assert new == old
        shutil.rmtree(workdir)


def test_recovery(run, family, tiny):
    more = ["--config.steps=4", "--config.eval_every=2", "--config.checkpoint_every=2"]
    more += ["--config.optimiser.learning_rate=0.01", "--config.importance=False"]
    rows, _ = run(
        "recovery", f"--config.eval_text={tiny.txt}", "--config.train_text=evaluation", *more
    )
    before = perplexity(weights.load(f"file:{family / 'model'}"), tiny.txt)
    steps = [row for row in rows if "step" in row]
    controls = [row for row in steps if row["step"] == 0 and not row["noise"]]
    assert len(controls) == 3
    assert [row["ppl"] for row in controls] == pytest.approx([before] * 3, rel=1e-5)
    for layer in range(3):
        losses = {
            row["step"]: row["ppl"] for row in steps if row["layer"] == layer and row["noise"]
        }
        assert losses[4] < losses[0]


def test_growth_and_structure_of_what_was_grown(run, family, tiny):
    more = ["--config.operator=lidas", "--config.block=1", "--config.num_layers=5"]
    rows, workdir = run("grow_checkpoint", f"--config.texts={tiny.jsonl}", *more)
    losses = {row["variant"]: row["nll"] for row in rows}
    assert losses["grow/insert_zero"] == losses["baseline"]
    grown = weights.load(f"file:{workdir / 'model'}")
    original = weights.load(f"file:{family / 'model'}")
    sources = json.loads((workdir / "summary.json").read_text())["sources"]
    assert grown.config == original.config.with_layers(
        original.config.layers[source] for source in sources
    )
    for block, source in zip(grown.params["layers"], sources, strict=True):
        jax.tree.map(np.testing.assert_array_equal, block, original.params["layers"][source])
    rows, _ = run("structure", "--config.null_draws=20", at=workdir / "model")
    assert {row["component"] for row in rows} == {*tree.MATRICES, "ffn"}
    cosines = [row["value"] for row in rows if row["metric"] == "mean_cosine"]
    assert cosines
    assert np.isfinite(cosines).all()

"""The manipulation experiment on sets of one's own: without a map, on layers of several shapes."""

import re
import types

import numpy as np
import pytest
import run_files
from naive import naive_nll

from jaxanatomy import tree, weights
from jaxanatomy.config import LayerShape, ModelConfig
from jaxanatomy.data.text import load_text
from jaxanatomy.interventions.changes import parse_variants
from jaxanatomy.study import tokenise
from jaxanatomy.weights.random_init import random_params

# Layers 2 and 3 are wider, so that the inner layers have no common neighbours.
MIXED = ModelConfig(
    vocab_size=97,
    hidden_size=16,
    head_dim=8,
    layers=tuple(LayerShape(2, 1, width) for width in (24, 24, 32, 32, 24, 24)),
    context_length=128,
)
STRATEGIES = ("zero", "scale_0.5", "own_svd_half")
FAST = (
    "--config.perturbation.alphas=[]",
    "--config.attention.alphas=0.1",
    "--config.attention.seeds=0",
    "--config.calibration.documents=2",
)


@pytest.fixture(scope="module")
def mixed(tiny, tmp_path_factory):
    """A model of six layers of two widths, with the tiny model's tokenizer and texts."""
    tokenizer = weights.load(tiny.model).tokenizer
    params = random_params(MIXED, np.float32)
    blocks = [
        tree.replace(block, {name: 10 * tree.get(block, name) for name in tree.MATRICES})
        for block in params["layers"]
    ]
    made = weights.Checkpoint(MIXED, tree.with_layers(params, blocks), tokenizer, "mixed", "")
    folder = tmp_path_factory.mktemp("mixed") / "model"
    saved = weights.save_orbax(made, folder)
    return types.SimpleNamespace(model=f"orbax:{saved}", jsonl=tiny.jsonl, txt=tiny.txt)


def flags(model, workdir, *more):
    texts = f"--config.texts={model.jsonl},{model.txt}"
    start = ["manipulation", f"--config.model={model.model}", f"--workdir={workdir}"]
    return [*start, texts, *FAST, *more]


def refused(done, workdir):
    assert (done.status, done.out) == (2, ""), done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not (workdir / "rows.jsonl").exists()
    return done.err


def test_layers_of_several_shapes_and_the_way_out_that_is_offered(mixed, command, tmp_path):
    workdir = tmp_path / "run"
    error = refused(command(*flags(mixed, workdir)), workdir)
    assert "need layers of one shape; this model's layers differ" in error
    offer = [word for word in error.split() if word.startswith("--config.")]
    assert len(offer) == 2
    done = command(*flags(mixed, workdir, *offer, "--dry_run"))
    assert (done.status, done.err) == (0, "")
    assert "First the neighbour means" not in done.out
    # Two strategies on two sets and the baseline, on two texts.
    assert re.findall(r"(\d+) variants", done.out) == ["5", "5"]


def test_a_clone_across_widths_is_refused_and_one_of_equal_width_is_not(mixed, command, tmp_path):
    own = ["--config.sets=2,3", "--config.strategies=clone"]
    error = refused(command(*flags(mixed, tmp_path / "run", *own)), tmp_path / "run")
    assert "clone at layer 2 needs layers of one shape" in error
    assert "layer 1 has 2 heads, 1 KV heads and FFN width 24" in error
    own[0] = "--config.sets=1,2"  # made from 0 and 3
    assert command(*flags(mixed, tmp_path / "run", *own, "--dry_run")).status == 0


def test_sets_of_ones_own_are_measured_without_a_map(mixed, command, tmp_path):
    workdir = tmp_path / "run"
    names = ["2", "1,4", "1-3"]
    own = [f"--config.sets={'/'.join(names)}", f"--config.strategies={','.join(STRATEGIES)}"]
    done = command(*flags(mixed, workdir, *own, f"--config.texts={mixed.jsonl}"))
    assert (done.status, done.err) == (0, "")
    table = done.out.split("All variants\n")[1].split("\n\n")[0].split("report: ")[0]
    printed = [re.split(r"  +", line)[:2] for line in table.strip().splitlines()]
    assert {name for _, name in printed[1:]} == {"layer 2", "1, 4", "1-3"}
    assert len(printed[1:]) == len(names) * len(STRATEGIES)
    rows = run_files.read_rows(workdir)
    sweep = {
        row["variant"]: row for row in rows if "kind" not in row and row["text"] == mixed.jsonl
    }
    variants = {
        variant.name: variant
        for variant in parse_variants(MIXED, [f"{s}/set/{n}" for s in STRATEGIES for n in names])
    }
    assert set(sweep) == {"baseline", *variants}
    model = weights.load(mixed.model)
    (batch,) = tokenise(model, load_text(mixed.jsonl))
    for name, variant in variants.items():
        expected = naive_nll(MIXED, model.params, variant.steps, batch).sum(dtype=np.float64)
        assert sweep[name]["nll"] == pytest.approx(expected, rel=1e-5)
    summary = run_files.read_summary(workdir)
    assert summary["sets"] == {"2": [2], "1,4": [1, 4], "1-3": [1, 2, 3]}
    found = summary["texts"][mixed.jsonl]["strategies"]
    assert {name: set(each) for name, each in found.items()} == {
        name: set(STRATEGIES) for name in names
    }
    assert any(row.get("kind") == "attention" for row in rows)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ("1/1", "got '1' twice; leave one out"),
        ("1,3/3,1", "got '1,3' twice; leave one out"),
        ("1,3,3,1", "each of layers may come once; repeated: 1, 3"),
        ("measured,measured", "got 'measured' twice"),
        ("least_2,least_02", "got 'least_2' twice"),
        ("7", "layers of this model are 0 to 5; got 7"),
    ],
)
def test_a_set_that_comes_twice_is_refused(tiny, command, tmp_path, sets, words, deep_model):
    model = types.SimpleNamespace(model=deep_model, jsonl=tiny.jsonl, txt=tiny.txt)
    done = command(*flags(model, tmp_path / "run", f"--config.sets={sets}"))
    assert words in refused(done, tmp_path / "run")


@pytest.fixture(scope="module")
def deep_model(tiny, tmp_path_factory):
    """The id of a model of six equal layers."""
    config = MIXED.with_layers([LayerShape(2, 1, 24)] * 6)
    tokenizer = weights.load(tiny.model).tokenizer
    folder = tmp_path_factory.mktemp("deep") / "model"
    params = random_params(config, np.float32)
    weights.export_hf(weights.Checkpoint(config, params, tokenizer, "", ""), folder)
    return f"file:{folder}"

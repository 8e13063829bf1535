"""A row that was deleted, of any kind and in any experiment, comes back with the next start."""

import shutil
import types

import developmental_run
import pytest
import run_files
from naive import random_params

from jaxanatomy import weights
from jaxanatomy.config import ModelConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fixed_version")]

TIMES = {"seconds", "wall_seconds", "tokens_per_second", "mfu"}
SEVEN = ModelConfig.uniform(
    7, 2, 1, 24, vocab_size=97, hidden_size=16, head_dim=8, context_length=128
)
FLAGS = {
    "importance": ("--config.texts={text}", "--config.cells=map"),
    "structure": ("--config.null_draws=50", "--config.components=gate_proj,up_proj,down_proj"),
    "predictability": (
        "--config.texts={text}",
        "--config.null_draws=3",
        "--config.samples=100",
        "--config.set_sizes=2,4",
        "--config.components=q_proj,down_proj",
    ),
    "manipulation": (
        "--config.texts={text}",
        "--config.alphas=0,0.9",
        "--config.ranks=half",
        "--config.perturbation.alphas=0.1",
        "--config.perturbation.seeds=0,1",
        "--config.attention.alphas=0.1",
        "--config.attention.seeds=0",
        "--config.calibration.documents=2",
    ),
    "recovery": (
        "--config.eval_text={text}",
        "--config.train_text={text}",
        "--config.layers=0,3",
        "--config.steps=4",
        "--config.eval_every=2",
        "--config.checkpoint_every=2",
        "--config.num_noise_seeds=2",
        "--config.train.group_size=2",
    ),
    "developmental": (
        "--config.arms=uniform_100,clone_init_uniform",
        "--config.seeds=0",
        "--config.steps=20",
        "--config.growth_50_steps=20",
        "--config.eval_every=10",
        "--config.learning_rates=1e-3",
        "--config.tuning_seeds=7",
    ),
    "depth_growth": (
        "--config.data.tokenizer=file:{tokenizer}",
        "--config.seeds=0,1",
        "--config.block=2",
        "--config.data.mixture=0.5 primitives, 0.5 arithmetic",
        "--config.data.questions=2",
        "--config.steps=12",
        "--config.eval_every=5",
        "--config.batch_size=4",
        "--config.data.held_out_sequences=4",
        "--config.depth_sequences=2",
        "--config.model.vocab_size=400",
        "--config.model.num_layers=4",
        "--config.model.hidden_size=16",
        "--config.model.num_heads=2",
        "--config.model.num_kv_heads=1",
        "--config.model.ffn_width=32",
        "--config.model.context_length=96",
        "--config.train.steps_per_call=3",
        "--config.train.checkpoint_every=4",
        "--config.learning_rates=1e-3,3e-3",
        "--config.tuning_seeds=7",
        "--config.arms=baseline,midas",
    ),
    "grow_checkpoint": (
        "--config.texts={text}",
        "--config.operator=lidas",
        "--config.block=1",
        "--config.num_layers=9",
        "--config.null_draws=2",
    ),
    "surgery": ("--config.texts={text}", "--config.swap=1,3", "--config.reverse=3"),
    "tuned_lens": (
        "--config.text={text}",
        "--config.prompt=Two and $",
        "--config.tokens_per_step=64",
        "--config.lens.steps=4",
        "--config.held_out_share=0.5",
        "--config.tasks={asked}",
    ),
    "flops": (),
}
TRAINED = ("developmental", "depth_growth", "flops")  # take no model


@pytest.fixture(scope="module")
def deep(tiny, tmp_path_factory):
    """A model of seven layers with the tiny model's tokenizer."""
    folder = tmp_path_factory.mktemp("deep") / "model"
    tokenizer = weights.load(tiny.model).tokenizer
    weights.export_hf(weights.Checkpoint(SEVEN, random_params(SEVEN), tokenizer, "", ""), folder)
    return f"file:{folder}"


@pytest.fixture
def start(deep, tiny, tokenizer, command, monkeypatch, tmp_path):
    """`start(name, workdir)`: the experiment, without the pictures, which take most of the time."""
    monkeypatch.setattr("jaxanatomy.report.html.fill", lambda page, *records: [])
    developmental_run.make_small(monkeypatch.setattr)
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"prompt": "Salt is", "choices": [" white", " loud"], "answer": 0}\n')
    places = {"text": tiny.jsonl, "tokenizer": tokenizer, "asked": asked}

    def run(name, workdir):
        flags = [flag.format(**places) for flag in FLAGS[name]]
        model = () if name in TRAINED else (f"--config.model={deep}",)
        done = command(name, f"--workdir={workdir}", *model, *flags)
        assert done.status == 0, done.err
        found = types.SimpleNamespace(rows=run_files.read_rows(workdir))
        found.by_hash = {row["hash"]: timeless(row) for row in found.rows}
        found.summary = timeless(run_files.read_summary(workdir))
        return found

    return run


def timeless(value):
    """Without times, and without what follows from them."""
    if isinstance(value, dict):
        return {
            name: timeless(item)
            for name, item in value.items()
            if name not in TIMES and "seconds" not in name and "hour" not in name
        }
    return [timeless(item) for item in value] if isinstance(value, list) else value


def close(one, other, rel):
    """Whether nested values are equal, numbers to a relative error."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key], rel) for key in one)
    if isinstance(one, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(close(*pair, rel) for pair in pairs)
    return one == (pytest.approx(other, rel=rel, abs=1e-5) if isinstance(other, float) else other)


def one_of_each_kind(rows):
    """Numbers of lines: the middle one of those with the same fields; of a curve three."""
    kinds = {}
    for number, row in enumerate(rows):
        kinds.setdefault((row.get("kind"), row.get("reading"), *sorted(row)), []).append(number)
    for (kind, *_), numbers in kinds.items():
        if "step" in rows[numbers[0]] and kind != "final":
            middle = rows[numbers[len(numbers) // 2]]
            names = ("arm", "layer", "seed", "purpose", "noise")
            own = [n for n in numbers if all(rows[n].get(x) == middle.get(x) for x in names)]
            yield from {own[0], own[len(own) // 2], own[-1]}
        else:
            yield numbers[len(numbers) // 2]


@pytest.mark.parametrize("name", FLAGS)
def test_each_kind_of_row_comes_back_once(name, start, tmp_path):
    whole = start(name, tmp_path / "whole")
    lines = (tmp_path / "whole/rows.jsonl").read_text().splitlines(keepends=True)
    for number in one_of_each_kind(whole.rows):
        workdir = tmp_path / f"without_{number}"
        shutil.copytree(tmp_path / "whole", workdir)
        (workdir / "rows.jsonl").write_text("".join(lines[:number] + lines[number + 1 :]))
        again = start(name, workdir)
        what = {key: whole.rows[number].get(key) for key in ("kind", "variant", "step", "arm")}
        assert len(again.rows) == len(whole.rows), what
        # Seeds that trained side by side are trained anew alone: the same up to rounding.
        if name == "depth_growth":
            assert close(again.by_hash, whole.by_hash, 1e-5), what
            assert close(again.summary, whole.summary, 1e-3), what  # it has small differences
        else:
            assert again.by_hash == whole.by_hash, what
            assert again.summary == whole.summary, what
        shutil.rmtree(workdir)

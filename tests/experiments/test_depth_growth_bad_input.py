"""Bad input to depth growth: one line that says what was expected, what came and what to do.

What can be known without text, a tokenizer's training or a compilation is said before them.
"""

import json
import sys
from pathlib import Path

import depth_growth_run
import orbax.checkpoint as ocp
import pytest
from depth_growth_run import flags, rows_of, without_times

from jaxanatomy.train import depth_plan, metrics, trainer
from jaxanatomy.train.metrics import read_metrics

SCRIPT = Path(depth_growth_run.__file__)
MIXED = "data.mixture"
pytestmark = pytest.mark.usefixtures("fixed_version")


def refused(done, *words):
    """One line on stderr, nothing on stdout, status 2."""
    assert (done.status, done.out) == (2, ""), done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert [word for word in words if word not in done.err] == [], done.err


# What is wrong: fields of the config, words of the message.
EARLY = {
    "a depth that is not reached": (
        {"model.num_layers": 5},
        ["from 2 layers in steps of 2", "grows to 4, 6", "target of 5", "another block size"],
    ),
    "a block of nothing": ({"block": 0}, ["block must be a whole number, 1 or above; got 0"]),
    "warmup and cooldown longer than the run": (
        {"warmup": 0.5, "cooldown": 0.6},
        ["warmup and cooldown are shares of a run", "1 at most together; got 0.5 and 0.6"],
    ),
    "a cooldown longer than the run": ({"cooldown": 1.5}, ["1 at most together", "and 1.5"]),
    "a negative cooldown": ({"cooldown": -0.1}, ["0 or above", "got 0.05 and -0.1"]),
    "a mixture for no cooldown": (
        {"cooldown": 0.0, "data.cooldown_mixture": "offline_math"},
        ["cooldown_mixture='offline_math' needs a cooldown", "got cooldown=0.0 of 12 steps; raise"],
    ),
    "a mixture for a cooldown that rounds to nothing": (
        {"cooldown": 0.04, "data.cooldown_mixture": "offline_math"},
        ["needs a cooldown of a step at least; got cooldown=0.04 of 12 steps; raise it or leave"],
    ),
    "a cooldown from the first step": (
        {"warmup": 0.0, "cooldown": 1.0, "data.cooldown_mixture": "offline_math"},
        ["mixtures", "rising steps, the first at 0; got [0, 0]"],
    ),
    "weights that do not sum": (
        {MIXED: "0.5 primitives, 0.4 arithmetic"},
        ["the weights of a mixture must sum to 1; 0.5 + 0.4 = 0.9"],
    ),
    "a weight of nothing": ({MIXED: "1 primitives, 0 arithmetic"}, ["above 0", "leave the source"]),
    "no weight": ({MIXED: "0.5 primitives, arithmetic"}, ["'WEIGHT SOURCE'", "got ' arithmetic'"]),
    "a source twice": ({MIXED: "0.5 a, 0.5 a"}, ["must name 'a' once"]),
    "an unknown mixture": ({MIXED: "ofline"}, ["unknown mixture 'ofline'; did you mean 'offline'"]),
    "an unknown cooldown mixture": ({"data.cooldown_mixture": "ofline_math"}, ["'offline_math'"]),
    "another vocabulary": (
        {"model.vocab_size": 4096},
        ["vocabulary of the tokenizer, 400 entries; it has 4096", "set the model's vocab_size"],
    ),
    "too small a vocabulary": ({"model.vocab_size": 300}, ["400 entries; it has 300"]),
    "no tokenizer": ({"data.tokenizer": "file:/nowhere"}, ["/nowhere"]),
    "a malformed tokenizer": (
        {"data.tokenizer": "offline:big"},
        ["offline:SIZE; got 'offline:big'"],
    ),
    "heads that do not divide": (
        {"model.num_heads": 3},
        ["hidden_size must be a multiple of num_heads; got 16 and 3; change one"],
    ),
    "no heads": ({"model.num_heads": 0}, ["num_heads must be a positive integer; got 0"]),
    "heads of odd width": ({"model.hidden_size": 6}, ["head_dim must be even for RoPE; got 3"]),
    "heads in no groups": (
        {"model.num_heads": 4, "model.num_kv_heads": 3},
        ["num_heads must be a multiple of num_kv_heads; got 4 and 3"],
    ),
    "no base of RoPE": ({"model.rope_theta": 0.0}, ["rope_theta must be above 0 and", "got 0.0"]),
    "a negative epsilon": (
        {"model.norm_epsilon": -1.0},
        ["norm_epsilon 0 or above; got", "and -1.0"],
    ),
    "no layers": ({"model.num_layers": 0, "arms": "baseline"}, ["layers", "at least one"]),
    "an unknown arm": ({"arms": "baseline,midsa"}, ["unknown arm 'midsa'; did you mean 'midas'"]),
    "an arm twice": ({"arms": "midas,midas"}, ["arms must name at least one, each once", "midas"]),
    "no arm": ({"arms": ""}, ["arms must name at least one"]),
    "unknown moments": ({"moments": "cpoy"}, ["policy for moments 'cpoy'; did you mean 'copy'"]),
    "an unknown dtype": ({"train.dtype": "bf16"}, ["unknown dtype 'bf16'", "'bfloat16'"]),
    "remat without a scan": (
        {"train.remat": "full"},
        ["got scan_layers=false and", "set scan_layers=true"],
    ),
    "an unknown remat": ({"train.remat": "dot"}, ["unknown remat 'dot'; did you mean 'dots'"]),
    "seeds twice": ({"seeds": "0,1,0"}, ["seeds must name at least one, each once; got (0, 1, 0)"]),
    "a negative seed": ({"seeds": "-1"}, ["seeds must be whole numbers, 0 or above", "got -1"]),
    "a context of one token": ({"model.context_length": 1}, ["must be at least 2", "got 1"]),
    "a context too short to ask in": ({"model.context_length": 8}, ["needs rows of", "got 8"]),
    "a context too short for a question of the mixture": (
        {MIXED: "1 primitives", "model.context_length": 93},
        ["of the mixture needs rows of 94 tokens; got 93", "leave its source out"],
    ),
    "a context too short for a hop of the mixture": (
        {MIXED: "0.5 hops, 0.5 primitives", "model.context_length": 50, "data.questions": 1},
        ["a hop_1 question of the mixture needs rows of", "got 50; raise the sequence length"],
    ),
    "a context too short for a chain that is asked": (
        {"data.tasks": "chains", "data.num_fewshot": 3},
        [
            "a chain_1 question needs rows of",
            "got 96; raise",
            "num_fewshot or leave its source out",
        ],
    ),
    "questions of no source": (
        {"data.tasks": ""},
        ["data.tasks must name at least one, each once"],
    ),
    "questions of a source twice": ({"data.tasks": "chains,chains"}, ["each once; got ('chains'"]),
    "questions of a text": (
        {"data.tasks": "primitives,library_code"},
        ["unknown source of questions in data.tasks 'library_code'"],
    ),
    "questions of an unknown source": (
        {"data.tasks": "chain"},
        ["in data.tasks 'chain'; did you mean 'chains'"],
    ),
    "no steps": ({"steps": 0}, ["steps must be a whole number, 1 or above; got 0"]),
    "fewer steps than stages": (
        {"steps": 2, "model.num_layers": 8},
        ["each of at least one stage needs a step; got 4 stages and 2 steps; raise the steps"],
    ),
    "no growing": ({"growth_fraction": 0.0}, ["growth_fraction must be above 0", "got 0.0"]),
    "a negative alpha": ({"alpha": -1.0}, ["alpha of PROP-alpha must be", "got -1.0"]),
    "a learning rate of 0": ({"learning_rates": 0.0}, ["finite and above 0; got 0.0"]),
    "a learning rate of 0 beside another": (
        {"learning_rates": "0.1,0.0"},
        ["finite and above 0; got 0.0"],
    ),
    "no learning rate": ({"learning_rates": ""}, ["learning_rates must name at least one"]),
    "a learning rate twice": ({"learning_rates": "0.1,0.1"}, ["each once; got (0.1, 0.1)"]),
    "several rates and nothing to choose by": (
        {"learning_rates": "0.1,0.2", "tuning_seeds": ""},
        ["tuning_seeds must name at least one, each once; got ()"],
    ),
    "a seed that tunes and counts": (
        {"tuning_seeds": "1"},
        ["seeds and tuning_seeds must have none in common; got [1] in both"],
    ),
    "negative decay": (
        {"optimiser.weight_decay": -1.0},
        ["optimiser.weight_decay must be finite and 0 or above", "got -1.0"],
    ),
    "a beta2 of 1": ({"optimiser.beta2": 1.0}, ["beta2 must be at least 0 and below 1; got 1.0"]),
    "depth on more rows than are held out": (
        {"depth_sequences": 5},
        ["depth_sequences must be some of the held-out sequences; got 5 of 4; lower it"],
    ),
    "depth on less than nothing": (
        {"depth_sequences": -1},
        ["depth_sequences must be a whole number, 0 or above; got -1"],
    ),
    "workers below none": ({"train.data_workers": -1}, ["data_workers", "0 or above; got -1"]),
    "a negative peak": ({"train.peak_flops": -1.0}, ["peak_flops must be the FLOP/s", "got -1.0"]),
    "parts that do not divide": (
        {"train.grad_accum_steps": 3},
        ["grad_accum_steps must divide batch_size; got 3 and 4; change one"],
    ),
    "shards that do not divide": ({"train.fsdp_shards": 3}, ["got 3 and 1 devices"]),
    **{
        f"{name}=0": ({name: 0}, [f"{name.removeprefix('train.')} must be a whole number", "got 0"])
        for name in (
            "eval_every",
            "batch_size",
            "data.held_out_sequences",
            "data.questions",
            "train.max_to_keep",
            "train.steps_per_call",
            "train.checkpoint_every",
            "train.grad_accum_steps",
        )
    },
}


@pytest.mark.parametrize("name", EARLY)
def test_bad_input_is_one_line_before_any_text_is_read(
    name, tokenizer, tmp_path, command, monkeypatch
):
    fields, words = EARLY[name]
    monkeypatch.setattr(depth_plan, "Pipeline", lambda *a, **k: pytest.fail("text was read"))
    argv = flags(tmp_path / "run", tokenizer, **{"arms": "baseline,midas", **fields})
    refused(command(*argv), *words)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_is_not_trained_for_a_config_that_is_refused(
    tokenizer, tmp_path, command, monkeypatch
):
    monkeypatch.setattr(depth_plan, "load_tokenizer", lambda name: pytest.fail("was trained"))
    refused(command(*flags(tmp_path / "run", tokenizer, arms="midsa")), "did you mean 'midas'")
    refused(
        command(*flags(tmp_path / "run", tokenizer, **{"train.max_to_keep": 0})),
        "max_to_keep must be",
    )


def test_tensorboard_without_its_package(tokenizer, tmp_path, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = command(*flags(tmp_path / "run", tokenizer, tensorboard="true"))
    refused(done, "needs the package tensorboardX", "pip install 'jaxanatomy[tensorboard]'")


def write(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ([], ["is empty", "at least one document"]),
        (["", " \n"], ["is empty; it must hold at least one document with text"]),
        (["a few words"], ["must have more than 96 tokens, the length of a row", "give more text"]),
        (
            ["word " * 400],
            ["the held-out part of source", "more than 96 tokens", "it has 0", "give more text"],
        ),
    ],
)
def test_a_source_that_is_empty_or_too_short(documents, words, tokenizer, tmp_path, command):
    path = write(tmp_path / "text.jsonl", documents)
    refused(command(*flags(tmp_path / "run", tokenizer, **{MIXED: f"1 {path}"})), *words)
    left = [each.name for each in (tmp_path / "run").iterdir() if not each.name.startswith(".")]
    assert left == []


def test_a_source_that_is_not_there(tokenizer, tmp_path, command):
    for mixture, word in (("1 primitive", "did you mean 'primitives'"), ("1 a/b.txt", "'a/b.txt'")):
        refused(command(*flags(tmp_path / "run", tokenizer, **{MIXED: mixture})), word)
    # Also one that is read in the cooldown only, before anything is trained.
    more = {"data.cooldown_mixture": "1 a/b.txt"}
    refused(command(*flags(tmp_path / "run", tokenizer, **more)), "there is no text file 'a/b.txt'")


@pytest.mark.slow
def test_rows_that_the_devices_cannot_share(tokenizer, tmp_path, run_python):
    argv = flags(tmp_path / "run", tokenizer)
    for more, words in (
        ((), "must be a multiple of the devices; got 4 rows and 8 devices"),
        (
            ("--config.batch_size=16", "--config.train.grad_accum_steps=4"),
            "got 4 rows and 8 devices",
        ),
        (("--config.train.fsdp_shards=3",), "fsdp_shards must divide the number of devices; got 3"),
    ):
        code = "import sys; from jaxanatomy import cli; sys.exit(cli.main(sys.argv[1:]))"
        done = run_python(code, *argv, *more, devices=8, check=False, timeout=400)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


class KilledError(Exception):
    pass


def stop_at(patch, step):
    """Raises once a checkpoint of this step has been begun."""
    save = trainer.Snapshots.save

    def saving(self, snapshot):
        save(self, snapshot)
        if snapshot.step >= step:
            raise KilledError

    patch.setattr(trainer.Snapshots, "save", saving)


@pytest.mark.slow
def test_a_checkpoint_of_another_architecture_is_refused_and_both_are_shown(
    tokenizer, tmp_path, command, monkeypatch
):
    one, other = (
        flags(tmp_path / name, tokenizer, arms="midas", seeds=0, **{"model.ffn_width": width})
        for name, width in (("one", 32), ("other", 48))
    )
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert [command(*argv).status for argv in (one, other)] == [1, 1]
    place = tmp_path / "one/checkpoints/midas/0"
    place.rename(tmp_path / "aside")
    (tmp_path / "other/checkpoints/midas/0").rename(place)
    before = rows_of(tmp_path / "one")
    refused(
        command(*one),
        "at step 4 has 4 layers (2 heads, 1 KV heads and FFN width 48) of width 16",
        "the config says 4 layers (2 heads, 1 KV heads and FFN width 32) of width 16",
        "choose another workdir",
    )
    assert rows_of(tmp_path / "one") == before
    # Its own is taken again.
    place.rename(tmp_path / "wrong")
    (tmp_path / "aside").rename(place)
    assert command(*one).status == 0


@pytest.mark.slow
@pytest.mark.parametrize("place", ["checkpoint", "metrics"])
def test_when_the_disk_was_full_the_same_command_goes_on(
    place, tokenizer, tmp_path, command, monkeypatch
):
    full = OSError(28, "No space left on device")
    argv = {name: flags(tmp_path / name, tokenizer, arms="midas", seeds=0) for name in "ab"}
    assert command(*argv["a"]).status == 0

    def failing(method, after):
        calls = []

        def call(*arguments, **kwargs):
            calls.append(arguments)
            if len(calls) > after:
                raise full
            return method(*arguments, **kwargs)

        return call

    with monkeypatch.context() as patch:
        if place == "checkpoint":  # params and moments of steps 3 and 4, then no more
            handler = ocp.StandardCheckpointHandler
            patch.setattr(handler, "finalize", failing(handler.finalize, 4))
            words = "expected to write a checkpoint to", "the last whole one is of step 4"
        else:
            patch.setattr(metrics, "append_bytes", failing(metrics.append_bytes, 3))
            words = ("expected room on the disk; No space left on device",)
        refused(command(*argv["b"]), *words, "make room and start again")
    assert {row["kind"] for row in rows_of(tmp_path / "b")} == {"curve"}
    assert command(*argv["b"]).status == 0
    for read in (rows_of, read_metrics):
        assert without_times(read(tmp_path / "b")) == without_times(read(tmp_path / "a"))

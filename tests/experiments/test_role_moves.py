"""Moving roles from the command line, on a small model."""

import math
import signal
from pathlib import Path

import depth_growth_run
import numpy as np
import pytest
import run_files
from depth_growth_run import ENTRIES, without_times

from jaxanatomy.data.corpora import open_corpus
from jaxanatomy.data.vocabulary import load_tokenizer
from jaxanatomy.forensics.roles import ROLES
from jaxanatomy.train.metrics import read_metrics
from jaxanatomy.tree import MATRICES

SCRIPT = Path(depth_growth_run.__file__)
pytestmark = pytest.mark.usefixtures("fixed_version")
ARMS = ("uniform", "uniform_again", "none", "random_policy", "learned_policy", "rate_scale")
STEPS, EVERY, LAYERS, ROWS = 8, 2, 4, 8
FIELDS = {
    "arms": ",".join(ARMS),
    "seeds": "0,1",
    "held_out_rows": ROWS,
    "judged_rows": 4,
    "policy.every": EVERY,
    "model.num_layers": LAYERS,
    "model.hidden_size": 8,
    "model.num_heads": 2,
    "model.num_kv_heads": 1,
    "model.ffn_width": 24,
    "model.context_length": 12,
    "model.vocab_size": ENTRIES,
    "steps": STEPS,
    "batch_size": 4,
    "eval_every": 4,
    "optimiser.weight_decay": 0.1,
    "train.steps_per_call": 4,
    "train.checkpoint_every": 4,
    "train.scan_layers": True,
}
WORDS = [
    "red",
    "blue",
    "green",
    "gold",
    "one",
    "two",
    "three",
    "four",
    "ship",
    "tree",
    "stone",
    "river",
    "runs",
    "falls",
    "sings",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Lines of words; one in a hundred is held out."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    rng = np.random.default_rng(0)
    path.write_text("\n".join(" ".join(rng.choice(WORDS, 12)) for _ in range(900)))
    return f"{path}#lines"


@pytest.fixture(scope="module")
def flags(text, tokenizer):
    def made(workdir, **fields):
        given = FIELDS | {"text": text, "tokenizer": f"file:{tokenizer}"} | fields
        return [
            "role_moves",
            f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in given.items()),
        ]

    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command, flags):
    workdir = tmp_path_factory.mktemp("runs") / "moves"
    done = command(*flags(workdir))
    assert (done.status, done.err) == (0, "")
    return workdir


def rows_of(workdir, kind):
    return [row for row in run_files.read_rows(workdir) if row["kind"] == kind]


def losses(workdir, step):
    """Held-out and training loss at a step by arm and seed."""
    rows = [row for row in rows_of(workdir, "curve") if row["step"] == step]
    return {(row["arm"], row["seed"]): (row["eval_nll"], row["loss"]) for row in rows}


def test_arms_begin_alike_and_read_the_same_but_for_the_null(finished):
    first, later = losses(finished, 0), losses(finished, 4)
    # The loss of the first batch, before the first step.
    lines = read_metrics(finished)
    batch = {(each["arm"], each["seed"]): each["loss"] for each in lines if each["step"] == 1}
    assert first.keys() == {(arm, seed) for arm in ARMS for seed in (0, 1)}
    for seed in (0, 1):
        assert {first[arm, seed] for arm in ARMS} == {first["uniform", seed]}
        own = later["uniform", seed]
        for arm in ARMS:
            same_text = arm != "uniform_again"
            assert (batch[arm, seed] == batch["uniform", seed]) == same_text, arm
            assert (later[arm, seed] == own) == (arm == "uniform"), arm


def test_final_rows_have_roles_and_neurons_of_every_layer(finished):
    finals = rows_of(finished, "final")
    assert [(row["arm"], row["seed"]) for row in finals] == [
        (arm, seed) for arm in ARMS for seed in (0, 1)
    ]
    for row in finals:
        assert (row["step"], row["alike"], len(row["roles"])) == (STEPS, True, LAYERS)
        assert {role: len(own) for role, own in row["scores"].items()} == dict.fromkeys(ROLES, 4)
        assert [len(own) for own in row["saturated"]] == row["features"]["saturated"]
        assert len(row["unit_nll"]) == len(row["unit_tokens"])
        mean = sum(row["unit_nll"]) / sum(row["unit_tokens"])
        assert mean == pytest.approx(row["eval_nll"], rel=1e-9)
    norms = {
        (row["arm"], row["seed"]): np.array(row["features"]["up_proj.frobenius_norm"])
        for row in finals
    }
    for seed in (0, 1):  # without decay weights stay larger, in every layer
        assert (norms["none", seed] > norms["uniform", seed]).all()
        assert not (norms["rate_scale", seed] == norms["uniform", seed]).any()


def test_units_are_the_documents_of_the_held_out_rows(finished, text, tokenizer):
    """Each with all its tokens in the rows that are scored; the judges' are of others."""
    own = load_tokenizer(f"file:{tokenizer}")
    documents = [each for each, split in open_corpus(text).documents() if split == "validation"]
    lengths = [len(own.encode(each)) + 1 for each in documents]
    number_N = np.repeat(np.arange(len(lengths)), lengths)
    # Of 20 rows of 12 targets, eight spread over what is left beside the judges' four.
    targets = [number_N[13 * row + 1 : 13 * row + 13] for row in (0, 1, 3, 5, 6, 8, 10, 11)]
    expected = np.unique(np.concatenate(targets), return_counts=True)[1] / (ROWS * 12)
    assert 1 < len(expected) < ROWS
    for row in rows_of(finished, "final"):
        assert row["unit_tokens"] == pytest.approx(expected.tolist(), rel=1e-12)


def test_proposals_are_logged_with_their_rewards(finished):
    found = {}
    for row in rows_of(finished, "proposal"):
        found.setdefault((row["arm"], row["seed"]), []).append(row)
    policies = ("random_policy", "learned_policy", "rate_scale")
    assert found.keys() == {(arm, seed) for arm in policies for seed in (0, 1)}
    for (arm, _), own in found.items():
        assert [(row["since"], row["step"]) for row in own] == [(0, 2), (2, 4), (4, 6), (6, 8)]
        tensors = ["layer"] if arm == "rate_scale" else [*MATRICES]
        for row in own:
            assert [*row["coefficient"]] == [*row["mean"]] == tensors
            assert all(len(each) == LAYERS for each in row["coefficient"].values())
            assert math.isfinite(row["reward"])
    for seed in (0, 1):
        random, learned = found["random_policy", seed], found["learned_policy", seed]
        assert random[0]["coefficient"] == learned[0]["coefficient"]
        assert random[0]["mean"] == random[-1]["mean"]
        # The first reward is the baseline, the second the deviation.
        assert learned[0]["mean"] == learned[2]["mean"]
        assert learned[0]["mean"] != learned[-1]["mean"]


def test_the_summary_holds_every_arm_against_the_baseline(finished):
    summary = run_files.read_summary(finished)
    assert [row["arm"] for row in summary["moves"]] == [*ARMS[1:]]
    assert all("beyond_null" in row for row in summary["moves"] if row["arm"] != ARMS[1])
    assert summary["policies"].keys() == {"random_policy", "learned_policy", "rate_scale"}
    assert (finished / "report.html").exists()


@pytest.mark.slow
def test_sigkill_between_proposals_gives_the_same_rows(
    finished, tmp_path, command, flags, run_python
):
    argv = flags(tmp_path / "run")
    for death in ("write:uniform:4", "write:learned_policy:6", "save:rate_scale:4"):
        killed = run_python(SCRIPT, death, *argv, devices=1, check=False, timeout=400)
        assert killed.returncode == -signal.SIGKILL, (death, killed.stderr)
    assert command(*argv).status == 0
    found, expected = (
        without_times(run_files.read_rows(each)) for each in (tmp_path / "run", finished)
    )
    key = lambda row: row["hash"]  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)


def test_arms_without_a_policy_ask_nothing_of_its_clamps(command, flags, tmp_path):
    """No decay, from which no policy could begin; nor is there a step at which one proposes."""
    fields = {"arms": "uniform,none", "optimiser.weight_decay": 0, "policy.every": 100}
    done = command(*flags(tmp_path / "run", **fields), "--dry_run")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": "uniform,nnoe"}, "unknown arm 'nnoe'; did you mean"),
        ({"arms": "uniform,uniform"}, "arms must name at least one, each once"),
        ({"arms": "none,random_policy"}, "arms must have uniform, the baseline that every other"),
        ({"policy.every": STEPS}, "steps must be above 8, at which a policy that proposes every 8"),
        (
            {"policy.every": 3},
            "above 9, at which a policy that proposes every 3 steps first proposes",
        ),
        ({"held_out_rows": 16}, "held_out_rows must be at most the 13 rows of documents that none"),
        ({"held_out_rows": 6}, "held_out_rows must be a multiple of batch_size; got 6 and 4"),
        ({"held_out_rows": 4000}, "held_out_rows and judged_rows must be at most the"),
        ({"batch_size": 40_000, "held_out_rows": 40_000, "judged_rows": 40_000}, "at most the"),
        ({"model.num_layers": 3}, "roles need at least 4 layers"),
        ({"model.vocab_size": 20}, "must have the vocabulary of the tokenizer"),
        ({"model.context_length": 100_000}, "must fill a row of 100001 tokens"),
        ({"policy.decay": "0.2,1.0"}, "policy.decay must hold optimiser.weight_decay"),
        (
            {"policy.decay": "0.01,300"},
            "rate times the largest decay, factors included",
        ),
        ({"policy.rate_scale": "0.3,3000"}, "must be below 1, or a step turns weights round; got"),
        (
            {"optimiser.decay_factors": "layers/.*=300", "learning_rates": 4e-3},
            "the largest rate times the largest decay, factors included, must be below 1",
        ),
        ({"policy.memory": 1.0}, "policy.memory must be at least 0 and below 1"),
        ({"alarms.actions": "warn,act,stop"}, "alarms that act set the rates"),
        ({"text": "library_englsh"}, "unknown source 'library_englsh'"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, flags, tmp_path, fields, message):
    done = command(*flags(tmp_path / "run", **fields))
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()

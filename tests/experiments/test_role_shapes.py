"""Moving roles by widths and registers, from the command line, and skip gates of the baseline."""

import itertools
import math
import signal
from pathlib import Path

import depth_growth_run
import numpy as np
import pytest
import run_files
from depth_growth_run import ENTRIES, without_times

from jaxanatomy.train.role_documents import halves

SCRIPT = Path(depth_growth_run.__file__)
pytestmark = pytest.mark.usefixtures("fixed_version")
ARMS = ("uniform", "wide_late", "registers_learned", "registers_random")
POOL, COUNT, LAYERS = 6, 2, 4
STEPS, ROWS = 8, 8
FIELDS = {
    "arms": ",".join(ARMS),
    "seeds": "0,1",
    "held_out_rows": ROWS,
    "judged_rows": 4,
    "model.num_layers": LAYERS,
    "model.hidden_size": 8,
    "model.num_heads": 2,
    "model.num_kv_heads": 2,
    "model.ffn_width": 24,
    "model.context_length": 12,
    "model.vocab_size": ENTRIES + POOL,
    "registers.count": COUNT,
    "registers.pool": POOL,
    "skip_most": 2,
    "steps": STEPS,
    "batch_size": 4,
    "eval_every": 4,
    "train.scan_layers": True,
    "train.steps_per_call": 4,
    "train.checkpoint_every": 4,
}


@pytest.fixture(scope="module")
def flags(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    words = ["red", "blue", "green", "gold", "one", "two", "three", "ship", "tree", "stone"]
    rng = np.random.default_rng(0)
    path.write_text("\n".join(" ".join(rng.choice(words, 12)) for _ in range(900)))

    def made(workdir, **fields):
        given = FIELDS | {"text": f"{path}#lines", "tokenizer": f"file:{tokenizer}"} | fields
        return [
            "role_moves",
            f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in given.items()),
        ]

    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command, flags):
    workdir = tmp_path_factory.mktemp("runs") / "shapes"
    done = command(*flags(workdir))
    assert (done.status, done.err) == (0, "")
    return workdir


def finals(workdir):
    return {
        (row["arm"], row["seed"]): row
        for row in run_files.read_rows(workdir)
        if row["kind"] == "final"
    }


def test_uneven_layers_are_those_that_the_widths_say(finished):
    found = finals(finished)
    # 96 neurons in shares of 1, 1.267, 1.533 and 1.8 of 5.6.
    neurons = [17, 22, 26, 31]
    for seed in (0, 1):
        row = found["wide_late", seed]
        assert row["widths"] == pytest.approx([count / 24 for count in neurons])
        assert not row["alike"]
        share = np.array(row["features"]["saturated_share"])
        np.testing.assert_allclose(share * neurons, row["features"]["saturated"])
        assert "widths" not in found["uniform", seed]


def test_layers_are_left_out_of_the_baseline_alone(finished):
    sets = [[*own] for size in (1, 2) for own in itertools.combinations(range(LAYERS), size)]
    for (arm, _), row in finals(finished).items():
        assert ("skip_sets" in row) == (arm == "uniform")
        if arm == "uniform":
            assert row["skip_sets"] == sets
            assert all(map(math.isfinite, (*row["skip_nll"], row["skip_whole"])))
            # On half of the documents, without what stands before each in its row.
            nll_U, share_U = np.array(row["unit_nll"]), np.array(row["unit_tokens"])
            size_U = np.rint(share_U * ROWS * FIELDS["model.context_length"]).astype(int)
            own_U = halves(np.repeat(np.arange(len(size_U)), size_U)) == 1
            expected = nll_U[own_U].sum() / share_U[own_U].sum()
            assert row["skip_whole"] == pytest.approx(expected, rel=0.02)


def test_registers_are_scored_on_the_same_tokens_and_followed(finished):
    found, rows = finals(finished), run_files.read_rows(finished)
    for arm in ARMS:
        assert found[arm, 0]["unit_tokens"] == found["uniform", 0]["unit_tokens"]
    followed = [row for row in rows if row["kind"] == "registers"]
    assert [(row["arm"], row["step"], row["seed"]) for row in followed] == [
        (arm, step, seed) for arm in ARMS[2:] for step in (0, 4, STEPS) for seed in (0, 1)
    ]
    for row in followed:
        moves = row["step"] > 0
        assert (row["registers"]["moved"] > 0) == (moves and row["arm"] == "registers_learned")
        assert (row["frequent"]["moved"] > 0) == moves
    begin = {
        row["arm"]: row["eval_nll"] for row in rows if row["kind"] == "curve" and not row["step"]
    }
    assert begin["registers_learned"] != begin["registers_random"] != begin["uniform"]
    for arm in ("registers_learned", "registers_random"):
        mass = found[arm, 0]["attention_on_registers"]
        assert len(mass) == LAYERS
        assert all(0.1 < each < 1 for each in mass)
    assert found["uniform", 0]["attention_on_registers"] == [0.0] * LAYERS


def test_the_summary_and_the_page_have_all_three(finished):
    summary = run_files.read_summary(finished)
    assert summary["widths"]["arms"].keys() == {"wide_late"}
    assert summary["widths"]["slope"]["seeds"] == 2
    assert summary["registers"].keys() == {"uniform", *ARMS[2:]}
    assert summary["skips"]["seeds"] == 2
    assert summary["skips"]["orders"].keys() == {"by_role", "by_score", "by_others", "by_damage"}
    page = (finished / "report.html").read_text(encoding="utf-8")
    for title in ("Widths", "Registers", "Skip gates"):
        assert f">{title}<" in page


@pytest.mark.slow
def test_sigkill_within_an_arm_with_registers_gives_the_same_rows(
    finished, tmp_path, command, flags, run_python
):
    argv = flags(tmp_path / "run")
    for death in ("write:wide_late:4", "save:registers_learned:4", "write:registers_random:8"):
        killed = run_python(SCRIPT, death, *argv, devices=1, check=False, timeout=400)
        assert killed.returncode == -signal.SIGKILL, (death, killed.stderr)
    assert command(*argv).status == 0
    found, expected = (
        sorted(without_times(run_files.read_rows(each)), key=lambda row: row["hash"])
        for each in (tmp_path / "run", finished)
    )
    assert found == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width_ratio": 1.0}, "more than 1 time as wide as the narrowest; got 1"),
        ({"model.num_kv_heads": 1}, "1 key-value heads a layer are too few"),
        ({"registers.count": 0}, "registers.count must be"),
        ({"registers.count": POOL}, "registers.pool must be above registers.count"),
        ({"registers.pool": ENTRIES}, f"room for registers.pool={ENTRIES} beyond the text"),
        ({"registers.pool": 70_000}, "room for registers.pool=70000"),
        ({"optimiser.decay_norms_and_embeddings": True}, "registers_random must stay"),
        ({"optimiser.decay_factors": "embed/.*=0.5"}, "registers_random must stay"),
        ({"skip_most": 4}, "skip_most must be below the 4 layers"),
        ({"skip_most": 0}, "skip_most must be"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, flags, tmp_path, fields, message):
    done = command(*flags(tmp_path / "run", **fields))
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()

"""Growth on k-hop tasks from the command line, on a small model."""

import itertools
import operator
import re
import shutil
import signal
from pathlib import Path

import depth_growth_run
import jax
import numpy as np
import pytest
import run_files
from depth_growth_run import start, without_times

from jaxanatomy import tree
from jaxanatomy.data.depth_tasks import KHop, guessing
from jaxanatomy.records import read_run
from jaxanatomy.report import html, role_courses
from jaxanatomy.report.khop_growth import PAGE
from jaxanatomy.train.alarm_readings import KINDS
from jaxanatomy.train.metrics import read_metrics
from jaxanatomy.weights import load

SCRIPT = Path(depth_growth_run.__file__)
pytestmark = pytest.mark.usefixtures("fixed_version")
K, STEPS, SEQUENCES = 3, 12, 8
FIELDS = {
    "arms": "baseline,lidas",
    "seeds": "0,1",
    "learning_rates": 3e-3,
    "task.seq_len": 12,
    "task.hops": K,
    "held_out_sequences": SEQUENCES,
    "depth_sequences": SEQUENCES // 2,
    "model.num_layers": 4,
    "model.hidden_size": 16,
    "model.num_heads": 2,
    "model.num_kv_heads": 1,
    "model.ffn_width": 32,
    "model.vocab_size": 16,
    "steps": STEPS,
    "batch_size": 4,
    "growth_fraction": 0.85,
    "eval_every": 5,
    "roles_every": 5,
    "train.steps_per_call": 3,
    "train.checkpoint_every": 4,
    "train.scan_layers": True,
    "train.keep_checkpoints": True,
}


def flags(workdir, **fields):
    fields = FIELDS | fields
    return [
        "khop_growth",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def rows_of(workdir, kind):
    return [row for row in run_files.read_rows(workdir) if row["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "khop"
    done = command(*flags(workdir))
    assert (done.status, done.err) == (0, "")
    return workdir


@pytest.mark.slow
def test_alarms_have_rows_and_are_counted_in_the_metrics(tmp_path, command):
    """Levels that every model reaches: each tensor of each layer, once and where it has grown."""
    workdir = tmp_path / "run"
    levels = {f"alarms.{kind}": "()" for kind in KINDS} | {"alarms.spectral": "0.1,1e6,1e7"}
    done = command(*flags(workdir, **levels, **{"arms": "lidas", "alarms.every": 4}))
    assert done.status == 0
    assert any(
        re.search("alarm at step 3, seed [01]: spectral of .*, and 71 more", line)
        for line in done.said
    )
    alarms = rows_of(workdir, "alarm")
    assert {(row["step"], row["stage"], row["action"], row["level"]) for row in alarms} == {
        (3, 1, "warn", 1)
    }
    places = {(row["seed"], row["layer"], row["tensor"]) for row in alarms}
    assert len(places) == len(alarms) == 2 * 4 * 9
    assert all(row["alarm"] == "spectral" and 0.1 <= row["value"] < 10 for row in alarms)
    counts = {line["step"]: line["alarms"] for line in read_metrics(workdir) if "alarms" in line}
    assert counts == {4: 36, 8: 36, 12: 36}


def test_rows_are_of_every_arm_seed_and_hop(finished):
    curves, finals = rows_of(finished, "curve"), rows_of(finished, "final")
    found = {(row["arm"], row["stage"], row["step"], row["layers"]) for row in curves}
    assert found == {
        *(("baseline", 0, step, 4) for step in (0, 5, 10, 12)),
        *(("lidas", 0, step, 2) for step in (0, 3)),
        *(("lidas", 1, step, 4) for step in (3, 5, 10, 12)),
    }
    assert [(row["arm"], row["seed"]) for row in finals] == [
        (arm, seed) for arm in ("baseline", "lidas") for seed in (0, 1)
    ]
    for final in finals:
        (end,) = (
            row
            for row in curves
            if (row["arm"], row["seed"], row["step"]) == (final["arm"], final["seed"], STEPS)
        )
        same = ("tokens", "flops", "eval_nll", "nll_by_hop", "accuracy_by_hop", "layers")
        assert {name: final[name] for name in same} == {name: end[name] for name in same}
        assert final["eval_nll"] == pytest.approx(np.mean(final["nll_by_hop"]), rel=1e-9)
        assert final["accuracy"] == pytest.approx(np.mean(final["accuracy_by_hop"]), rel=1e-9)
        shares = np.divide(final["right_by_hop"], final["answered_by_hop"])
        assert final["accuracy_by_hop"] == pytest.approx(shares.tolist(), rel=1e-9)
        assert len(final["unit_nll"]) == len(final["unit_tokens"]) == SEQUENCES
        mean = sum(final["unit_nll"]) / sum(final["unit_tokens"])
        assert mean == pytest.approx(final["eval_nll"], rel=1e-9)
        assert [(row["kind"], row["name"]) for row in final["edited"]] == [
            *(("loop", name) for name in ("once", "twice", "damped")),
            *(("cut", f"layer/{layer}") for layer in range(4)),
            *(("swap", f"span/{span}") for span in ("0-1", "1-2", "2-3", "0-3")),
            ("reverse", "span/0-3"),
            *(("exit", f"layer/{layer}") for layer in range(3)),
        ]
        depth = final["depth"]
        assert len(depth["influence"]) == len(depth["attention_cosine"]) == 4
        assert 0 <= depth["depth_score"] <= 3
        assert len(depth["similarity"]) == 3
    summary = run_files.read_summary(finished)
    assert {row["arm"] for row in summary["depth"]} == {"baseline", "lidas"}
    guessed = guessing(KHop(4, 12, K), jax.random.key(0)).tolist()
    assert all(final["guessing_by_hop"] == guessed for final in finals)
    # Seeds have weights and sequences of their own; arms of a seed the same sequences.
    assert len({row["loss"] for row in curves if row["step"] == 5}) == 4
    flops = {row["arm"]: row["flops"] for row in finals}
    assert flops["lidas"] < flops["baseline"]


def test_models_are_left_that_load(finished):
    names = {path.name for path in (finished / "models").iterdir()}
    assert names == {f"{arm}_{seed}" for arm in ("baseline", "lidas") for seed in (0, 1)}
    model = load(f"file:{finished / 'models/lidas_1'}")
    assert (model.config.num_layers, model.tokenizer) == (4, None)


def test_roles_are_kept_over_the_run_and_compared_with_the_losses(finished):
    found = rows_of(finished, "roles")
    assert {(row["arm"], row["stage"], row["step"], row["seed"]) for row in found} == {
        (arm, stage, step, seed)
        for arm, stage, steps in (("baseline", 0, (0, 5, 10, 12)), ("lidas", 1, (3, 5, 10, 12)))
        for step in steps
        for seed in (0, 1)
    }
    last = found[-1]
    assert len(last["roles"]) == len(last["margins"]) == 4
    assert {len(each) for each in last["features"].values()} == {4}
    # Before the first gradient there is no momentum.
    assert {"down_proj.momentum_cosine" in row["features"] for row in found if row["step"]} == {
        True
    }
    assert "down_proj.momentum_cosine" not in found[0]["features"]
    record = read_run(finished)
    (own,) = role_courses.chance(record)
    # Of six intervals one begins before there is any momentum, by which roles are judged, too.
    assert (own["seeds"], own["intervals"], own["least_p"]) == (2, 5, 0.5)
    assert len(role_courses.settled(record)) == 8
    assert len(role_courses.courses(record)) == len(found) * 4
    filled = html.fill(PAGE, record)
    text = " ".join(text for each in filled for text in each.text)
    assert "late falls of the loss coincide with changes of roles" in text


def test_steps_of_an_arm_are_models_where_they_are_kept(finished):
    folder = finished / "checkpoints/lidas/0_1"
    kept, saved = load(f"orbax:{folder}@12/1"), load(f"file:{finished / 'models/lidas_1'}")
    assert kept.config.layers == saved.config.layers
    for leaf, array in tree.to_leaves(saved.params).items():
        np.testing.assert_array_equal(tree.to_leaves(kept.params)[leaf], array, err_msg=leaf)


@pytest.mark.slow
def test_looks_that_were_lost_come_back(finished, tmp_path, command):
    """The last ones of an arm, of both seeds, so that they train side by side again."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    lines = (workdir / "rows.jsonl").read_text().splitlines(keepends=True)
    own = '"kind": "roles"', '"step": 12', '"arm": "lidas"'
    lost = [all(each in line for each in own) for line in lines]
    (workdir / "rows.jsonl").write_text(
        "".join(itertools.compress(lines, map(operator.not_, lost)))
    )
    assert sum(lost) == 2
    assert command(*flags(workdir)).status == 0
    found, expected = (
        {row["hash"]: row for row in without_times(run_files.read_rows(each))}
        for each in (workdir, finished)
    )
    assert found == expected


@pytest.mark.slow
def test_sigkill_across_growth_gives_the_same_rows(finished, tmp_path, command, run_python):
    argv = flags(tmp_path / "run")
    for death in ("write:baseline:7", "write:lidas:3", "save:lidas:4", f"write:lidas:{STEPS}"):
        killed = run_python(SCRIPT, death, *argv, devices=1, check=False, timeout=400)
        assert killed.returncode == -signal.SIGKILL, (death, killed.stderr)
    assert command(*argv).status == 0
    found, expected = (
        without_times(run_files.read_rows(each)) for each in (tmp_path / "run", finished)
    )
    assert found == expected


@pytest.mark.slow
def test_two_devices_and_two_processes_give_the_rows_of_one(finished, tmp_path, run_python):
    arms = "baseline,lidas,aligned"
    expected = {(row["arm"], row["seed"]): row for row in rows_of(finished, "final")}
    looks = {}
    for name, options in (("devices", {"devices": 2}), ("processes", {"processes": 2})):
        start(run_python, *flags(tmp_path / name, arms=arms), **{"devices": 1} | options)
        looks[name] = rows_of(tmp_path / name, "roles")
        finals = rows_of(tmp_path / name, "final")
        assert len(finals) == 6
        for row in finals:
            own = expected.setdefault((row["arm"], row["seed"]), row)
            for field in ("unit_nll", "nll_by_hop", "unit_tokens"):
                assert row[field] == pytest.approx(own[field], rel=1e-4)
            assert row["answered_by_hop"] == own["answered_by_hop"]
    assert len(looks["devices"]) == len(looks["processes"]) > 0
    for own, other in zip(*looks.values(), strict=True):
        place, its = ([row[name] for name in ("arm", "seed", "step")] for row in (own, other))
        assert place == its
        assert own["features"].keys() == other["features"].keys()
        cv, its = (row["features"]["co_magnitude_cv"] for row in (own, other))
        assert cv == pytest.approx(its, rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task.hops": 10}, "10 hops need 13 tokens or more"),
        ({"task.alphabet": 1}, "alphabet of KHop"),
        ({"task.alphabet": 6}, "3 questions with 6 symbols must have 18 rows or more"),
        ({"task.name": "kjop"}, "unknown task 'kjop'"),
        ({"task.name": "automaton", "task.hops": 11}, "11 steps need 13 tokens"),
        ({"arms": "flat_5"}, "'flat_5' has 5 layers of a model of 4"),
        ({"arms": "lidas_b3"}, "got a target of 4"),
        ({"held_out_sequences": 9}, "held_out_sequences must be a multiple of batch_size; got 9"),
        ({"train.grad_accum_steps": 2}, "a batch cannot be taken in parts; got train.grad_accum"),
        ({"depth_sequences": 7}, "depth_sequences must be a multiple of batch_size; got 7"),
        ({"depth_sequences": 16}, "depth_sequences must be some of the held-out sequences; got 16"),
        ({"step_overhead": -1.0}, "step_overhead must be a number of layers"),
        ({"seeds": f"{2**32}"}, "seeds must be whole numbers"),
        ({"tuning_seeds": -1}, "tuning_seeds must be whole numbers, 0 or above"),
        ({"roles_every": 7}, "roles_every must be a multiple of eval_every"),
        ({"roles_every": -5}, "roles_every must be a whole number, 0 or above; got -5"),
        (
            {"model.num_layers": 3, "block": 1, "arms": "baseline"},
            "roles need at least 4 layers to compare; this model has 3",
        ),
        ({"block": 7}, "block must be at most half of the model's 4 layers, so that there is"),
        ({"block": 0, "arms": "flat_2"}, "block must be a whole number, 1 or above; got 0"),
        ({"arms": "baseline,flat_4"}, "arms 'baseline' and 'flat_4' are the same"),
        ({"task.own_rules": True}, "task 'khop' has alphabet, seq_len, hops; got own_rules=True,"),
        ({"task.name": "automaton", "task.names": 5}, "own_rules; got names=5, of another task"),
        ({"task.name": "automaton", "task.rule_seed": -1}, "rule_seed of Automaton must be"),
        (
            {"task.name": "assignments", "task.seq_len": 104},
            "must have 69 rows or more; got vocab_size 16; raise it",
        ),
        (
            {"task.name": "assignments"},
            "got seq_len=12, worked out from names and values; leave it out",
        ),
        (
            {"task.name": "assignments", "task.seq_len": 104, "task.alphabet": 9},
            "got alphabet=9, worked out from names and values; leave it out",
        ),
        (
            {
                "task.name": "assignments",
                "task.names": 9,
                "task.seq_len": 104,
                "task.hops": 8,
                "model.vocab_size": 200,
            },
            "of 8 none asks hop 6; raise held_out_sequences or ask fewer hops",
        ),
    ],
)
def test_bad_input_is_refused_in_a_line(tmp_path, command, fields, message):
    done = command(*flags(tmp_path / "run", **fields))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_and_a_list_say_what_there_is(command):
    done = command("khop_growth", "--dry_run", "--config.arms=baseline,expand_2_at_70")
    assert done.status == 0
    assert done.out.startswith("KHop(alphabet=4, seq_len=104, hops=24)\n")
    assert "expand_2_at_70: 400 steps (2 layers 280, 6 layers 120)" in done.out
    assert "\nmemory of the device, 6 layers: 0.55 GB on paper (" in done.out
    listed = command("khop_growth", "--list").out
    assert "fresh_layers" in listed
    assert "automaton" in listed

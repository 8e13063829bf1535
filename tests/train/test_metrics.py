"""Lines of `metrics.jsonl`: what they hold, what a second start does to them, TensorBoard."""

import json
import struct
import sys

import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.train.metrics import NO_PEAK, Metrics, read_metrics
from jaxanatomy.train.points import DIVERGED, Account, Evaluation, StepMetrics


def steps(first, losses_EM, **changes):
    """Steps of 10 tokens, 7 FLOPs and half a second each."""
    count = len(losses_EM)
    done = first + count
    loss_EM = np.array(losses_EM, np.float32)
    rate_EM = 0.1 * np.arange(first, done)[:, None] * np.arange(1, loss_EM.shape[1] + 1)
    values = {"stage": 0, "first": first, "rate_EM": rate_EM}
    values |= {"loss_EM": loss_EM, "norm_EM": 2 * loss_EM, "update_EM": loss_EM / 2}
    values |= {"mfu": 0.5, "step_seconds": 0.5}
    values["account"] = Account(10 * done, 7 * done, 0.5 * done)
    return StepMetrics(**{**values, "step_tokens": 10, "step_flops": 7, **changes})


def point(step):
    values = {"stage": 0, "step": step, "account": Account(10 * step, 7 * step, 0.5 * step)}
    values |= {"stopped": [None] * 2, "loss": [None, None], "reason": ["", ""]}
    return Evaluation(
        **values, eval_nll=[3.0, float("nan")], by_source={"code": [2.0, 4.0]}, units={}
    )


def places(folder):
    return [(line["arm"], line["seed"], line["step"]) for line in read_metrics(folder)]


def test_a_line_has_what_was_known_after_its_step(tmp_path):
    with Metrics(tmp_path, "midas", [4, 9]) as metrics:
        metrics.write(steps(3, [[1.5, 2.5], [1.25, np.nan]], stage=1, mfu=None))
    first, _, _, last = read_metrics(tmp_path)
    assert first == {
        "arm": "midas",
        "seed": 4,
        "stage": 1,
        "step": 4,
        "loss": 1.5,
        "mfu": None,
        "gradient_norm": 3.0,
        "update_norm": 0.75,
        "tokens": 40,
        "flops": 28,
        "seconds": 2.0,
        "tokens_per_second": 20.0,
        "learning_rate": pytest.approx(0.3),
        "reason": NO_PEAK,
    }
    assert (last["seed"], last["step"], last["loss"]) == (9, 5, None)
    assert last["learning_rate"] == pytest.approx(2 * 0.4)
    assert last["reason"] == f"{DIVERGED}; {NO_PEAK}"
    assert places(tmp_path) == [("midas", 4, 4), ("midas", 4, 5), ("midas", 9, 4), ("midas", 9, 5)]


def test_a_seed_that_was_stopped_says_why_and_not_that_it_diverged(tmp_path):
    with Metrics(tmp_path, "midas", [4, 9]) as metrics:
        stopped = ["", "alarm: spectral of q_proj in layer 2: 31"]
        metrics.write(steps(0, [[1.5, 2.5]]), stopped=stopped)
        metrics.write(steps(1, [[1.0, np.nan]]), stopped=stopped)
    reasons = {(line["seed"], line["step"]): line["reason"] for line in read_metrics(tmp_path)}
    assert reasons == {(4, 1): "", (4, 2): "", (9, 1): "", (9, 2): stopped[1]}


def test_a_gradient_that_is_not_finite_is_null_and_says_so(tmp_path):
    with Metrics(tmp_path, "midas", [0]) as metrics:
        metrics.write(steps(0, [[1.0]], norm_EM=np.array([[np.inf]])))
    (line,) = read_metrics(tmp_path)
    assert (line["loss"], line["gradient_norm"], line["reason"]) == (1.0, None, DIVERGED)


def test_a_second_start_takes_the_place_of_what_came_after_its_checkpoint(tmp_path):
    for arm, seeds in (("midas", [0, 1]), ("baseline", [0, 1]), ("midas", [2])):
        with Metrics(tmp_path, arm, seeds) as metrics:
            metrics.write(steps(0, [[1.0] * len(seeds)] * 4))
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"arm": "torn by a ki')
    with Metrics(tmp_path, "midas", [0, 1]) as metrics:
        assert len(places(tmp_path)) == 20  # nothing is dropped before something is written
        metrics.write(steps(2, [[5.0, 5.0]]))
        metrics.write(steps(3, [[6.0, 6.0]]))
    found = places(tmp_path)
    assert len(set(found)) == len(found) == 20
    loss = {
        (line["arm"], line["seed"], line["step"]): line["loss"] for line in read_metrics(tmp_path)
    }
    for seed in (0, 1):
        assert [loss["midas", seed, step] for step in (1, 2, 3, 4)] == [1, 1, 5, 6]
    others = {key: loss[key] for key in loss if key[0] == "baseline" or key[1] == 2}
    assert (len(others), set(others.values())) == (12, {1.0})
    # From the first step again, as without any checkpoint; and on to fewer steps.
    with Metrics(tmp_path, "midas", [0, 1]) as metrics:
        metrics.write(steps(0, [[7.0, 7.0]]))
    assert [each for each in places(tmp_path) if each[:2] == ("midas", 0)] == [("midas", 0, 1)]
    assert len(places(tmp_path)) == 14


def test_no_file_and_a_corrupt_one(tmp_path):
    assert read_metrics(tmp_path) == []
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"arm": "a", "seed": 0, "step": 1}\n{"arm": 3}\n')
    with pytest.raises(InputError, match=r"arm, seed and step in line 2 of .*delete the line"):
        read_metrics(tmp_path)
    path.write_text('{"arm": "a", "seed": 0, "step": 1}\n{"arm"')
    assert len(read_metrics(tmp_path)) == 1


def events(folder):
    """(step, tag, value) of TensorBoard's files: length, checksum, message, checksum, ..."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found


def test_tensorboard_has_the_same_numbers(tmp_path):
    with Metrics(tmp_path, "midas", [4, 9], tensorboard=True) as metrics:
        metrics.write_point(point(0))
        metrics.write(steps(0, [[1.5, 2.5], [1.25, np.nan]]))
    first, second = (events(tmp_path / "tensorboard/midas" / name) for name in ("seed_4", "seed_9"))
    assert first[:2] == [(0, "held_out/nll", 3.0), (0, "held_out/code", 2.0)]
    values = {(step, tag): value for step, tag, value in first}
    assert [values[step, "train/loss"] for step in (1, 2)] == [1.5, 1.25]
    assert values[2, "train/learning_rate"] == pytest.approx(0.1)
    assert (values[1, "train/mfu"], values[1, "train/tokens_per_second"]) == (0.5, 20.0)
    losses = [(step, value) for step, tag, value in second if tag == "train/loss"]
    assert losses == [(1, 2.5)]
    assert [each[:2] for each in second if each[0] == 0] == [(0, "held_out/code")]
    assert len(places(tmp_path)) == 4


def test_tensorboard_without_its_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"run pip install 'jaxanatomy\[tensorboard\]', or leave"):
        Metrics(tmp_path, "midas", [0], tensorboard=True)
    assert not any(tmp_path.iterdir())
    Metrics(tmp_path, "midas", [0])


def test_lines_are_plain_json(tmp_path):
    with Metrics(tmp_path, "midas", [0]) as metrics:
        metrics.write(steps(0, [[np.inf]]))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] is None

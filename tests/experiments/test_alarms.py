"""Alarms scored, from the command line, on a small model."""

import json

import pytest
import run_files

from jaxanatomy import config_files
from jaxanatomy.train.alarms import Alarms
from jaxanatomy.train.faults import FAULTS, TWINS

pytestmark = pytest.mark.usefixtures("fixed_version")
STEPS, FAULT, AFTER = 16, 8, 5
FIELDS = {
    "faults": ",".join(name for name in FAULTS if name not in TWINS),
    "seeds": "0,1",
    "healthy_seeds": "200,201,202",
    "calibration_seeds": "100,101",
    "intervals": "1,3",
    "steps": STEPS,
    "fault_step": FAULT,
    "after": AFTER,
    "batch_size": 2,
    "model.num_layers": 4,
    "model.hidden_size": 8,
    "model.num_heads": 2,
    "model.num_kv_heads": 1,
    "model.ffn_width": 16,
}


def flags(workdir, **fields):
    given = (f"--config.{name}={value}" for name, value in (FIELDS | fields).items())
    return ["alarms", f"--workdir={workdir}", *given]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "alarms"
    done = command(*flags(workdir))
    assert (done.status, done.err) == (0, "")
    return workdir


@pytest.mark.slow
def test_every_run_is_read_at_every_step_and_faults_change_what_follows(finished):
    rows = {(r["fault"], r["purpose"], r["seed"]): r for r in run_files.read_rows(finished)}
    assert len(rows) == 2 * (2 + len(FAULTS)) + 3 * len(TWINS)
    for (fault, _, seed), row in rows.items():
        first = 0 if fault == "no_warmup" else FAULT
        steps = STEPS if fault in TWINS else first + AFTER
        assert row["fault_step"] == first
        assert len(row["loss"]) == len(row["gradient"]) == steps
        assert {len(series) for series in row["series"].values()} == {steps + 1}
        if fault in TWINS:
            continue
        twin = rows[row["twin"], "score", seed]
        assert FAULTS[fault].low <= row["severity"] <= FAULTS[fault].high
        # The same to the bit before the fault, and another afterwards.
        assert row["loss"][:first] == twin["loss"][:first]
        assert row["loss"][first + 1 :] != twin["loss"][first + 1 : steps]
        before = [row["series"]["spectral"], twin["series"]["spectral"]]
        assert before[0][:first] == before[1][:first]
    for seed in (0, 1):
        late, head = (rows[name, "score", seed] for name in ("late_layers", "head_scaled"))
        spectral = rows["healthy", "score", seed]["series"]["spectral"]
        # Two of six layers are larger: their peers' median is a healthy one.
        assert late["series"]["spectral"][FAULT] > 0.9 * late["severity"]
        assert head["series"]["spectral"][FAULT] > 1.2 * spectral[FAULT]
        spike = rows["rate_spike", "score", seed]
        healthy = rows["healthy", "score", seed]["series"]["update_growth"]
        times = spike["series"]["update_growth"][FAULT] / healthy[FAULT]
        assert times == pytest.approx(spike["severity"], rel=1e-3)
    summary = json.loads((finished / "summary.json").read_text())
    places = {(row["interval"], row["fault"]) for row in summary["detection"]}
    assert places == {
        (interval, fault)
        for interval in (1, 3)
        for fault in (*FAULTS, "all faults", "all but corrupted batches")
        if fault not in TWINS
    }
    # Further healthy runs count as such, and as nothing else.
    assert {row["runs"] for row in summary["detection"] if row["fault"] in FAULTS} == {2}
    assert {(row["seeds"], row["steps"]) for row in summary["false_alarms"]} == {
        (5, 5 * (STEPS + STEPS - FAULT))
    }
    assert (finished / "report.html").exists()


@pytest.mark.slow
def test_what_was_lost_is_trained_again_and_the_rest_is_not(finished, command, tmp_path):
    rows = run_files.read_rows(finished)
    lines = (finished / "rows.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line, row in zip(lines, rows, strict=True) if row["fault"] != "gain_drift"]
    (finished / "rows.jsonl").write_text("".join(kept))
    assert command(*flags(finished)).status == 0
    again = {row["hash"]: row for row in run_files.read_rows(finished)}
    assert again == {row["hash"]: row for row in rows}


def test_the_longest_interval_is_the_one_that_ships():
    """Pages and docs say of it what is found as shipped."""
    assert max(config_files.shipped("alarms").intervals) == Alarms().every


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"faults": "earthquake"}, "unknown fault 'earthquake'"),
        ({"faults": "healthy"}, "unknown fault 'healthy'"),
        ({"seeds": "0"}, "seeds and calibration_seeds must be two or more each"),
        (
            {"calibration_seeds": "1,2"},
            "seeds and calibration_seeds must have none in common; got [1] in both",
        ),
        ({"healthy_seeds": "101,102"}, "healthy_seeds and calibration_seeds must have none"),
        ({"healthy_seeds": "200,200"}, "each of healthy_seeds may come once; repeated: 200"),
        ({"after": 9}, "must end within the schedule of 16 steps"),
        ({"margin": 0.5}, "margin must be 1 or more"),
        ({"intervals": "0,1"}, "intervals"),
        (
            {"model.num_layers": 2},
            "model.num_layers must be 3 or more, as spectral, cv, dead compare a layer with its "
            "peers; got 2; raise model.num_layers",
        ),
        ({"shipped.spectral": "3,2,1"}, "alarms.spectral must be three levels"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, tmp_path, fields, message):
    done = command(*flags(tmp_path / "run", **fields))
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run" / "rows.jsonl").exists()

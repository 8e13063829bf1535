"""The page of alarms: what its rows and its headline say, of a summary made by rule."""

from measures.arms.test_alarms import CALIBRATION, FAULT, HEALTHY, SHIPPED, run

from jaxanatomy.measures.arms.alarms import ALL, CLEAN_FAULTS, EVERY_FAULT, SIMPLEST, summarise
from jaxanatomy.measures.arms.alarms import SHIPPED as AS_SHIPPED
from jaxanatomy.records import RunRecord
from jaxanatomy.report import alarms

ROWS = [
    *CALIBRATION,
    *HEALTHY,
    *(
        run(seed, "late", planted=("spectral", FAULT + 5, 9.0), loss={FAULT + 12: 3.0})
        for seed in range(20)
    ),
    *(run(seed, "nothing") for seed in range(20)),
]
RECORD = RunRecord("run", ROWS, {}, {}, summarise(ROWS, SHIPPED, (1, 10), 1.25))


def test_a_fault_that_doubles_no_loss_has_no_share_found_in_time():
    rows = {row["fault"]: row for row in alarms.beside(RECORD)}
    assert list(rows) == ["late", "nothing", EVERY_FAULT]
    assert rows["late"][f"before.{ALL} (every 1)"].value == 1
    assert rows["late"]["lead"] == 7
    assert rows["nothing"][f"before.{SIMPLEST} (every 1)"] == "no loss doubled"
    assert rows["nothing"]["doubled"] == 0


def test_losses_are_those_of_the_twin_before_the_fault():
    rows = [row for row in alarms.losses(RECORD) if row["panel"] == "late"]
    assert {row["ratio"] for row in rows if row["step"] < 12} == {1.0}
    assert len({row["seed"] for row in rows}) == alarms.SHOWN


def test_corrupted_batches_are_told_apart_and_what_ships_is_told():
    """Their own losses do not count as doubled, so that they are found early by the scoring."""
    corrupted = [
        run(seed, "bad", loss={FAULT: 30.0, FAULT + 4: 3 / 30}, corrupted=4) for seed in range(20)
    ]
    rows = [*ROWS, *corrupted]
    record = RunRecord("run", rows, {}, {}, summarise(rows, SHIPPED, (1, 10), 1.25))
    assert list(row["fault"] for row in alarms.beside(record))[-2:] == [EVERY_FAULT, CLEAN_FAULTS]
    clean = alarms.beside(record)[-1]
    assert (clean["doubled"], clean[f"before.{ALL} (every 1)"].value) == (20, 1)
    assert f"before.{AS_SHIPPED} (every 10)" in clean


def test_kinds_without_a_level_are_named():
    rows = [
        row | {"series": row["series"] | {"spectral": [0.0] * len(row["series"]["spectral"])}}
        for row in ROWS
    ]
    record = RunRecord("run", rows, {}, {}, summarise(rows, SHIPPED, (1,), 1.25))
    assert alarms.left_out(record).startswith("Left out of the chosen levels: spectral. ")
    assert {row["kind"]: row["chosen"] for row in alarms.levels(record)}["spectral"] is None
    assert alarms.left_out(RECORD) is None

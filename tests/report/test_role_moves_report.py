"""The page of moving roles: its rows, and what its headline says, of rows made by rule."""

import numpy as np
import role_moves_run as run

from jaxanatomy.measures.arms.role_moves import AGAIN, UNIFORM, summarise
from jaxanatomy.records import RunRecord
from jaxanatomy.report import role_moves

ARMS = dict.fromkeys((UNIFORM, AGAIN, "random_policy"), (0.0, 0.0))
PLANTED = ARMS | {"learned_policy": (-0.2, 0.2)}


def record(arms=PLANTED):
    rows = run.run_rows(np.random.default_rng(0), arms)
    rows += [point for arm in arms for seed in range(5) for point in run.curve_rows(arm, seed, 2.0)]
    rows += run.proposal_rows("learned_policy", 0, [0.1, 0.2, 0.4])
    rows += run.proposal_rows("learned_policy", 1, [0.1, 0.1, 0.1])
    return RunRecord("run", rows, {}, {}, summarise(rows, {UNIFORM: "the baseline"}))


def test_the_headline_names_the_arms_that_stand_out():
    told = role_moves.headline(record())
    assert "another order of the text: above 0: learned_policy; " in told
    assert "less the baseline's: below 0: learned_policy; " in told
    assert "above 0" not in role_moves.headline(record(ARMS)).partition("Saturated")[0]
    assert role_moves.headline(RunRecord("run", [], {}, {}, {})) is None


def test_policies_drift_in_doublings_over_seeds():
    rows = role_moves.drift(record())
    assert {row["tensor"] for row in rows} == {"q_proj", "down_proj"}
    assert len(rows) == 2 * run.LAYERS
    assert all(row["doublings"] == 1.0 for row in rows)  # two of one seed, none of the other


def test_every_layer_of_every_seed_has_a_role_and_curves_leave_out_what_diverged():
    rows = role_moves.strips(record())
    assert len(rows) == len(PLANTED) * 5 * run.LAYERS
    points = role_moves.curves(record())
    assert {(row["arm"], row["step"]) for row in points} == {
        (arm, step) for arm in PLANTED for step in (0, 250, 500)
    }
    (first,) = [row for row in role_moves.costs(record()) if row["arm"] == UNIFORM]
    assert (first["what"], first["kept"]) == ("the baseline", 5)

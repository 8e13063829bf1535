"""What must not meet the claims about roles of models that train, beside their two worlds."""

import math

import numpy as np
import pytest
import role_moves_run as run
from claims.worlds import BY_ID, evidence
from claims.worlds_role_courses import MUST_NOT_HOLD as COURSES
from claims.worlds_role_moves import MUST_NOT_HOLD as MOVES
from claims.worlds_role_shape import MUST_NOT_HOLD as SHAPES

from jaxanatomy.claims.audit import error_of
from jaxanatomy.claims.core import HOLDS
from jaxanatomy.measures.arms.finals import finals_by_arm
from jaxanatomy.measures.arms.role_moves import UNIFORM, lost_positions, rank_changes

DRAWS = 20
MUST_NOT_HOLD = MOVES | SHAPES | COURSES
WORLDS = {(id, name): make for id, own in MUST_NOT_HOLD.items() for name, make in own.items()}


@pytest.mark.parametrize(("id", "name"), WORLDS)
def test_what_is_no_finding_meets_no_claim(id, name):
    claim = BY_ID[id]
    for seed in range(DRAWS):
        made = evidence(claim, WORLDS[id, name], seed)
        assert claim.finding(made, error_of(claim)).verdict != HOLDS


def test_what_is_lost_and_how_far_ranks_change_by_hand():
    score_RL = np.full((4, run.LAYERS), 0.5)
    base = run.final_row(UNIFORM, 0, [1.0], score_RL, [(0, 1), (2, 3)], rank=20.0)
    own = run.final_row("none", 0, [1.0], score_RL, [(2, 3), (2, 4), (1, 1)], rank=17.5)
    rank_L = own["features"]["down_proj.effective_rank"]
    rank_L[4] = 24.0
    by_arm = finals_by_arm([base, own])
    assert lost_positions(by_arm) == {"none": {0: 1}}
    assert rank_changes(by_arm) == {"none": {0: 4.0}}
    rank_L[2] = None
    assert math.isnan(rank_changes(by_arm)["none"][0])

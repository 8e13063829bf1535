"""The arms of moving roles, by name; the one place to enter one."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.measures.arms.role_moves import AGAIN, UNIFORM
from jaxanatomy.train.arm_plan import Emit, Trial
from jaxanatomy.train.callbacks import Every, Response, RunState
from jaxanatomy.train.evaluation import score
from jaxanatomy.train.optimiser import COLUMNS, with_layer_factors
from jaxanatomy.train.policy import REWARDS_UNTIL_LEARNED, Lever
from jaxanatomy.train.proposals import Proposer
from jaxanatomy.train.role_plan import JUDGED, RoleArm, RolePlan
from jaxanatomy.train.shape_arms import SHAPE_ARMS, Baseline

_NEVER = 2**31
_CLAMPS = {"decay": "decay", "rate": "rate_scale"}  # fields of PolicySettings


@dataclasses.dataclass(frozen=True)
class Undecayed(RoleArm):
    """No weight decay."""

    def callbacks(self, plan: RolePlan, trials: Sequence[Trial], emit: Emit) -> list[Every]:
        """Sets the factors on the decay to 0 before the first step."""
        del emit
        shape = len(trials), plan.model.num_layers, len(COLUMNS)

        def begin(state: RunState) -> Response | None:
            if state.step:
                return None
            return Response(moments=with_layer_factors(state.moments, layer_decays=np.zeros(shape)))

        return [Every(_NEVER, begin, at_ends=True)]


@dataclasses.dataclass(frozen=True)
class Proposed(RoleArm):
    """Coefficients proposed by a policy, which is judged by held-out text.

    Attributes:
      of: "decay", of each matrix of each layer, or "rate", of each layer.
      learns: Whether the policy does; else it proposes at random to the end.
    """

    of: str = "decay"
    learns: bool = True

    def require(self, plan: RolePlan) -> None:
        """Refuses a policy that would change nothing, and clamps that end a run (LR section 7)."""
        every, steps = plan.policy.every, plan.config.steps
        least = every * (REWARDS_UNTIL_LEARNED if self.learns else 1)
        if steps <= least:
            why = "proposes what it has learned" if self.learns else "draws a second time"
            raise InputError(
                f"steps must be above {least}, at which a policy that proposes every {every} steps "
                f"first {why}; got {steps}; lower policy.every or raise steps"
            )
        if plan.alarms.acts:
            raise InputError(
                "alarms that act set the rates that a policy proposes; got alarms.actions="
                f"{plan.alarms.actions}; take warn or stop"
            )
        lever, optimiser = self.lever(plan), plan.optimiser
        if not lever.low < lever.begin < lever.high:
            raise InputError(
                "policy.decay must hold optimiser.weight_decay, from which it begins; got "
                f"{plan.policy.decay} and {lever.begin}; widen it or change the decay"
            )
        largest = max(plan.config.learning_rates) * lever.high
        largest *= optimiser.weight_decay if self.of == "rate" else 1.0
        for factors in (optimiser.rate_factors, optimiser.decay_factors):
            largest *= max([1.0, *(factor for _, factor in factors)])
        if largest >= 1:
            raise InputError(
                "the largest rate times the largest decay, factors included, must be below 1, or a "
                f"step turns weights round; got {largest:g}; lower policy.{_CLAMPS[self.of]}, "
                "learning_rates or the factors of the optimiser"
            )

    def lever(self, plan: RolePlan) -> Lever:
        """What is proposed."""
        if self.of == "rate":
            return Lever("layer_rates", ("layer",), 1.0, *plan.policy.rate_scale)
        decay = plan.optimiser.weight_decay
        return Lever("layer_decays", tree.MATRICES, decay, *plan.policy.decay)

    def callbacks(self, plan: RolePlan, trials: Sequence[Trial], emit: Emit) -> list[Every]:
        """The policy at work."""
        judged = self.held_out(plan, plan.parts[JUDGED])

        def judge(state: RunState) -> list[float]:
            return score(state.setup, state.stage, state.params, judged).mean()

        seeds = [trial.seed for trial in trials]
        lever = self.lever(plan)
        return Proposer(plan.policy, lever, self.learns, seeds, judge, emit).callbacks()


ARMS: Mapping[str, RoleArm] = {
    UNIFORM: Baseline("one weight decay for all matrices: the baseline"),
    AGAIN: RoleArm("the same from the same initial weights, its text in another order", order=1),
    "none": Undecayed("no weight decay"),
    "random_policy": Proposed("a decay for each matrix of each layer, drawn anew", learns=False),
    "learned_policy": Proposed("the same, proposed by a policy that learns (LR section 5)"),
    "random_rates": Proposed(
        "a factor on each layer's learning rate, drawn anew", of="rate", learns=False
    ),
    "rate_scale": Proposed("the same, proposed by a policy that learns (LR section 7)", of="rate"),
    **SHAPE_ARMS,
}

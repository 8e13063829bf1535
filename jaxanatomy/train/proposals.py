"""A policy at work: a callback that judges its last proposal and makes the next one.

    proposer = Proposer(settings, lever, True, seeds=(0, 1), judge=judge, emit=emit)
    trainer.train(folder, proposer.callbacks())

What a proposal sets are factors in the optimiser's state, so that the compiled step is that of
every other arm. A checkpoint has the factors, and with the callback's memory the policy.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxanatomy.measures.arms.role_moves import PROPOSAL, STUCK
from jaxanatomy.measures.losses import finite
from jaxanatomy.progress import LOG
from jaxanatomy.train.callbacks import Every, Response, RunState
from jaxanatomy.train.optimiser import COLUMNS, with_layer_factors
from jaxanatomy.train.policy import (
    Lever,
    PolicySettings,
    PolicyState,
    at_clamp,
    draw,
    start,
    update,
)


class Proposer:
    """Proposes for the seeds that train together; what it remembers is kept with checkpoints."""

    def __init__(
        self,
        settings: PolicySettings,
        lever: Lever,
        learns: bool,
        seeds: Sequence[int],
        judge: Callable[[RunState], Sequence[float]],
        emit: Callable[[RunState, str, Sequence[dict[str, Any]]], Any],
    ):
        """Nothing is proposed yet.

        Args:
          settings: When, how far and how it learns.
          lever: What is proposed.
          learns: Whether rewards change it; a random policy stays as it begins.
          seeds: Of the noise, one for each of those that train together.
          judge: The held-out loss of each.
          emit: Called with the run, the kind and the fields of a row for each.
        """
        self._settings, self._lever, self._learns = settings, lever, learns
        self._seeds, self._judge, self._emit = seeds, judge, emit
        self._memory: dict[str, Any] = {"step": None, "number": 0, "at_clamp": 0}

    def callbacks(self) -> list[Every]:
        """For the trainer."""
        return [Every(self._settings.every, self._propose, at_ends=True, memory=self._memory)]

    def _propose(self, state: RunState) -> Response | None:
        memory, setup = self._memory, state.setup
        if memory["step"] == state.step:  # a run that was at its end, begun again
            return None
        loss_M = np.array(self._judge(state), np.float64)
        if memory["step"] is None:
            policy = start(
                self._settings, self._lever, state.stage.config.num_layers, len(self._seeds)
            )
        else:
            policy = self._learn(state, loss_M)
        memory |= {"step": state.step, "loss": list(map(finite, loss_M.tolist()))}
        memory |= {"policy": policy.to_json()}
        if state.step == setup.steps:
            return None
        x_MLC = draw(policy, self._seeds, memory["number"])
        memory |= {"number": memory["number"] + 1, "proposal": x_MLC.tolist()}
        factor_MNC = self._factors(x_MLC)
        return Response(
            moments=with_layer_factors(state.moments, **{self._lever.factors: factor_MNC})
        )

    def _learn(self, state: RunState, loss_M: np.ndarray) -> PolicyState:
        """The policy after the reward of its last proposal, which has a row for each seed."""
        memory, lever = self._memory, self._lever
        policy, x_MLC = PolicyState.from_json(memory["policy"]), np.array(memory["proposal"])
        reward_M = np.array(memory["loss"], np.float64) - loss_M
        self._emit(state, PROPOSAL, self._rows(policy, x_MLC, reward_M))
        self._warn(state, at_clamp(lever, policy))
        if not self._learns:
            return policy
        return update(self._settings, lever, policy, x_MLC, reward_M)

    def _rows(
        self, policy: PolicyState, x_MLC: np.ndarray, reward_M: np.ndarray
    ) -> list[dict[str, Any]]:
        lever, since = self._lever, self._memory["step"]
        parts = {
            "coefficient": lever.coefficient(x_MLC),
            "mean": lever.coefficient(policy.mean_MLC),
            "at_clamp": at_clamp(lever, policy),
        }
        return [
            {"since": since, "reward": finite(reward)}
            | {name: self._by_tensor(part_MLC[at]) for name, part_MLC in parts.items()}
            for at, reward in enumerate(reward_M)
        ]

    def _warn(self, state: RunState, at_clamp_MLC: np.ndarray) -> None:
        """Says that a coefficient has been at its clamp for long."""
        times_MLC = np.where(at_clamp_MLC, np.array(self._memory["at_clamp"]) + 1, 0)
        self._memory["at_clamp"] = times_MLC.tolist()
        stuck = np.argwhere(times_MLC == STUCK)
        if len(stuck):
            seed, layer, tensor = stuck[0]
            lever, more = self._lever, f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
            place = f"{lever.tensors[tensor]} in layer {layer} of seed {self._seeds[seed]}{more}"
            told = f"{lever.factors} of {place} at the clamp for {STUCK} proposals"
            LOG.warning("step %d: %s (%g to %g)", state.step, told, lever.low, lever.high)

    def _by_tensor(self, value_LC: np.ndarray) -> dict[str, list]:
        return {name: value_LC[:, at].tolist() for at, name in enumerate(self._lever.tensors)}

    def _factors(self, x_MLC: np.ndarray) -> np.ndarray:
        """The factors [M, L, `COLUMNS`] that a proposal stands for."""
        ratio_MLC = self._lever.coefficient(x_MLC) / self._lever.begin
        if len(self._lever.tensors) == 1:  # of the whole layer
            return np.repeat(ratio_MLC, len(COLUMNS), axis=-1)
        factor_MLC = np.ones((*ratio_MLC.shape[:2], len(COLUMNS)))
        places = [COLUMNS.index(name) for name in self._lever.tensors]
        factor_MLC[..., places] = ratio_MLC
        return factor_MLC

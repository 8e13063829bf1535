"""Arms of moving roles with layers of other widths, or with registers (LR sections 6 and 9)."""

import dataclasses
import functools
import re
from collections.abc import Sequence

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.registers import KINDS, Registers
from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.growth.widths import ORDERS, relative_widths, variable_width
from jaxanatomy.measures.arms.registers import FREQUENT, KIND, REGISTERS
from jaxanatomy.train.arm_plan import Emit, Fields, Trial
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.loss import LanguageModelLoss
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.registers import FrozenRowsLoss, RegisterStream, following, with_registers
from jaxanatomy.train.role_documents import DocumentRows
from jaxanatomy.train.role_plan import HELD_OUT, RoleArm, RolePlan
from jaxanatomy.train.role_reader import RoleReader
from jaxanatomy.train.setup import BatchStream


@dataclasses.dataclass(frozen=True)
class Baseline(RoleArm):
    """Equal layers and plain text, read for attention and for what its layers cost to skip."""

    def require(self, plan: RolePlan) -> None:
        """Refuses to leave out more layers than there are."""
        config, layers = plan.config, plan.model.num_layers
        require_whole("skip_most", config.skip_most)
        if config.skip_most >= layers:
            raise InputError(
                f"skip_most must be below the {layers} layers; got {config.skip_most}; lower it"
            )

    def final_fields(
        self, plan: RolePlan, trial: Trial, config: ModelConfig, params: tree.Params
    ) -> Fields:
        """Of `RoleReader`."""
        del trial
        reader = _reader(config, plan.parts[HELD_OUT], None, plan.config.skip_most)
        return reader.skips(params) | reader.attention(params)


@dataclasses.dataclass(frozen=True)
class Uneven(RoleArm):
    """As many parameters, in layers of other widths.

    Attributes:
      widths: One of `growth.widths.ORDERS`.
    """

    widths: str = ""

    def model(self, plan: RolePlan) -> ModelConfig:
        """The model of these widths."""
        config = plan.config
        return variable_width(plan.model, self.widths, config.width_ratio)

    def final_fields(
        self, plan: RolePlan, trial: Trial, config: ModelConfig, params: tree.Params
    ) -> Fields:
        """The widths."""
        del plan, trial, params
        return {"widths": relative_widths(config).tolist()}


@dataclasses.dataclass(frozen=True)
class Registered(RoleArm):
    """Registers before every window.

    Attributes:
      kind: One of `data.registers.KINDS`.
    """

    kind: str = ""

    def model(self, plan: RolePlan) -> ModelConfig:
        """The model, once its registers are known to be no words, and to stay if they are to."""
        own, text = self.registers(plan), plan.text
        most = max(int(text.train_NT.max()), int(text.held_out_NT.max()))
        if most >= own.first:
            raise InputError(
                f"model.vocab_size must have room for registers.pool={own.pool} beyond the text's "
                f"tokens, up to {most}; got {plan.model.vocab_size}; set it to "
                f"{most + 1 + own.pool} or more"
            )
        if own.are_frozen and _decays_embeddings(plan.optimiser):
            raise InputError(
                f"{self.kind} must stay as they were drawn, but the optimiser decays embeddings; "
                "set optimiser.decay_norms_and_embeddings=False and no decay_factors for them"
            )
        return plan.model

    def registers(self, plan: RolePlan) -> Registers:
        """Which ids they are: the last of the vocabulary."""
        config = plan.config
        count, pool = config.registers.count, config.registers.pool
        return Registers(self.kind, count, plan.model.vocab_size - pool, pool)

    def setup_fields(self, plan: RolePlan) -> Fields:
        """The loss in which frozen rows stay."""
        own = self.registers(plan)
        frozen = functools.partial(FrozenRowsLoss, first_frozen=own.first)
        return {"objective": frozen if own.are_frozen else LanguageModelLoss}

    def stream(self, plan: RolePlan, trial: Trial, stream: BatchStream) -> BatchStream:
        """The text with registers."""
        return RegisterStream(stream, self.registers(plan), trial.seed)

    def held_out(self, plan: RolePlan, held_out: DocumentRows) -> DocumentRows:
        """The same."""
        return with_registers(held_out, self.registers(plan))

    def callbacks(self, plan: RolePlan, trials: Sequence[Trial], emit: Emit) -> list[Every]:
        """Follows registers, and as many frequent tokens."""
        del trials
        config, own = plan.config, self.registers(plan)
        rows = {
            REGISTERS: range(own.first, own.first + own.count),
            FREQUENT: np.argsort(-np.bincount(plan.text.train_NT.ravel()))[: own.count].tolist(),
        }
        follow = lambda state, found: emit(state, KIND, found)  # noqa: E731
        return [following(rows, follow, config.eval_every)]

    def final_fields(
        self, plan: RolePlan, trial: Trial, config: ModelConfig, params: tree.Params
    ) -> Fields:
        """Attention on registers."""
        del trial
        reader = _reader(config, plan.parts[HELD_OUT], self.registers(plan))
        return reader.attention(params)


def _decays_embeddings(optimiser: Optimiser) -> bool:
    patterns = (pattern for pattern, factor in optimiser.decay_factors if factor)
    named = any(re.fullmatch(pattern, "embed/embedding") for pattern in patterns)
    return optimiser.weight_decay > 0 and (named or optimiser.decay_norms_and_embeddings)


@functools.lru_cache(maxsize=4)
def _reader(
    config: ModelConfig, held_out: DocumentRows, registers: Registers | None, most: int = 1
) -> RoleReader:
    """One for all seeds of an arm: it is compiled once."""
    if registers is None:
        return RoleReader(config, held_out, most=most)
    return RoleReader(config, with_registers(held_out, registers), registers.count)


SHAPE_ARMS: dict[str, RoleArm] = {
    **{name: Uneven(help, widths=name) for name, help in ORDERS.items()},
    **{name: Registered(help, kind=name) for name, help in KINDS.items()},
}

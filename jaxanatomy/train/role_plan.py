"""What a run of moving roles is: its arms, its text, how each arm departs from plain training."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.facts import batch_order
from jaxanatomy.data.joined import JoinedRows, joined_rows
from jaxanatomy.data.vocabulary import check_vocabulary, load_tokenizer
from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.forensics.roles import require_layers
from jaxanatomy.growth.stages import Stage
from jaxanatomy.measures.arms.depth_growth import final_fields, point_fields
from jaxanatomy.measures.arms.role_moves import TUNED_BY, UNIFORM, layer_fields
from jaxanatomy.measures.arms.tuning import MAIN
from jaxanatomy.model import INITS
from jaxanatomy.train.arm_fields import check_trials, require_whole_batches, training_fields
from jaxanatomy.train.arm_plan import ArmPlan, Emit, Fields, Trained, Trial
from jaxanatomy.train.callbacks import Every
from jaxanatomy.train.documents import DocumentBatches
from jaxanatomy.train.evaluation import Scorer
from jaxanatomy.train.loss import Batch
from jaxanatomy.train.points import Evaluation
from jaxanatomy.train.policy import PolicySettings
from jaxanatomy.train.role_documents import DocumentRows, by_document, rows_apart
from jaxanatomy.train.setup import BatchStream, Setup

HELD_OUT, JUDGED = "held_out", "judged"


@dataclasses.dataclass(frozen=True)
class RoleArm:
    """An arm: plain training, of which a kind of arm changes what it is about.

    Attributes:
      help: What it is, one line.
      order: Which order of the text; arms of the same one read the same, seed by seed.
    """

    help: str
    order: int = 0

    def require(self, plan: "RolePlan") -> None:
        """Refuses settings that it cannot train with."""

    def model(self, plan: "RolePlan") -> ModelConfig:
        """Its architecture."""
        return plan.model

    def setup_fields(self, plan: "RolePlan") -> Fields:
        """Fields of `Setup` that are its own."""
        del plan
        return {}

    def stream(self, plan: "RolePlan", trial: Trial, stream: BatchStream) -> BatchStream:
        """What it reads of a text."""
        del plan, trial
        return stream

    def held_out(self, plan: "RolePlan", held_out: DocumentRows) -> DocumentRows:
        """What it is scored on."""
        del plan
        return held_out

    def callbacks(self, plan: "RolePlan", trials: Sequence[Trial], emit: Emit) -> list[Every]:
        """What is done to its training."""
        del plan, trials, emit
        return []

    def final_fields(
        self, plan: "RolePlan", trial: Trial, config: ModelConfig, params: tree.Params
    ) -> Fields:
        """What else its final rows have; the model is on the host, its layers unstacked."""
        del plan, trial, config, params
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class TextRows:
    """Rows [N, T + 1] of a text, chosen by number: what `DocumentBatches` reads."""

    token_NT: np.ndarray

    def batch(self, chosen_R: np.ndarray) -> Batch:
        """Every next token of some rows, which have no padding; on the host."""
        token_BT = self.token_NT[chosen_R]
        target_BT = token_BT[:, 1:]
        return Batch(token_BT[:, :-1], target_BT, np.ones(target_BT.shape, np.float32))


@dataclasses.dataclass(frozen=True)
class RolePlan(ArmPlan):
    """Validated settings of a run.

    Attributes:
      kinds: What each arm is.
      policy: How policies propose and learn.
      text: What is read.
      parts: Held-out text to score on, and, of other documents, to judge proposals by: a policy
        that were judged by what all are scored on would be scored on what it learns from.
    """

    kinds: Mapping[str, RoleArm]
    policy: PolicySettings
    text: JoinedRows
    parts: Mapping[str, DocumentRows]

    experiment = "role_moves"
    tuned_by = TUNED_BY

    @property
    def identity(self) -> Any:
        """The text, how much of it is held out, and the policy."""
        rows = [self.config.held_out_rows, self.config.judged_rows]
        return [self.text.identity, rows, dataclasses.asdict(self.policy)]

    @property
    def objective(self) -> Mapping[str, Any]:
        """How initial weights are drawn."""
        return {"init": self.config.init}

    def setup(self, arm: str, trials: Sequence[Trial]) -> Setup:
        """With factors by layer in the optimiser's state, whether an arm changes them or not."""
        own = self.kinds[arm].setup_fields(self)
        model = self.arms[arm][0].config
        return super().setup(arm, trials, initial=model, layer_factors=True, **own)

    def streams(self, arm: str, trials: Sequence[Trial]) -> list[BatchStream]:
        """Each seed's rows in an order of its own, that of other arms of the seed."""
        kind, rows = self.kinds[arm], TextRows(self.text.train_NT)
        shape = len(rows.token_NT), self.config.batch_size, self.config.steps
        orders = (batch_order(*shape, (trial.seed, kind.order)) for trial in trials)
        streams = [DocumentBatches(rows, order_ER) for order_ER in orders]
        return [kind.stream(self, *pair) for pair in zip(trials, streams, strict=True)]

    def scorer(self, arm: str) -> Scorer:
        """The text that nothing is trained on or judged by; its units are documents."""
        return by_document({HELD_OUT: self.kinds[arm].held_out(self, self.parts[HELD_OUT])})

    def callbacks(self, arm: str, trials: Sequence[Trial], emit: Emit) -> list[Every]:
        """What an arm does to its training."""
        return self.kinds[arm].callbacks(self, trials, emit)

    def curve_fields(self, arm: str, trial: Trial, point: Evaluation, at: int) -> Fields:
        """Losses, and what they took."""
        return point_fields(point, at)

    def final_fields(self, trained: Trained) -> list[Fields]:
        """The last losses by document; of results what the weights say of each layer."""
        point, kind, config = trained.point, self.kinds[trained.arm], trained.end.config
        found = [
            {"step": point.step, **final_fields(point, at)} for at in range(len(trained.trials))
        ]
        if trained.purpose != MAIN:
            return found
        for trial, fields, own in zip(trained.trials, found, trained.models, strict=True):
            if own is not None:
                fields |= {"alike": config == self.model, **layer_fields(config, own["layers"])}
                fields |= kind.final_fields(self, trial, config, own)
        return found


def role_plan(config: ConfigDict, kinds: Mapping[str, RoleArm], dry_run: bool = False) -> RolePlan:
    """Checks a config, what is cheap first; reads and encodes the text.

    Args:
      config: Of `experiments.role_moves`.
      kinds: All arms that there are.
      dry_run: The devices need not be here then.

    Raises:
      InputError: Something in it does not fit; the message says what.
    """
    check_trials(config)
    for arm in config.arms:
        choose("arm", arm, kinds)
    if UNIFORM not in config.arms:
        raise InputError(
            f"arms must have {UNIFORM}, the baseline that every other one is held against; got "
            f"{', '.join(config.arms)}; add it: an arm that is trained already is not trained again"
        )
    choose("init", config.init, INITS)
    require_whole("steps", config.steps)
    require_whole_batches(config, "held_out_rows", "judged_rows")
    model, policy = ModelConfig.uniform(**config.model), PolicySettings(**config.policy)
    require_layers(model)
    training = training_fields(config, dry_run)
    tokenizer = load_tokenizer(config.tokenizer)
    check_vocabulary(tokenizer, model.vocab_size)
    text = joined_rows(config.text, tokenizer, model.context_length)
    fields = dict(config=config, model=model, tokenizer=tokenizer, **training)
    fields |= dict(kinds=kinds, policy=policy, text=text, parts=_parts(config, text))
    blank = RolePlan(arms={}, **fields)
    for arm in config.arms:
        kinds[arm].require(blank)
    stages = {arm: (Stage(kinds[arm].model(blank), config.steps),) for arm in config.arms}
    return RolePlan(arms=stages, **fields)


def _parts(config: ConfigDict, text: JoinedRows) -> dict[str, DocumentRows]:
    """The parts of the held-out text by their names."""
    size, held_out, judged = config.batch_size, config.held_out_rows, config.judged_rows
    for name, count, there in (
        ("batch_size", size, len(text.train_NT)),
        ("held_out_rows and judged_rows", held_out + judged, len(text.held_out_NT)),
    ):
        if count > there:
            raise InputError(
                f"{name} must be at most the {there} rows that {config.text!r} has for it; got "
                f"{count}; lower it, or take a longer text"
            )
    rows, found = TextRows(text.held_out_NT), {}
    chosen = rows_apart(text.document_NT, held_out, judged)
    for name, own_N in zip((HELD_OUT, JUDGED), chosen, strict=True):
        batches = [rows.batch(own_N[at : at + size]) for at in range(0, len(own_N), size)]
        found[name] = DocumentRows.of(batches, text.document_NT[own_N, 1:])
    if not found[HELD_OUT].document_NT.any():
        raise InputError(
            "held_out_rows must be of 2 documents or more, so that roles are read on others than "
            f"layers are left out on; got {held_out} rows of one document of {config.text!r}; "
            "raise held_out_rows, or take a text of more documents"
        )
    return found

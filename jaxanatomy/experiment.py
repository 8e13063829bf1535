"""The experiments: their names, what each asks, and where its page is. The one place to enter one.

An experiment `NAME` is found by its name: `experiments/NAME.py` runs it, `configs/NAME.py` is its
default config, `jaxanatomy/report/NAME.py` its page, and `jaxanatomy/claims/NAME.py`, if there is
one, what papers claim of it. A run holds the name in its `config.json`, so that whoever reads the
run looks it up here and guesses nothing from its rows.
"""

import dataclasses
import importlib
import importlib.util
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.records import RunRecord


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
      name: As on the command line and in the `config.json` of its runs.
      question: What it asks.
      key: The fields that name a row among those of its runs; the others are what was found.
      trains: Whether its runs train what they measure.
    """

    name: str
    question: str
    key: tuple[str, ...] = ()
    trains: bool = False

    @property
    def page(self) -> Any:
        """Its `report.sections.Page`; imported at the first use, as figures are slow to import."""
        return importlib.import_module(f"jaxanatomy.report.{self.name}").PAGE

    @property
    def claims(self) -> tuple[Any, ...]:
        """The claims that its runs decide, each a `claims.core.Claim`."""
        name = f"jaxanatomy.claims.{self.name}"
        return importlib.import_module(name).CLAIMS if importlib.util.find_spec(name) else ()


_OF_VARIANT = ("kind", "text", "variant", "draw")
_OF_WEIGHTS = ("component", "layer", "block", "metric", "reading", "target", "null")
_OF_NOISE = ("label", "component", "layer", "alpha", "seed", "spread")
_OF_ALARM = ("alarm", "layer", "tensor", "level")
_OF_ARM = ("kind", "arm", "purpose", "learning_rate", "seed", "stage", "step", *_OF_ALARM)
_OF_EFFECT = ("convention", "part", "spread", "when", "boundary", "source", "target")
_OF_LAYER = ("layer", "metric", "positions", "block", "rank", "control")
_OF_DEPTH = ("kind", "model", "text", *_OF_EFFECT, "effect", "over", "example", *_OF_LAYER)
_OF_ROLES = ("kind", "model", "text", "layer", "component", "metric")

EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment(
            "importance",
            "What does the model lose without each layer, and its parts?",
            _OF_VARIANT,
        ),
        Experiment(
            "structure", "Do the weights of neighbouring layers follow a pattern?", _OF_WEIGHTS
        ),
        Experiment(
            "predictability",
            "Can a layer's weights be predicted from earlier layers?",
            (*_OF_WEIGHTS, *_OF_VARIANT),
        ),
        Experiment(
            "manipulation",
            "How much change of whole sets of layers does it tolerate?",
            ("set", *_OF_VARIANT, *_OF_NOISE),
        ),
        Experiment(
            "recovery",
            "How fast does a damaged layer heal?",
            (*_OF_VARIANT, "layer", "seed", "noise", "train_text", "step"),
            trains=True,
        ),
        Experiment(
            "developmental", "Does growing in phases beat training flat?", _OF_ARM, trains=True
        ),
        Experiment(
            "depth_growth", "Does growing in depth beat constant depth?", _OF_ARM, trains=True
        ),
        Experiment("khop_growth", "Does growing pay where depth matters?", _OF_ARM, trains=True),
        Experiment(
            "depth_use",
            "How deep does it compute: what do layers do to later layers and tokens?",
            _OF_DEPTH,
        ),
        Experiment(
            "evaluate",
            "Which questions does it answer, and what does a layer, cut or repeat cost by task?",
            (*_OF_VARIANT, "task", "metric"),
        ),
        Experiment(
            "surgery",
            "What does it cost to leave out, repeat or reorder any run of layers?",
            _OF_VARIANT,
        ),
        Experiment(
            "pruning",
            "Which layers can it do without, and which cheap proxy predicts it?",
            (*_OF_VARIANT, "proxy", "start", "size", "way"),
        ),
        Experiment(
            "roles",
            "What is each layer for, by its weights and what it does on a short text?",
            _OF_ROLES,
        ),
        Experiment(
            "tuned_lens",
            "What would it predict if it stopped after each layer?",
            ("kind", "text", "lens", "metric", "task", "layer", "position", "step"),
            trains=True,
        ),
        Experiment(
            "alarms",
            "Do alarms find what goes wrong in training before the loss tells?",
            ("kind", "fault", "purpose", "seed"),
            trains=True,
        ),
        Experiment(
            "role_moves",
            "Can training move the roles of layers, and does that help?",
            _OF_ARM,
            trains=True,
        ),
        Experiment("flops", "What does growing save?", ("model", "arm", "rounding")),
        Experiment(
            "grow_checkpoint",
            "What does a trained model lose when layers are inserted?",
            _OF_VARIANT,
        ),
        Experiment(
            "claims", "Which claims of the papers hold on this checkpoint?", ("claim", "model")
        ),
        Experiment("export", "The model after a change, as a folder that others open."),
    )
}


def experiment_of(record: RunRecord) -> Experiment:
    """The experiment that a run is of.

    Raises:
      InputError: The run names none that there is.
    """
    if record.experiment not in EXPERIMENTS:
        raise InputError(
            f"expected a run of {', '.join(EXPERIMENTS)}; {record.folder} names "
            f"{record.experiment or 'none'} in its config.json; measure it again"
        )
    return EXPERIMENTS[record.experiment]

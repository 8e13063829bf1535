"""The experiments: their names, and what names their rows. The one place to enter one.

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
      key: The fields that name a row among those of its runs; the others are what was found.
      trains: Whether its runs train what they measure.
    """

    name: str
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
_OF_LENS = ("kind", "text", "lens", "metric", "task", "layer", "position", "step")
_OF_ROLES = ("kind", "model", "text", "layer", "component", "metric")

EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment("importance", _OF_VARIANT),
        Experiment("structure", _OF_WEIGHTS),
        Experiment("predictability", (*_OF_WEIGHTS, *_OF_VARIANT)),
        Experiment("manipulation", ("set", *_OF_VARIANT, *_OF_NOISE)),
        Experiment(
            "recovery", (*_OF_VARIANT, "layer", "seed", "noise", "train_text", "step"), True
        ),
        Experiment("developmental", _OF_ARM, trains=True),
        Experiment("depth_growth", _OF_ARM, trains=True),
        Experiment("khop_growth", _OF_ARM, trains=True),
        Experiment("depth_use", _OF_DEPTH),
        Experiment("evaluate", (*_OF_VARIANT, "task", "metric")),
        Experiment("surgery", _OF_VARIANT),
        Experiment("pruning", (*_OF_VARIANT, "proxy", "start", "size", "way")),
        Experiment("roles", _OF_ROLES),
        Experiment("tuned_lens", _OF_LENS, trains=True),
        Experiment("alarms", ("kind", "fault", "purpose", "seed"), trains=True),
        Experiment("role_moves", _OF_ARM, trains=True),
        Experiment("flops", ("model", "arm", "rounding")),
        Experiment("grow_checkpoint", _OF_VARIANT),
        Experiment("claims", ("claim", "model")),
        Experiment("export"),
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

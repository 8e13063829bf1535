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
    """

    name: str
    question: str

    @property
    def page(self) -> Any:
        """Its `report.sections.Page`; imported at the first use, as figures are slow to import."""
        return importlib.import_module(f"jaxanatomy.report.{self.name}").PAGE

    @property
    def claims(self) -> tuple[Any, ...]:
        """The claims that its runs decide, each a `claims.core.Claim`."""
        name = f"jaxanatomy.claims.{self.name}"
        return importlib.import_module(name).CLAIMS if importlib.util.find_spec(name) else ()


EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment("importance", "What does the model lose without each layer, and its parts?"),
        Experiment("structure", "Do the weights of neighbouring layers follow a pattern?"),
        Experiment("predictability", "Do earlier layers foretell later ones?"),
        Experiment("manipulation", "How much change of whole sets of layers does it tolerate?"),
        Experiment("recovery", "How fast does a damaged layer heal?"),
        Experiment("developmental", "Does growing in phases beat training flat?"),
        Experiment("depth_growth", "Does growing in depth beat constant depth?"),
        Experiment("flops", "What does growing save?"),
        Experiment("grow_checkpoint", "What does a trained model lose when layers are inserted?"),
        Experiment("claims", "Which claims of the papers hold on this checkpoint?"),
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

"""What a run's optimiser does to each matrix of a model that is a step of the run."""

from pathlib import Path

import jax

from jaxanatomy.forensics.momentum import moments_of, momentum_features
from jaxanatomy.measures.roles import feature_rows
from jaxanatomy.records import Row
from jaxanatomy.weights.sources import parse
from jaxanatomy.weights.training_steps import choose_step, saved_steps

MOMENTS = "moments"  # the item of a step that holds them


def optimiser_step(model_id: str) -> tuple[Path, int, int | None] | None:
    """The folder, step and seed of a model beside which an optimiser's state lies; else None.

    Args:
      model_id: Of a model that `weights.open_model` opens.
    """
    own = parse(model_id)
    if own.kind != "orbax":
        return None
    step, _, seed = (own.version or "").partition("/")
    folder = Path(own.name).absolute()
    steps = [int(step)] if step else saved_steps(folder)[-1:]
    there = [each for each in steps if (folder / str(each) / MOMENTS).is_dir()]
    return (folder, there[0], int(seed) if seed else None) if there else None


def stored_momentum(folder: Path, step: int, seed: int | None) -> list[Row]:
    """Momentum of each layer by the optimiser's state at a step (LR sections 3 and 4).

    Args:
      folder: Of the steps of a training run.
      step: Which is read: the whole model and its state are in memory.
      seed: Which of those that train side by side; None: the one that there is.

    Returns:
      Rows of kind "feature" (`forensics.momentum`); none where the optimiser keeps no first moment,
      or not those of all layers.

    Raises:
      InputError: The step is damaged, or has no such seed.
    """
    from jaxanatomy.train.snapshots import read_snapshot  # slow: Orbax

    snapshot = read_snapshot(folder, step)
    at = choose_step(snapshot.meta, seed, folder, step).at
    whole = snapshot.params, *moments_of(snapshot.moments)
    own = whole if at is None else jax.tree.map(lambda leaf: leaf[at], whole)
    found = momentum_features(*own)
    return [row for layer, each in enumerate(found) for row in feature_rows(layer, each)]

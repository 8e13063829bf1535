"""What training does to layers: momentum on a text, and checkpoints of a run one after another."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxanatomy.data.text import Text
from jaxanatomy.errors import require_whole
from jaxanatomy.forensics.momentum import momentum_features
from jaxanatomy.measures.roles import feature_rows
from jaxanatomy.records import Row
from jaxanatomy.study import tokenise
from jaxanatomy.train.text_moments import text_moments
from jaxanatomy.weights import Checkpoint


def momentum(
    model: Checkpoint, text: Text, updates: int = 8, packing: Mapping[str, Any] | None = None
) -> list[Row]:
    """Where a text would push each matrix: Adam's moments at frozen weights.

    Args:
      model: A loaded checkpoint; of a training run's own, `ja.trajectory` reads what it kept.
      text: The probe.
      updates: Of the moments, a batch of the text each.
      packing: How the text is cut into windows; see `jaxanatomy.data.packing.pack`.

    Returns:
      Rows of kind "feature": `layer`, `component`, `metric` (momentum_cosine, stuck_share) and
      `value`; see `jaxanatomy.forensics.momentum`.

    Raises:
      InputError: A model without a tokenizer, a text it cannot read, fewer than one update.
    """
    require_whole("updates", updates)
    batches = tokenise(model, text, **(packing or {}))
    moments = text_moments(model.config, model.params, batches, updates)
    found = momentum_features(model.params, *moments)
    rows = [row for layer, own in enumerate(found) for row in feature_rows(layer, own)]
    return [{"model": model.id, **row} for row in rows]


def trajectory(folder: str | os.PathLike, seed: int | None = None) -> list[Row]:
    """Features, momentum and roles of each layer at every checkpoint of a training run.

    rows = ja.trajectory("runs/khop/checkpoints/lidas/0")

    Args:
      folder: Of checkpoints; one is in memory at a time, half-written ones are skipped.
      seed: Which of the seeds that train together; None: the one that there is.

    Returns:
      Rows with `step`; see `jaxanatomy.train.trajectory`; `settled` of
      `jaxanatomy.measures.arms.role_courses` says from which step on each layer's role stays.

    Raises:
      InputError: No whole checkpoint of four layers or more, no such seed.
    """
    from jaxanatomy.train import trajectory as checkpoints  # slow: Orbax

    return [row for rows in checkpoints.trajectory(Path(folder), seed) for row in rows]

"""Trained models scored again after edits: layers left out, swapped, reversed, or left early."""

import dataclasses
import functools
from typing import Any

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.growth.depth_edits import Edit, edits
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.sweep import Sweep, SweepOptions
from jaxanatomy.train.eval_set import EvalSet


@dataclasses.dataclass(frozen=True)
class Editor:
    """Scores edits of a model on sequences that nothing is trained on.

    Attributes:
      block: Layers of the block that is applied again; twice as many are reversed.
      eval_set: The sequences.
      dtype: Of the operands of matrix products: that of the scores which edits are held against.
    """

    block: int
    eval_set: EvalSet
    dtype: str = "float32"

    def score(self, config: ModelConfig, params: tree.Params) -> list[dict[str, Any]]:
        """What a model answers after each edit.

        Args:
          config: The model's architecture.
          params: Its parameters, a block for each layer.

        Returns:
          For each of `edits` its `kind`, `name` and `layers`, and `EvalSet.scores`.
        """
        engine, edited = self._engine(config)
        if not edited:
            return []
        engine.place(params)
        return [
            {"kind": edit.kind, "name": edit.name, "layers": [*edit.layers], **scores}
            for edit, scores in zip(edited, self.eval_set.scores(engine.run(0)), strict=True)
        ]

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def _engine(self, config: ModelConfig) -> tuple[Sweep, list[Edit]]:
        """A sweep of the edits, compiled once for each architecture."""
        edited = edits(config, self.block)
        variants = [baseline(config.num_layers), *(edit.variant for edit in edited)]
        options = SweepOptions(self.dtype, chunk_size=len(variants))
        readings = self.eval_set.score_readings
        return Sweep(config, variants, self.eval_set.windows(), readings, options), edited

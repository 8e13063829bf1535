"""How deep trained models compute (DG section 4).

All of it but the weights is read on `depth_sequences` of the held-out sequences.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data import branches
from jaxanatomy.forensics import blocks
from jaxanatomy.forensics.gram import Moments, gram
from jaxanatomy.interventions.variants import BASELINE, Variant, baseline
from jaxanatomy.measures.depth_score import depth_score
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings import effects
from jaxanatomy.measures.readings.contribution import PERIODIC
from jaxanatomy.measures.readings.ready import OVER_ALL, contributions
from jaxanatomy.sweep import Measured, Sweep, SweepOptions
from jaxanatomy.train.eval_set import EvalSet

CONVENTION = "paper"
LATER, LATER_LOCAL, ATTENTION = "later", "later_local", "attention"
EFFECTS = {  # spread, what is silent, and when (DG Figures 5a, 5b and 7b)
    LATER: (effects.PROPAGATED, "layer", effects.FUTURE),
    LATER_LOCAL: (effects.LOCAL, "layer", effects.FUTURE),
    ATTENTION: (effects.PROPAGATED, "attention", effects.CURRENT),
}


@dataclasses.dataclass(frozen=True)
class DepthReader:
    """Reads models on sequences that nothing is trained on.

    Attributes:
      block: Layers of the blocks that are compared; the same for every arm, so that arms compare.
      eval_set: The sequences.
      dtype: Of the operands of matrix products.
    """

    block: int
    eval_set: EvalSet
    dtype: str = "float32"

    def read(self, config: ModelConfig, params: tree.Params) -> dict[str, Any] | None:
        """What layers do for later tokens, what they add, and how alike blocks of them are.

        Args:
          config: The model's architecture.
          params: Its parameters, a block for each layer.

        Returns:
          `influence`, of each layer how much the answers at later tokens change when it writes
          nothing at earlier ones (`EvalSet.answer_changes`; the largest over positions and
          boundaries, mean over sequences), and its `depth_score`; `effects`, of each of `EFFECTS`
          [source, target], how much later layers' contributions change, means;
          `first_attention`, the mean effect of the attention of the first layer of each block that
          is neither the first nor the last, None without one; of each layer the contributions in
          `contribution.PERIODIC`. Where two blocks fit, of the FFN weights `similarity` [block,
          block] and the scores of `blocks.SCORES`, and `NAME_periodicity` of each contribution.
          None of a model whose streams or answers are not finite.
        """
        parts, *changes = (_run(sweep, params) for sweep in self._sweeps(config))
        silent = {name: _variants(config, name) for name in EFFECTS}
        measured = dict(zip(EFFECTS, changes, strict=True))
        change_EL = self._changes(measured[LATER], silent[LATER])
        added_NL = [parts[name][BASELINE].astype(float) for name in PERIODIC]
        if not (np.isfinite(change_EL).all() and np.isfinite(added_NL).all()):
            return None
        added = {name: own.tolist() for name, own in zip(PERIODIC, added_NL, strict=True)}
        effect = {
            name: each["mean"]
            for name, own in measured.items()
            for each in effects.heatmaps(
                effects.effect_rows(own, silent[name], places=_places(name), text="")
            ).values()
        }
        return {
            "influence": change_EL.mean(axis=0).tolist(),
            "depth_score": finite(depth_score(change_EL).value),
            "effects": {name: _finite(mean_LL) for name, mean_LL in effect.items()},
            "first_attention": self._first_attention(effect.get(ATTENTION)),
            **added,
            **self._blocks(params["layers"], added),
        }

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def _sweeps(self, config: ModelConfig) -> list[Sweep]:
        """Of the model, and of each of `EFFECTS`; compiled once for each architecture."""
        clean, text = baseline(config.num_layers), self.eval_set.windows()
        added = {name: contributions(reduction=OVER_ALL)[name] for name in PERIODIC}
        found = [Sweep(config, [clean], text, added, SweepOptions(self.dtype))]
        for name in EFFECTS:
            variants = [clean, *_variants(config, name)]
            answers = self.eval_set.answer_readings if name == LATER else {}
            options = SweepOptions(self.dtype, chunk_size=len(variants))
            readings = {"effect": effects.LAYER_CHANGE, **answers}
            branched = effects.branched(config, text, CONVENTION, _places(name))
            found.append(Sweep(config, variants, branched, readings, options))
        return found

    def _changes(self, measured: Mapping[str, Measured], variants: Sequence[Variant]) -> np.ndarray:
        """The largest change of each sequence's answers by silent layer, [E, L].

        A sequence without a window, all of whose documents are of one token, is none.
        """
        effect = measured["effect"]
        read_N = effect.branches > branches.TRUNK
        moved = self.eval_set.answer_changes(measured)
        there_E, sequence_N = np.unique(effect.documents, return_inverse=True)
        change_EL = np.zeros((len(there_E), len(variants)))
        for variant, change_E in zip(variants, change_EL.T, strict=True):
            with np.errstate(invalid="ignore"):
                np.maximum.at(change_E, sequence_N[read_N], moved[variant.name][read_N])
        return change_EL

    def _first_attention(self, effect_LL: np.ndarray | None) -> float | None:
        layers = 0 if effect_LL is None else len(effect_LL)
        first = range(self.block, layers - self.block, self.block)
        known = [effect_LL[layer, layer + 1 :].mean() for layer in first]
        return finite(np.mean(known)) if known else None

    def _blocks(
        self, layers: Sequence[tree.BlockParams], added: Mapping[str, Sequence[float]]
    ) -> dict[str, Any]:
        size = self.block
        if len(layers) < 2 * size:
            return {}
        parts = (gram([tree.get(own, name) for own in layers]) for name in blocks.FFN_PARTS)
        moments = functools.reduce(Moments.end_to_end, parts)
        scores = blocks.block_scores(moments, (size,))
        found = {name: finite(value) for (name, _), value in scores.items()}
        for name, value_L in added.items() if size > 1 else ():
            alike_LL = blocks.likeness(np.array(value_L))
            found[f"{name}_periodicity"] = finite(blocks.periodicity(alike_LL, size))
        return {"similarity": _finite(blocks.block_similarity(moments, size)), **found}


def _variants(config: ModelConfig, effect: str) -> list[Variant]:
    spread, part, _ = EFFECTS[effect]
    if spread == effects.LOCAL and config.num_layers < 2:
        return []  # nothing comes later
    return effects.effect_variants(config, spread, parts=(part,))


def _places(effect: str) -> tuple[effects.Place, ...]:
    *_, when = EFFECTS[effect]
    return effects.places((when,))


def _run(sweep: Sweep, params: tree.Params) -> dict[str, Measured]:
    sweep.place(params)
    return sweep.run(0)


def _finite(x_MN: np.ndarray) -> list[list[float | None]]:
    return [[finite(value) for value in row_N] for row_N in x_MN.tolist()]

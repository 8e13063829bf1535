"""How deep trained models compute, read on the sequences that they are scored on (DG section 4)."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.forensics import blocks
from jaxanatomy.forensics.gram import Moments, gram
from jaxanatomy.interventions.variants import BASELINE, Variant, baseline
from jaxanatomy.measures import effects
from jaxanatomy.measures.contribution import PERIODIC
from jaxanatomy.measures.depth_score import depth_score
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings import OVER_ALL, contributions, logits
from jaxanatomy.sweep import Measured, Sweep, SweepOptions
from jaxanatomy.train.hops import HopScorer

CONVENTION = "paper"


@dataclasses.dataclass(frozen=True)
class DepthReader:
    """Reads models on held-out sequences.

    Attributes:
      block: Layers of the blocks that are compared.
      scorer: Of the sequences.
    """

    block: int
    scorer: HopScorer

    def read(self, config: ModelConfig, params: tree.Params) -> dict[str, Any]:
        """What layers do for later tokens, what they add, and how alike blocks of them are.

        Args:
          config: The model's architecture.
          params: Its parameters, a block for each layer.

        Returns:
          `influence`, of each layer how much the answers at later tokens change when it writes
          nothing at earlier ones (L2 over all answers of a position; the largest over positions and
          boundaries, mean over sequences), and its `depth_score`; `effect` [source, target], how
          much later layers' contributions change, means; of each layer the contributions in
          `contribution.PERIODIC`. Where two blocks fit, of the FFN weights `similarity` [block,
          block] and the scores of `blocks.SCORES`, and `NAME_periodicity` of each contribution.
        """
        whole, engine, variants = self._engines(config)
        whole.place(params)
        engine.place(params)
        measured = engine.run(0)
        change_EL = self._changes(measured["logits"], variants)
        maps = effects.heatmaps(effects.effect_rows(measured, variants, text=""))
        parts = whole.run(0)
        added = {name: parts[name][BASELINE].astype(float).tolist() for name in PERIODIC}
        return {
            "influence": change_EL.mean(axis=0).tolist(),
            "depth_score": finite(depth_score(change_EL).value),
            "effect": next((_finite(each["mean"]) for each in maps.values()), None),
            **added,
            **self._blocks(params["layers"], added),
        }

    @functools.cache  # noqa: B019 (a plan has one, as long as it lives)
    def _engines(self, config: ModelConfig) -> tuple[Sweep, Sweep, list[Variant]]:
        """Sweeps of the model, and of each silent layer; compiled once for each architecture."""
        clean, text = baseline(config.num_layers), self.scorer.windows()
        silent = effects.effect_variants(
            config, effects.PROPAGATED, parts=("layer",), whens=(effects.FUTURE,)
        )
        added = {name: contributions(reduction=OVER_ALL)[name] for name in PERIODIC}
        readings = {"logits": logits(), "effect": effects.LAYER_CHANGE}
        options = SweepOptions(chunk_size=1 + len(silent))
        moved = Sweep(config, [clean, *silent], text, readings, options)
        return Sweep(config, [clean], text, added), moved, silent

    def _changes(self, scores: Measured, variants: Sequence[Variant]) -> np.ndarray:
        """The largest change of each sequence's answers by silent layer, [E, L]."""
        clean_BTKQ = self._answers(scores[BASELINE])
        position_T = np.arange(clean_BTKQ.shape[1])
        found: dict[int, np.ndarray] = {}
        for variant in variants:
            source, boundary = (variant.labels[name] for name in ("source", "boundary"))
            moved_BTKQ = self._answers(scores[variant.name]) - clean_BTKQ
            where_T = effects.eligible(CONVENTION, boundary).select(position_T[None])[0]
            change_B = np.sqrt((moved_BTKQ**2).sum((2, 3)))[:, where_T].max(axis=1)
            found[source] = np.maximum(found.get(source, change_B), change_B)
        return np.stack([found[layer] for layer in sorted(found)], axis=1)

    def _answers(self, logit_NV: np.ndarray) -> np.ndarray:
        """What a model answers [B, T, K, Q], probabilities; 0 where nothing is asked."""
        task, label_BTK = self.scorer.task, self.scorer.batch().label_BTK
        used_NV = logit_NV[:, : task.hops * task.alphabet].astype(np.float64)
        answer_BTKQ = softmax(used_NV.reshape(*label_BTK.shape, task.alphabet), axis=-1)
        return answer_BTKQ * (label_BTK >= 0)[..., None]

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


def _finite(x_MN: np.ndarray) -> list[list[float | None]]:
    return [[finite(value) for value in row_N] for row_N in x_MN.tolist()]

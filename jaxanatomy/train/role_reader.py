"""Trained models read on held-out rows: what layers are for, and which can be left out (LR 8, 9).

Half of the rows are the probe text of roles, the other half is what layers are left out on, so that
a score is not taken on the text that it is to foretell.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch, pack_windows
from jaxanatomy.data.sequences import TokenBatch
from jaxanatomy.data.windows import Window
from jaxanatomy.forensics.roles import ROLES, assign, defined, role_scores
from jaxanatomy.interventions.variants import BASELINE, Step, Variant, baseline
from jaxanatomy.measures import probe, roles
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings import losses
from jaxanatomy.measures.registers import attention_readings
from jaxanatomy.measures.skips import PASSTHROUGH, all_sets
from jaxanatomy.sweep import Sweep, SweepOptions


@dataclasses.dataclass(frozen=True, eq=False)
class RoleReader:
    """Reads models of one architecture; compiled once.

    Attributes:
      config: The architecture.
      batches: Held-out rows, of one segment each.
      registers: R, at the beginning of each row.
      most: Layers that are left out at most.
    """

    config: ModelConfig
    batches: Sequence[TokenBatch]
    registers: int = 0
    most: int = 1

    def attention(self, params: tree.Params) -> dict[str, list[float]]:
        """By layer the attention on registers and on the first token (`measures.registers`)."""
        self._attention.place(params)
        found = self._attention.run(0)
        return {name: each[BASELINE].astype(float).tolist() for name, each in found.items()}

    def skips(self, params: tree.Params) -> dict[str, Any]:
        """Roles of layers, and the loss without every set of some layers.

        Args:
          params: A block for each layer.

        Returns:
          `skip_roles` and `skip_scores` (of a passthrough) by layer, of weights and of a probe;
          `skip_whole`, nats a token; `skip_sets`, layers that are left out, and `skip_nll`, None
          where it is not finite.
        """
        self._probe.place(params)
        self._skips.share_weights(self._probe)
        rows = [
            row
            for own, _ in roles.weight_rows(params["layers"], self.config.head_dim)
            for row in own
        ]
        rows += probe.probe_rows(self._probe.run(0), [baseline(self.config.num_layers)], text="")
        score_RL = role_scores(defined(roles.features(rows, None)))
        nll_VP = self._skips.run(0)["nll"].values
        whole, *without = (finite(each) for each in nll_VP.mean(axis=1, dtype=np.float64).tolist())
        return {
            "skip_roles": [roles.name_of_role(index) for index in assign(score_RL)[0].tolist()],
            "skip_scores": score_RL[ROLES.index(PASSTHROUGH)].tolist(),
            "skip_whole": whole,
            "skip_sets": [list(layers) for layers in self._sets],
            "skip_nll": without,
        }

    @property
    def _sets(self) -> list[tuple[int, ...]]:
        return all_sets(self.config.num_layers, self.most)

    @functools.cached_property
    def _attention(self) -> Sweep:
        clean = [baseline(self.config.num_layers)]
        text = as_text(self.batches, self.registers)
        return Sweep(self.config, clean, text, attention_readings(self.registers))

    @functools.cached_property
    def _probe(self) -> Sweep:
        clean = [baseline(self.config.num_layers)]
        return Sweep(self.config, clean, self._half(0), probe.READINGS)

    @functools.cached_property
    def _skips(self) -> Sweep:
        layers = range(self.config.num_layers)
        variants = [
            Variant(f"cut/{out}", tuple(Step(layer) for layer in layers if layer not in out))
            for out in self._sets
        ]
        variants.insert(0, baseline(len(layers)))
        options = SweepOptions(chunk_size=len(variants))
        return Sweep(self.config, variants, self._half(1), {"nll": losses()}, options)

    def _half(self, first: int) -> tuple[TextBatch, ...]:
        """Every other row."""
        leaves = zip(*(batch[:3] for batch in self.batches), strict=True)
        rows = TokenBatch(*(np.concatenate(each)[first::2] for each in leaves))
        return as_text([rows], self.registers)


def as_text(batches: Sequence[TokenBatch], registers: int = 0) -> tuple[TextBatch, ...]:
    """Rows as a sweep reads them, each a document of its own.

    Args:
      batches: Rows of one segment each, in which all is predicted but what stands in registers.
      registers: R, at the beginning of each row.

    Raises:
      ValueError: Rows are not so; those of padding alone are left out.
    """
    windows = []
    for batch in batches:
        if batch.segment_BT is not None:
            raise ValueError("a text is made of rows of one segment; got rows of several")
        rows = (np.asarray(leaf) for leaf in (batch.token_BT, batch.target_BT, batch.weight_BT))
        for token_T, target_T, weight_T in zip(*rows, strict=True):
            if not weight_T.any():
                continue
            if weight_T[:registers].any() or not weight_T[registers:].all():
                raise ValueError(f"all but {registers} registers must be predicted; got {weight_T}")
            token = np.append(token_T, target_T[-1]).astype(np.int64)
            windows.append(Window(len(windows), token, 1 + registers, True))
    return pack_windows(windows)

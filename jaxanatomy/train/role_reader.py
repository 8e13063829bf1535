"""Trained models read on held-out rows: what layers are for, and which can be left out (LR 8, 9).

Half of the documents are the probe text of roles, the other half is what layers are left out on, so
that a score is not taken on the text that it is to foretell.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxanatomy import tree
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.packing import TextBatch, pack_windows
from jaxanatomy.data.windows import Window
from jaxanatomy.forensics.roles import ROLES, assign, defined, role_scores
from jaxanatomy.interventions.variants import BASELINE, Step, Variant, baseline
from jaxanatomy.measures import roles
from jaxanatomy.measures.arms.registers import attention_readings
from jaxanatomy.measures.arms.skips import PASSTHROUGH, all_sets
from jaxanatomy.measures.losses import finite
from jaxanatomy.measures.readings import probe
from jaxanatomy.measures.readings.ready import losses
from jaxanatomy.sweep import Sweep, SweepOptions
from jaxanatomy.train.role_documents import DocumentRows, halves


@dataclasses.dataclass(frozen=True, eq=False)
class RoleReader:
    """Reads models of one architecture; compiled once.

    Attributes:
      config: The architecture.
      rows: What is read.
      registers: R, at the beginning of each row.
      most: Layers that are left out at most.
    """

    config: ModelConfig
    rows: DocumentRows
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
        text = row_text(self.rows, self.registers)
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

    def _half(self, half: int) -> tuple[TextBatch, ...]:
        return document_text(self.rows, half, self.registers)


def row_text(rows: DocumentRows, registers: int = 0) -> tuple[TextBatch, ...]:
    """Whole rows as a sweep reads them, each a document of its own; errors as `document_text`."""
    tokens = enumerate(_tokens(rows, registers))
    return pack_windows([Window(number, own, 1 + registers, True) for number, own in tokens])


def document_text(rows: DocumentRows, half: int, registers: int = 0) -> tuple[TextBatch, ...]:
    """Half of the documents as a sweep reads them: each part of a row that is of one document.

    A part begins with the token from which its first target is predicted: where a document begins
    that is the token that ends the one before.

    Args:
      rows: Rows of both halves.
      half: 0 or 1, of `role_documents.halves`.
      registers: R, at the beginning of each row and so of each of its parts.

    Raises:
      ValueError: Rows have several segments, or not all but their registers is predicted.
    """
    chosen_U = halves(rows.document_NT) == half
    number_U = np.cumsum(chosen_U) - 1  # among those of the half
    windows: list[Window] = []
    for token_T, document_T in zip(_tokens(rows, registers), rows.document_NT, strict=True):
        for document in np.unique(document_T[chosen_U[document_T]]):
            own = np.flatnonzero(document_T == document)  # side by side
            text = token_T[registers + own[0] : registers + own[-1] + 2]
            number = int(number_U[document])
            is_first = not windows or windows[-1].document != number
            token = np.concatenate([token_T[:registers], text])
            windows.append(Window(number, token, 1 + registers, is_first))
    return pack_windows(windows)


def _tokens(rows: DocumentRows, registers: int) -> Iterator[np.ndarray]:
    """Each row with its last target, int64 [R + T + 1]."""
    for batch in rows.batches:
        if batch.segment_BT is not None:
            raise ValueError("a text is made of rows of one segment; got rows of several")
        weight_BT = np.asarray(batch.weight_BT)
        if weight_BT[:, :registers].any() or not weight_BT[:, registers:].all():
            raise ValueError(f"all but {registers} registers must be predicted; got {weight_BT}")
        last_B1 = np.asarray(batch.target_BT)[:, -1:]
        yield from np.append(batch.token_BT, last_B1, axis=1).astype(np.int64)

"""What readings keep of a text: values are reduced batch by batch, as soon as they are there."""

import collections
import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxanatomy.data.packing import TextBatch
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.variants import POSITIONS
from jaxanatomy.sweep.reading import PREDICTED, Measured, Reading, Reduction

# What the values of a measure stand for, and how many axes that takes.
TOKENS, PREDICTIONS, BATCHES = "position", "prediction", "batch"
AXES = {TOKENS: 2, PREDICTIONS: 1, BATCHES: 0}


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """The places in one batch that values stand for, N of them.

    Attributes:
      index_N: Where a place's value stands, in flattened [R, T] or in [P].
      segment_N: Its window; ascends in the order of the text.
      document_N: Its document.
      position_N: Its position in the window.
      branch_N: Its branch (`TextBatch.branch_RT`), 0 where there are none.
    """

    index_N: np.ndarray
    segment_N: np.ndarray
    document_N: np.ndarray
    position_N: np.ndarray
    branch_N: np.ndarray


def places(batch: TextBatch, kind: str, reduction: Reduction) -> Places:
    """The tokens or predictions of a batch that a reduction counts.

    A token that several windows hold is the one in the window that predicts it, which is that
    with the longest context. Where sequences share their beginnings, every token stands once.
    """
    segment_X, position_X = batch.segment_RT.ravel(), batch.position_RT.ravel()
    valid_P = np.flatnonzero(batch.document_P >= 0)
    predict_P = batch.predict_P[valid_P]
    if kind == PREDICTIONS:
        index, token = valid_P, predict_P
    elif batch.end_RT is not None:
        index = token = np.flatnonzero(segment_X >= 0)
    else:
        starts = segment_X[predict_P[batch.first_P[valid_P]]]
        new_X = (position_X == 0) & (segment_X >= 0) & np.isin(segment_X, starts)
        new_X[predict_P + 1] = True
        index = token = np.flatnonzero(new_X)
    if reduction.where == PREDICTED:
        counted_X = np.isin(np.arange(len(segment_X)), predict_P)
    else:
        chosen = POSITIONS.get(reduction.where, reduction.where)
        counted_X = np.asarray(chosen.select(batch)).ravel()
    counted = counted_X[token]
    index, token = index[counted], token[counted]
    document_of = dict(
        zip(segment_X[predict_P].tolist(), batch.document_P[valid_P].tolist(), strict=True)
    )
    segment = segment_X[token]
    document = np.array([document_of[each] for each in segment.tolist()], np.int32)
    if kind == PREDICTIONS:
        document = batch.document_P[index]
    branch = 0 * segment if batch.branch_RT is None else batch.branch_RT.ravel()[token]
    return Places(index, segment, document, position_X[token], branch)


class Kept:
    """What one reading keeps of a text, for streams that are known by a key.

    Each stream gets the values of every batch, once. Means are of sums in float64.
    """

    def __init__(self, name: str, reading: Reading, batches: Sequence[TextBatch]):
        """Finds the places of the text.

        Raises:
          InputError: The text has no token at the reading's positions.
        """
        self._name, self._reading, self._batches = name, reading, batches
        self._found: dict[Hashable, dict[int, Any]] = collections.defaultdict(dict)
        self._found_places: dict[str, list[Places]] = {}
        self._kind: str | None = None
        self._axes: tuple[str, ...] = ()
        self._rest: tuple[int, ...] = ()
        self._require_places(TOKENS)

    def check(self, shapes: Any) -> None:
        """Finds out what values stand for.

        Args:
          shapes: Of what the measure gives for C streams, an array or a dict of arrays; None
            where that is not known before it runs.

        Raises:
          InputError: The measure gives another shape than a measure may.
        """
        if shapes is not None:
            self._check_shape(self._part(shapes).shape[1:])

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        R, T = self._batches[0].token_RT.shape
        P = len(self._batches[0].predict_P)
        leading = {TOKENS: (R, T), PREDICTIONS: (P,)}
        kinds = [kind for kind, sizes in leading.items() if shape[: len(sizes)] == sizes]
        self._kind = kinds[0] if kinds else BATCHES
        if shape and not kinds:
            raise InputError(
                f"measure {self._name!r} must return [C], [C, {P}, ...] for each of its {P} "
                f"predicted positions or [C, {R}, {T}, ...] for each token; got "
                f"[C, {', '.join(map(str, shape))}]"
            )
        reduction = self._reading.reduction
        whole = reduction.per == "text" and reduction.place in ("all", PREDICTED)
        if self._kind == BATCHES and not whole:
            raise InputError(
                f"measure {self._name!r} gives one number for a text, which has no positions or "
                "documents; reduce over all positions of the text, or return [C, R, T]"
            )
        if self._kind == PREDICTIONS:
            self._require_places(PREDICTIONS)
        rest, axes = shape[AXES[self._kind] :], self._reading.axes
        if axes and len(axes) != len(rest):
            raise InputError(
                f"reading {self._name!r} names {len(axes)} axes beyond those of the text "
                f"({', '.join(axes)}); its measure has {len(rest)}; name each"
            )
        unnamed = tuple(f"axis_{i}" for i in range(len(rest)))
        self._axes = axes or (("feature",) if len(rest) == 1 else unnamed)
        # Layers may differ in heads.
        self._rest = tuple(map(max, rest, self._rest or rest))

    def add(self, key: Hashable, batch: int, values: Any) -> None:
        """Takes what the measure gave for one stream and batch; keeps the reduction."""
        values, reduction = np.asarray(self._part(values)), self._reading.reduction
        if self._kind is None:
            self._check_shape(values.shape)
        if self._kind == BATCHES:
            weights = [np.count_nonzero(self._batches[batch].document_P >= 0)]
            values, groups = values[None], np.zeros(1, np.int32)
        else:
            found = self._places(self._kind)[batch]
            values = values.reshape(-1, *values.shape[AXES[self._kind] :])[found.index_N]
            weights = np.ones(len(values))
            groups = found.document_N if reduction.per == "document" else 0 * found.document_N
        if reduction.how == "everything":
            self._found[key][batch] = values
        else:
            self._found[key][batch] = _by_group(reduction.how, values, groups, weights)

    def clear(self) -> None:
        """Forgets what was kept."""
        self._found.clear()

    def result(self, key: Hashable) -> np.ndarray:
        """What was kept of one stream over the whole text, in the order of the text."""
        batches, how = self._found[key], self._reading.reduction.how
        found = [batches[index] for index in range(len(self._batches))]
        if how == "everything":
            values = np.concatenate(found)
            return values if self._kind == BATCHES else values[self._order]
        totals: dict[int, Any] = {}
        for group, (total, weight) in (pair for each in found for pair in each.items()):
            if group not in totals:
                totals[group] = (total, weight)
            elif how == "mean":
                totals[group] = (totals[group][0] + total, totals[group][1] + weight)
            else:
                totals[group] = (np.maximum(totals[group][0], total), 1)
        if how == "mean":
            totals = {group: (total / weight, 1) for group, (total, weight) in totals.items()}
        if self._reading.reduction.per == "text":
            return totals[0][0]
        some = np.asarray(next(iter(totals.values()))[0])
        values = np.full((self._num_documents, *some.shape), np.nan, some.dtype)
        for group, (value, _) in totals.items():
            values[group] = value
        return values

    def measured(self, variants: Sequence[str], rows: Sequence[Any], **along: Any) -> Measured:
        """The result of all variants.

        Args:
          variants: Their names.
          rows: For each its key, or for readings inside layers a list of keys, None where a
            layer is not applied.
          **along: The other fields of `Measured`.
        """
        inner = not self._reading.at_end
        rows = rows if inner else [[key] for key in rows]
        keys = dict.fromkeys(key for row in rows for key in row if key is not None)
        found = {key: self.result(key) for key in keys}
        if self._kind is None:
            raise InputError(
                f"reading {self._name!r} reads layers that no variant applies; choose others"
            )
        whole, own = self._shape(), {value.shape for value in found.values()}
        dtypes = {value.dtype for value in found.values()}
        # Where a layer is not applied, or has fewer heads than another one.
        missing = bool(own - {whole}) or any(None in row for row in rows)
        dtypes |= {np.dtype(np.float32)} if missing or not dtypes else set()
        shape = (len(rows), len(rows[0]) if rows else 0, *whole)
        values = np.full(shape, np.nan if missing else 0, np.result_type(*dtypes))
        for row, own in zip(values, rows, strict=True):
            for place, key in enumerate(own):
                if key is not None:
                    row[(place, *map(slice, found[key].shape))] = found[key]
        values = values if inner else values[:, 0]
        return Measured(values, self._dims(inner), tuple(variants), **along, **self._along())

    def _shape(self) -> tuple[int, ...]:
        """Of what is kept of one stream."""
        reduction = self._reading.reduction
        if reduction.how == "everything":
            batches = len(self._batches)
            places = batches if self._kind == BATCHES else len(self._order)
            return places, *self._rest
        return (self._num_documents, *self._rest) if reduction.per == "document" else self._rest

    def _dims(self, inner: bool) -> tuple[str, ...]:
        reduction = self._reading.reduction
        text = (self._kind,) if reduction.how == "everything" else ()
        if reduction.how != "everything" and reduction.per == "document":
            text = ("document",)
        return ("variant", *((self._reading.by,) if inner else ()), *text, *self._axes)

    def _along(self) -> dict[str, np.ndarray]:
        """Documents and positions along the axis of the text."""
        reduction = self._reading.reduction
        if reduction.how == "everything" and self._kind != BATCHES:
            every = self._places(self._kind)
            documents = np.concatenate([each.document_N for each in every])
            positions = np.concatenate([each.position_N for each in every])
            branches = np.concatenate([each.branch_N for each in every])
            found = {"documents": documents, "positions": positions, "branches": branches}
            return {name: values[self._order] for name, values in found.items()}
        if reduction.how != "everything" and reduction.per == "document":
            return {"documents": np.arange(self._num_documents)}
        return {}

    def _require_places(self, kind: str) -> None:
        if not any(len(each.index_N) for each in self._places(kind)):
            longest = 1 + max(int(batch.position_RT.max()) for batch in self._batches)
            what = "token" if kind == TOKENS else "prediction"
            raise InputError(
                f"reading {self._name!r}: no {what} of the text is at positions "
                f"{self._reading.reduction.place!r}; its longest window has {longest} tokens; "
                "choose earlier ones"
            )

    def _places(self, kind: str) -> list[Places]:
        if kind not in self._found_places:
            reduction = self._reading.reduction
            self._found_places[kind] = [places(each, kind, reduction) for each in self._batches]
        return self._found_places[kind]

    @functools.cached_property
    def _order(self) -> np.ndarray:
        """Puts the places of all batches into the order of the text."""
        segments = np.concatenate([each.segment_N for each in self._places(self._kind)])
        return np.argsort(segments, kind="stable")

    @property
    def _num_documents(self) -> int:
        return 1 + max(int(batch.document_P.max()) for batch in self._batches)

    def _part(self, values: Any) -> Any:
        part, several = self._reading.part, isinstance(values, Mapping)
        if several and part is None:
            raise InputError(
                f"the measure of reading {self._name!r} gives {', '.join(values)}; choose one with "
                f"part={next(iter(values))!r}"
            )
        if part is None:
            return values
        if not several:
            raise InputError(
                f"reading {self._name!r} has part={part!r}, but its measure gives one array; leave "
                "part out"
            )
        return values[choose("part", part, values)]


def _by_group(
    how: str, values: np.ndarray, groups: np.ndarray, weights: Sequence[float]
) -> dict[int, tuple[Any, float]]:
    """For each group of places the weighted sum and the weight, or the maximum."""
    found = {}
    for group in np.unique(groups).tolist():
        own, weight = values[groups == group], np.asarray(weights)[groups == group]
        if how == "max":
            found[group] = (own.max(axis=0), 1)
        else:
            total = np.tensordot(weight.astype(np.float64), own.astype(np.float64), axes=1)
            found[group] = (total, float(weight.sum()))
    return found

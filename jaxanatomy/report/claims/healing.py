"""The curves of a recovery run as the claims read them."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxanatomy.measures.recovery import BASELINE, curves
from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Row
from jaxanatomy.report.claims.claim import Answer, Evidence, beyond, negated

WITHIN = (
    "'within' a multiple: the whole 95 % interval of the loss above the undamaged model's, paired "
    "over documents, lies below its logarithm"
)
Ends = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Healing:
    """A recovery run.

    Attributes:
      baseline: The row of the undamaged model.
      noised: By layer the points with noise and without training, of all noise seeds.
      trained: By layer the curves that began with noise, of one seed each. Curves that
        diverged or are still being trained are not among them.
      controls: By layer the curve without noise, likewise.
      degradation: By layer the degradation of its neighbour mean in percent.
      steps: Steps of training.
      depth: The number of layers of the model; 0 if the run does not say.
    """

    baseline: Row
    noised: Mapping[int, Sequence[Row]]
    trained: Mapping[int, Sequence[Sequence[Row]]]
    controls: Mapping[int, Sequence[Row]]
    degradation: Mapping[int, float]
    steps: int
    depth: int = 0

    @property
    def texts(self) -> tuple[str, str]:
        """The evaluation text and the training text."""
        first = next(iter(self.noised.values()))[0]
        return first["text"], first["train_text"]

    def excess(self, row: Row) -> Ends:
        """Loss above the undamaged model's, nats per token, with its interval."""
        if row["ppl"] is None:
            return (math.inf,) * 3
        tokens = tuple(self.baseline["unit_tokens"])
        return _difference(tuple(row["unit_nll"]), tuple(self.baseline["unit_nll"]), tokens)

    def within(self, row: Row, factor: float) -> Answer:
        """Whether a point lies within a multiple of the undamaged perplexity; see `WITHIN`."""
        return negated(beyond(self.excess(row)[1:], math.log(factor)))

    def lowest(self, curve: Iterable[Row], steps: int | None = None) -> Row:
        """The lowest point of a curve, up to a number of steps."""
        return min((row for row in curve if steps is None or row["step"] <= steps), key=ppl)

    def gap(self, layer: int, curve: Sequence[Row]) -> Ends | None:
        """How far a curve ends above the same training without noise, nats per token."""
        control = self.controls.get(layer)
        return dataclasses.astuple(paired_difference(curve[-1], control[-1])) if control else None

    def shares(self, layer: int, factor: float) -> Ends:
        """R(l) of `growth.budgets`, with the bounds that the intervals of its points give.

        Returns:
          (value, low, high) from 0 to 1, each the mean over noise seeds; low counts the first
          step at which the interval reaches down to the multiple, high the first at which
          all of it does.
        """
        found = [self._shares(curve, math.log(factor)) for curve in self.trained[layer]]
        return tuple(float(np.mean(each)) for each in zip(*found, strict=True))

    def _shares(self, curve: Sequence[Row], limit: float) -> Ends:
        ends = [(row["step"] / self.steps, self.excess(row)) for row in curve]
        return tuple(
            next((share for share, each in ends if each[place] <= limit), 1.0) for place in range(3)
        )

    def said(self, layer: int) -> str:
        """How a layer healed, for reading."""
        words = []
        for curve in self.trained[layer]:
            best = self.lowest(curve)
            words.append(
                f"{shown(curve[0])} with noise, lowest {shown(best)} at step {best['step']} of "
                f"{curve[-1]['step']}"
            )
        return f"L{layer} {', '.join(words)}"

    def controls_said(self, among: Iterable[int]) -> str:
        """The control of some layers, for reading."""
        words = [
            f"L{layer} {shown(self.controls[layer][-1])}"
            for layer in among
            if self.controls.get(layer)
        ]
        return f"trained without noise: {', '.join(words)}" if words else "no control was measured"


def read_healing(evidence: Evidence) -> Healing | None:
    """The curves of the recovery run; None without the undamaged model or without noise."""
    rows = evidence.rows("recovery")
    steps = evidence.records["recovery"].config.get("steps")
    baseline = next((row for row in rows if row.get("variant") == BASELINE), None)
    noised: dict[int, list[Row]] = {}
    trained: dict[int, list[list[Row]]] = {}
    controls: dict[int, list[Row]] = {}
    for (layer, seed), curve in curves(rows).items():
        whole = curve[-1]["step"] == steps and curve[-1]["ppl"] is not None
        if seed is not None:
            noised.setdefault(layer, []).append(curve[0])
        if whole and seed is not None:
            trained.setdefault(layer, []).append(curve)
        elif whole:
            controls[layer] = curve
    if baseline is None or baseline["ppl"] is None or not noised:
        return None
    degradation = {
        row["layer"]: row["degradation_percent"]
        for row in rows
        if row.get("intervention") == NEIGHBOUR_MEAN and row["degradation_percent"] is not None
    }
    return Healing(baseline, noised, trained, controls, degradation, steps, evidence.depth)


@functools.lru_cache(maxsize=4096)
def _difference(own: tuple, other: tuple, tokens: tuple) -> Ends:
    """`paired_difference`, once for each point of each curve, whatever claims ask for it."""
    rows = ({"unit_nll": nll, "unit_tokens": list(tokens)} for nll in (own, other))
    return dataclasses.astuple(paired_difference(*rows))


def ppl(row: Row) -> float:
    """Perplexity; infinite where it is not finite."""
    return math.inf if row["ppl"] is None else row["ppl"]


def shown(row: Row) -> str:
    """A perplexity for reading."""
    return "not finite" if row["ppl"] is None else f"{row['ppl']:,.1f}"


def listed(rows: Iterable[Row]) -> str:
    """Perplexities for reading."""
    return " ".join(map(shown, rows))


def nats(ends: Ends) -> str:
    """A difference with its interval, for reading."""
    value, low, high = (f"{end:+.3f}".replace("-", "−") for end in ends)
    return f"{value} [{low}, {high}]"


def parts(named: Iterable[int], found: Iterable[int]) -> tuple[list[int], list[str]]:
    """The layers that were measured, and the names of the others."""
    found, named = set(found), list(named)
    absent = [f"L{layer}" for layer in named if layer not in found]
    return [layer for layer in named if layer in found], absent

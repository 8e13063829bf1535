"""The rows of a manipulation run, looked up by what was done to which set of layers."""

import dataclasses
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

from jaxanatomy.report.cells import Row, number, panel_name, panels_of, put, records

# As they stand in tables and figures: what AH tested first, mildest doses first.
STRATEGIES = (
    "scale",
    "scale_output",
    "zero",
    "clone",
    "clone_high",
    "clone_with_norms",
    "blend_2",
    "blend_4",
    "low_rank",
    "own_svd",
    "predicted",
    "neighbour_mean",
    "perturb",
)
MAIN_SETS = ("measured", "paper", "paper_inner")
_WORDS = {
    "scale_output": "scale outputs",
    "blend_2": "blend of 2",
    "blend_4": "blend of 4",
    "own_svd": "own SVD",
}
_RANKS = ("full", "half")


@dataclasses.dataclass(frozen=True)
class Method:
    """A strategy and its dose.

    Attributes:
      strategy: Its name in the rows.
      dose: alpha or rank; None for a strategy without.
    """

    strategy: str
    dose: float | str | None = None

    @classmethod
    def of(cls, row: Row) -> "Method":
        alpha, rank = row.get("alpha"), row.get("rank")
        return cls(row["strategy"], rank if alpha is None else alpha)

    @property
    def label(self) -> str:
        """As it is written in figures and tables: "scale × 0.9", "low rank, half rank"."""
        words = _WORDS.get(self.strategy, self.strategy.replace("_", " "))
        if self.dose is None:
            return words
        if self.strategy == "perturb":
            return f"noise of {percent(self.dose)}"
        if self.strategy in ("scale", "scale_output"):
            return f"{words} × {self.dose:g}"
        rank = f"{self.dose} rank" if self.dose in _RANKS else f"rank {self.dose:g}"
        return f"{words}, {rank}"

    @property
    def order(self) -> tuple:
        """Sorts methods: known strategies first, mild doses before strong ones."""
        known = self.strategy in STRATEGIES
        place = STRATEGIES.index(self.strategy) if known else len(STRATEGIES)
        if self.dose in _RANKS:
            return place, self.strategy, _RANKS.index(self.dose), 0.0
        return place, self.strategy, len(_RANKS), -float(self.dose or 0.0)


@dataclasses.dataclass(frozen=True)
class Trials:
    """The sweep rows of one text.

    Attributes:
      text: The text's name; empty when the rows do not say.
      baseline: The row of the unedited model, or None.
      rows: Rows by (method, set).
      model: The model's id where the rows are of several models, else empty.
    """

    text: str
    baseline: Row | None
    rows: Mapping[tuple[Method, str], Row]
    model: str = ""

    @property
    def name(self) -> str:
        """Model and text as titles have them."""
        return panel_name(self.model, self.text)

    @property
    def methods(self) -> tuple[Method, ...]:
        return tuple(sorted({method for method, _ in self.rows}, key=lambda method: method.order))

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets, the main ones first, then the user's own, then the families."""
        return tuple(sorted({name for _, name in self.rows}, key=_set_order))

    def row(self, method: Method, name: str) -> Row | None:
        return self.rows.get((method, name))

    def value(self, method: Method, name: str) -> float:
        """Degradation in percent: NaN where not measured, inf where not finite."""
        row = self.row(method, name)
        return math.nan if row is None else number(row, "degradation_percent")

    def doses(self, strategy: str, name: str) -> list[Method]:
        """The doses of a strategy that were measured on a set, in ascending order of alpha."""
        found = [m for m, other in self.rows if m.strategy == strategy and other == name]
        return sorted(found, key=lambda method: method.order, reverse=True)

    def measured_on(self, names: Iterable[str]) -> list[Method]:
        """The methods that were measured on at least one of the sets."""
        names = set(names)
        found = {method for method, name in self.rows if name in names}
        return [method for method in self.methods if method in found]


def by_text(rows: Iterable[Row] | Sequence[Trials]) -> tuple[Trials, ...]:
    """Groups the sweep rows of a manipulation run by text, in their order.

    Args:
      rows: Mappings with the fields of the manipulation experiment (DESIGN section 3), a
        data frame of them, or what this function returned. Rows of a `kind` are left out.

    Returns:
      One `Trials` for each text, of rows of several models for each model and text.

    Raises:
      InputError: A strategy on a set comes twice with different losses.
    """
    rows = records(rows)
    if rows and isinstance(rows[0], Trials):
        return tuple(rows)
    rows = [row for row in rows if not row.get("kind")]
    return tuple(_trials(model, text, own) for (model, text), own in panels_of(rows).items())


def _trials(model: str, text: str, rows: Iterable[Row]) -> Trials:
    baseline: dict[str, Row] = {}
    found: dict[tuple[Method, str], Row] = {}
    for row in rows:
        if row.get("variant") == "baseline":
            put(baseline, "baseline", row)
        elif row.get("strategy") and row.get("set"):
            put(found, (Method.of(row), _set_of(row)), row)
    return Trials(text, baseline.get("baseline"), found, model)


def main_sets(trials: Trials) -> list[str]:
    """measured, paper, paper_inner and the sets that a user named by their layers."""
    return [name for name in trials.sets if name in MAIN_SETS or name.startswith("layers_")]


def least_sets(trials: Trials) -> dict[int, str]:
    """The sets of the k least important layers by k."""
    found = {k: name for name in trials.sets if (k := _count(name, "least")) is not None}
    return dict(sorted(found.items()))


def pair_sets(trials: Trials) -> dict[tuple[int, int], str]:
    """The sets of two layers by their layers."""
    found = {}
    for name in trials.sets:
        if match := re.fullmatch(r"pair_(\d+)_(\d+)", name):
            found[int(match[1]), int(match[2])] = name
    return found


def random_sets(trials: Trials) -> dict[str, int]:
    """How many layers each set of randomly chosen layers has."""
    counts = ((name, _count(name, "random")) for name in trials.sets)
    return {name: count for name, count in counts if count is not None}


def mean_by_count(trials: Trials, method: Method) -> dict[int, float]:
    """Mean rise of the NLL over the random sets of each size, in nats, where all are finite."""
    groups: dict[int, list[float]] = {}
    for name, count in random_sets(trials).items():
        if trials.row(method, name):
            groups.setdefault(count, []).append(_nats(trials.value(method, name)))
    means = {count: statistics.fmean(values) for count, values in sorted(groups.items())}
    return {count: mean for count, mean in means.items() if math.isfinite(mean)}


def mean_of_one(trials: Trials, method: Method) -> float:
    """Mean rise of the NLL in nats over all layers that were changed alone.

    Where none was, over the random sets of one layer; NaN where there is neither.
    """
    values = [
        _nats(trials.value(method, name))
        for other, name in trials.rows
        if other == method and name.startswith("layer_")
    ]
    return statistics.fmean(values) if values else mean_by_count(trials, method).get(1, math.nan)


def set_label(name: str) -> str:
    """A set as it is written in figures: "paper, inner", "least 4", "3, 5"."""
    if name == "paper_inner":
        return "paper, inner"
    head, _, layers = name.partition("_")
    return layers.replace("_", ", ") if head in ("layers", "pair") else name.replace("_", " ")


def percent(share: float) -> str:
    """1 % for 0.01."""
    return f"{100 * share:g} %"


def _nats(degradation: float) -> float:
    """The inverse of `measures.statistics.degradation_percent`."""
    return math.log1p(degradation / 100)


def _set_of(row: Row) -> str:
    """A row's set; draws of noise on one layer share its name, so their seed is added."""
    name, seed = row["set"], row.get("seed")
    return name if seed is None or name.endswith(f"_s{seed}") else f"{name}_s{seed}"


def _count(name: str, family: str) -> int | None:
    match = re.fullmatch(rf"{family}_(\d+)(_s\d+)?", name)
    return int(match[1]) if match else None


def _set_order(name: str) -> tuple:
    if name in MAIN_SETS:
        return 0, MAIN_SETS.index(name), name
    family = ("layers", "least", "pair", "layer", "random")
    head = name.split("_")[0]
    numbers = tuple(map(int, re.findall(r"\d+", name)))
    return 1, family.index(head) if head in family else len(family), head, numbers

"""What strategies and sets of layers are called on the page, and their order."""

import re

from jaxanatomy.interventions.sets import MAIN_SETS
from jaxanatomy.ranges import is_numbers
from jaxanatomy.report.views import Row

# In the order of tables and figures: what AH tested first.
STRATEGIES = {
    "scale": "scale",
    "scale_output": "scale outputs",
    "zero": "zero",
    "clone": "clone",
    "clone_high": "clone high",
    "clone_with_norms": "clone with norms",
    "blend_2": "blend of 2",
    "blend_4": "blend of 4",
    "low_rank": "low rank",
    "own_svd": "own SVD",
    "predicted": "predicted",
    "neighbour_mean": "neighbour mean",
    "perturb": "noise",
}
SCALES = ("scale", "scale_output")
NOISE = "perturb"
RANKS = ("full", "half")
FAMILIES = ("least", "layers", "even", "last", "random")


def dose_of(row: Row) -> float | str | None:
    """A row's alpha, else its rank, else None."""
    return row.get("rank") if row.get("alpha") is None else row["alpha"]


def method_of(row: Row) -> str:
    """A strategy with its dose: "scale × 0.9", "low rank, half rank"."""
    strategy, dose = row["strategy"], dose_of(row)
    words = STRATEGIES.get(strategy, strategy.replace("_", " "))
    if dose is None:
        return words
    if strategy == NOISE:
        return f"{words} of {share(dose)}"
    if strategy in SCALES:
        return f"{words} × {dose:g}"
    return f"{words}, {dose} rank" if dose in RANKS else f"{words}, rank {dose:g}"


def method_order(row: Row) -> tuple:
    """Known strategies first, mild doses before strong ones."""
    strategy, dose = row["strategy"], dose_of(row)
    place = [*STRATEGIES, strategy].index(strategy)
    if dose in RANKS:
        return place, strategy, RANKS.index(dose), 0.0
    return place, strategy, len(RANKS), -float(dose or 0.0)


def set_order(name: str) -> tuple:
    """The main sets first, then the families of sets, each by its numbers."""
    if name in MAIN_SETS:
        return 0, MAIN_SETS.index(name), ()
    family = "layers" if is_numbers(name) else name.split("_")[0]
    return 1, [*FAMILIES, family].index(family), tuple(map(int, re.findall(r"\d+", name)))


def set_name(name: str) -> str:
    """A set as tables have it: "paper, inner", "least 4", "layer 2", "2, 7"."""
    if name == "paper_inner":
        return "paper, inner"
    if name.isdecimal():
        return f"layer {name}"
    return name.replace(",", ", ").replace("_", " ")


def count_of(row: Row, family: str) -> int | None:
    """4 for the set "least_4" of the family "least"; None for other sets."""
    match = re.fullmatch(rf"{family}_(\d+)(_s\d+)?", row["set"])
    return int(match[1]) if match else None


def share(alpha: float | str | None) -> str:
    """A size of noise: "1 %"."""
    is_full = alpha in (None, "matched_noise")
    return "matched noise" if is_full else f"{100 * float(alpha):g} %"

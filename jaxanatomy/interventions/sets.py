"""Sets of layers by name (AH sections 3.5, 4.2 and 4.4)."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxanatomy.errors import InputError, choose
from jaxanatomy.forensics.prediction import targets
from jaxanatomy.interventions.where import Where, together
from jaxanatomy.ranges import is_numbers

# The nine layers that AH section 4.1 finds redundant in a model of 30. Two of them are the
# first and the last, which AH Table 1 prints as 0.0 because they were not measured.
PAPER = (0, 3, 5, 6, 12, 14, 17, 19, 29)
PAPER_DEPTH = 30
REDUNDANT_PERCENT = 10.0
MEASURED_SIZE = 9
LARGEST_LEAST = 12
MIN_LAYERS = 4
MAIN_SETS = ("measured", "paper", "paper_inner")
FORMS = {
    "3,5-8": "layers of your own",
    "measured": "neighbour mean below +10 % perplexity, or the nine least degraded if fewer",
    "paper": "the nine redundant layers of AH, 0 and 29 among them (models of 30 layers)",
    "paper_inner": "the same without the first and the last layer",
    "least_K": "the K inner layers whose neighbour mean degrades least",
    "even_K": "the middle layers of K equal parts of the model from layer 2 on",
    "last_K": "the last K layers",
    "random_K_sS": "the first K layers of a random order of seed S, nested in K",
}

Degradation = Mapping[int, float]


def parse_set(num_layers: int, name: str, degradation: Degradation | None = None) -> Where:
    """The set of a name; see `FORMS`.

    Args:
      num_layers: Depth of the model.
      name: For example "paper", "least_3", "11", "3,5-8". What is named by its layers is called
        by them in ascending order, however they came.
      degradation: Of each inner layer's neighbour mean, in percent; `measured` and
        `least_K` need it.

    Raises:
      InputError: An unknown name (the message has the closest), a layer that does not
        exist or comes twice, a set that needs another model.
    """
    name = str(name)
    if is_numbers(name):
        return together(num_layers, name)
    if name in ("paper", "paper_inner"):
        return _paper(num_layers, name)
    if name == "measured":
        return together(num_layers, _measured(num_layers, _given(name, degradation)), name)
    match = re.fullmatch(r"(least|even|last)_(\d+)|random_(\d+)_s(\d+)", name)
    if match is None:
        raise InputError(_unknown(name))
    if match[3]:
        count, seed = int(match[3]), int(match[4])
        layers = _first(name, layer_order(num_layers, seed), count)
        return together(num_layers, layers, f"random_{count}_s{seed}")
    count = int(match[2])
    name = f"{match[1]}_{count}"
    if match[1] == "least":
        ranked = _ranked(num_layers, _given(name, degradation))
        return together(num_layers, _first(name, ranked, count), name)
    known = targets(num_layers)
    if match[1] == "last":
        return together(num_layers, _first(name, known[::-1], count), name)
    _first(name, known, count)
    middles = [(2 * part + 1) * len(known) // (2 * count) for part in range(count)]
    return together(num_layers, [known[middle] for middle in middles], name)


def parse_sets(
    num_layers: int,
    given: str | Iterable[str | Iterable[int]],
    degradation: Degradation | None = None,
) -> list[Where]:
    """Several sets, each once.

    Args:
      num_layers: Depth of the model.
      given: A text, "paper,3,5/7-9": names stand between commas or slashes, and numbers that
        follow one another are one set. Or a list of names and of lists of layers:
        ["paper", [3, 5], "7-9"].
      degradation: Of each inner layer's neighbour mean, in percent; `measured` and
        `least_K` need it.

    Raises:
      InputError: as `parse_set`; a set that is neither a name nor a list of layers; the same
        set, or the same layers under two names. Only sets that a measurement or a draw
        chooses (`measured`, `least_K`, `random_K_sS`) may turn out to be those of another.
    """
    items = split_sets(given) if isinstance(given, str) else list(given)
    sets = [
        parse_set(num_layers, each, degradation)
        if isinstance(each, str)
        else together(num_layers, each)
        for each in items
    ]
    names: set[str] = set()
    by_layers: dict[tuple[int, ...], str] = {}
    for each in sets:
        if each.name in names:
            raise InputError(f"each set may come once; got {each.name!r} twice; leave one out")
        names.add(each.name)
        if is_numbers(each.name) or each.name.startswith("paper"):
            other = by_layers.setdefault(each.layers, each.name)
            if other != each.name:
                raise InputError(
                    f"each set may come once; {other!r} and {each.name!r} are the same layers; "
                    "leave one out"
                )
    return sets


def split_sets(given: str | Iterable[str | int]) -> list[str]:
    """The sets of "paper,3,5/7-9", or of its parts between the commas.

    Numbers that follow one another are one set; a slash ends it.
    """
    items = [given] if isinstance(given, str) else map(str, given)
    # What holds a comma is a set of its own, whatever is beside it in the list.
    text = ",".join(f"/{item}/" if "," in item and given is not item else item for item in items)
    sets = []
    for part in text.split("/"):
        names = [name.strip() for name in part.split(",") if name.strip()]
        for numeric, group in itertools.groupby(names, key=is_numbers):
            found = list(group)
            sets += [",".join(found)] if numeric else found
    return sets


def named_sets(num_layers: int, degradation: Degradation) -> dict[str, Where]:
    """The sets of the protocol for a model, by name.

    Args:
      num_layers: Depth of the model.
      degradation: Of each inner layer's neighbour mean, in percent; infinite allowed.

    Returns:
      measured, paper and paper_inner (in models of 30 layers), least_1 .. least_12 as far
      as there are inner layers, and the 36 pairs of `PAPER` (30 layers again).

    Raises:
      InputError: A model of fewer than four layers, or `degradation` of other layers.
    """
    count = len(_ranked(num_layers, _given("measured", degradation)))
    names = ["measured", *(f"least_{k}" for k in range(1, min(LARGEST_LEAST, count) + 1))]
    if num_layers == PAPER_DEPTH:
        names[1:1] = ["paper", "paper_inner"]
        names += pairs(PAPER)
    return {name: parse_set(num_layers, name, degradation) for name in names}


def pairs(layers: Sequence[int]) -> list[str]:
    """Every two of some layers; AH Table 4 has rows of two layers that it does not name."""
    return [f"{first},{second}" for first, second in itertools.combinations(sorted(layers), 2)]


def needs_degradation(name: str) -> bool:
    """Whether a set is chosen by the neighbour means: `measured` and `least_K` are."""
    return name == "measured" or re.fullmatch(r"least_\d+", str(name)) is not None


def layer_order(num_layers: int, seed: int) -> list[int]:
    """The order in which layers join the random sets: `default_rng(seed).permutation(L)`.

    Sets of one seed are nested; all layers may be in one.
    """
    return np.random.default_rng(seed).permutation(num_layers).tolist()


def _measured(num_layers: int, degradation: Degradation) -> list[int]:
    """The redundant layers of this model: the neighbour mean costs less than 10 %.

    Where fewer than nine are that cheap it is the nine least degraded ones, as many as the
    paper's (or all inner layers, if there are not nine).
    """
    ranked = _ranked(num_layers, degradation)
    cheap = sum(degradation[layer] < REDUNDANT_PERCENT for layer in ranked)
    return ranked[: max(cheap, MEASURED_SIZE)]


def _first(name: str, layers: Sequence[int], count: int) -> Sequence[int]:
    if not 1 <= count <= len(layers):
        form = next(form for form in FORMS if form[:4] == name[:4])
        raise InputError(f"{form} takes 1 to {len(layers)} layers of this model; got {name}")
    return layers[:count]


def _paper(num_layers: int, name: str) -> Where:
    if num_layers != PAPER_DEPTH:
        raise InputError(
            f"set {name!r} is of a model of {PAPER_DEPTH} layers; this one has "
            f"{num_layers}; take 'measured' or name layers, for example '1,2'"
        )
    return together(num_layers, PAPER[1:-1] if name == "paper_inner" else PAPER, name)


def _ranked(num_layers: int, degradation: Degradation) -> list[int]:
    """Inner layers, the least degraded first; of equal ones the lower index."""
    if num_layers < MIN_LAYERS:
        raise InputError(
            f"sets that are chosen by a map need a model of {MIN_LAYERS} layers or more; got "
            f"{num_layers}; take a deeper model"
        )
    inner = range(1, num_layers - 1)
    if sorted(degradation) != list(inner):
        raise InputError(
            f"the degradation of inner layers 1 to {num_layers - 2} is needed, and of no "
            f"other; got layers {', '.join(map(str, sorted(degradation))) or 'none'}"
        )
    for layer in inner:
        if math.isnan(degradation[layer]):
            raise InputError(
                f"the degradation of layer {layer} must be a number or infinite; got NaN; "
                "measure it again, or name layers yourself"
            )
    return sorted(inner, key=lambda layer: (degradation[layer], layer))


def _given(name: str, degradation: Degradation | None) -> Degradation:
    if degradation is None:
        raise InputError(
            f"set {name!r} is chosen by the degradation of the neighbour means, which is not "
            "measured here; name the layers, for example '3,5'"
        )
    return degradation


def _unknown(name: str) -> str:
    """What to say of a name without a meaning."""
    try:
        choose("layer set", name, FORMS)
    except InputError as error:
        return f"{error} (a capital stands for a number, as in 'least_4')"
    return f"a set needs numbers for the capitals of {name!r}, as in 'least_4'"

"""Mixtures of sources with weights, and which source each row of a run comes from.

Weights are shares of tokens, as all rows are equally long. Rows of the sources are dealt
out evenly, not drawn: after any number of rows each source has its share to within a
row or two.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

from jaxanatomy.data import corpora, library_text
from jaxanatomy.errors import InputError, choose

# Rows are dealt by whole numbers; this is the finest share.
_UNITS = 10**6


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Sources and their shares of the tokens.

    Attributes:
      sources: Each one of the forms in `corpora.SOURCES`; all different.
      weights: Above 0, with a sum of 1 when each is rounded to six decimals.

    Raises:
      InputError: Weights do not sum to 1, one is not in (0, 1], or a source comes twice.
    """

    sources: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self):
        if not self.sources:
            raise InputError("a mixture must have at least one source; it has none; name one")
        for source, weight in zip(self.sources, self.weights, strict=True):
            # NaN and infinity end at the first part; they cannot be rounded.
            if not 0 < weight < 2 or not 1 <= round(weight * _UNITS) <= _UNITS:
                raise InputError(
                    f"the weight of {source!r} must be above 0 (at least {1 / _UNITS:g}) and at "
                    f"most 1; got {weight:.9g}; mend it, or leave the source out"
                )
            if self.sources.count(source) > 1:
                raise InputError(f"a mixture must name {source!r} once; add its weights up")
        # Each may be off by half a unit; whole numbers, so that no rounding error decides.
        if 2 * abs(sum(self.units) - _UNITS) > len(self.units):
            shown = " + ".join(f"{weight:.9g}" for weight in self.weights)
            raise InputError(
                f"the weights of a mixture must sum to 1; {shown} = {sum(self.weights):.9g}; mend "
                "them"
            )

    @property
    def units(self) -> tuple[int, ...]:
        """The weights as whole numbers."""
        return tuple(round(weight * _UNITS) for weight in self.weights)


# Of a part with a weight, several parts, or a path, `tfds:` or `hf:`.
_IN_NO_NAME = frozenset(" ,:/\\.#*")

# What a config may name.
MIXTURES: dict[str, tuple[str, ...]] = {
    # Needs no download.
    "offline": (
        "0.4 primitives",
        "0.2 arithmetic",
        "0.2 library_english",
        "0.2 library_code",
    ),
    # For a cooldown on mathematics, as the paper's on OpenWebMath (DG Table 1).
    "offline_math": ("0.4 primitives", "0.6 arithmetic"),
    # DG Appendix A. The hub's python-edu has no text of its own; this copy has.
    "smollm_corpus": (
        "0.7 hf:HuggingFaceTB/smollm-corpus:fineweb-edu-dedup/*.parquet",
        "0.15 hf:HuggingFaceTB/smollm-corpus:cosmopedia-v2/*.parquet",
        "0.09 hf:Avelina/python-edu:data/*.parquet",
        "0.06 hf:open-web-math/open-web-math:data/*.parquet",
    ),
    "open_web_math": ("1 hf:open-web-math/open-web-math:data/*.parquet",),
}


def parse_mixture(given: str | Sequence[str]) -> Mixture:
    """A mixture as a config writes it.

    Args:
      given: A name in `MIXTURES`, or texts such as "0.7 library_code", one for each source,
        in one text with commas between them or in several; the weight may be left out where
        there is only one. A source may be a name in `MIXTURES`, too: "0.8 offline, 0.2 hops".

    Raises:
      InputError: It is malformed (of a misspelt name the message has the closest), or as
        `Mixture`.
    """
    if isinstance(given, str):
        given = given.strip()
        if given in MIXTURES:
            return parse_mixture(MIXTURES[given])
        named = [*corpora.GENERATED, *library_text.KINDS]
        if not _IN_NO_NAME.intersection(given):
            choose("mixture", given, [*MIXTURES, *named])
        given = given.split(",")
    if len(given) == 1 and " " not in given[0].strip():
        return Mixture((given[0].strip(),), (1.0,))
    shares: list[tuple[str, float]] = []
    for part in given:
        number, _, source = part.strip().partition(" ")
        try:
            weight = float(number)
        except ValueError:
            raise InputError(
                f"a part of a mixture is written 'WEIGHT SOURCE', like '0.7 library_code'; got "
                f"{part!r}; mend it"
            ) from None
        source = source.strip()
        if source in MIXTURES:
            inner = parse_mixture(source)
            shares += [
                (name, weight * share)
                for name, share in zip(inner.sources, inner.weights, strict=True)
            ]
        else:
            shares.append((source, weight))
    sources, weights = zip(*shares, strict=True) if shares else ((), ())
    return Mixture(tuple(sources), tuple(weights))


@dataclasses.dataclass(frozen=True)
class MixtureSchedule:
    """Which mixture is read from which step on.

    Attributes:
      mixtures: Pairs (first step, mixture), the first from step 0, with rising steps. A
        source that is in several goes on where it was: no row is read twice.

    Raises:
      InputError: The steps do not rise from 0.
    """

    mixtures: tuple[tuple[int, Mixture], ...]

    def __post_init__(self):
        steps = [step for step, _ in self.mixtures]
        if not steps or steps[0] or any(a >= b for a, b in itertools.pairwise(steps)):
            raise InputError(
                "the mixtures of a schedule must begin at rising steps, the first at 0; got "
                f"{steps}; mend the steps (a cooldown begins after step 0 and before the end)"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source once, in the order in which they come."""
        return tuple(dict.fromkeys(name for _, mix in self.mixtures for name in mix.sources))


class Dealer:
    """Which source and which of its rows each row of a run is: a `grain.DatasetSelectionMap`.

    Attributes:
      sources: The sources, in the order of their indices.
    """

    def __init__(self, schedule: MixtureSchedule, batch_size: int, steps: int):
        """Plans a run.

        Args:
          schedule: The mixtures.
          batch_size: Rows of a (global) batch.
          steps: Steps that can be asked for.
        """
        self.sources = schedule.sources
        self._length = batch_size * steps
        self._first = [step * batch_size for step, _ in schedule.mixtures]
        self._mixtures = [mixture for _, mixture in schedule.mixtures]
        self._index = [[self.sources.index(name) for name in mix.sources] for mix in self._mixtures]
        # Rows of each source that earlier mixtures read.
        self._read = [[0] * len(self.sources)]
        for stage, stop in enumerate(self._first[1:]):
            counts = dealt(stop - self._first[stage], self._mixtures[stage].units)
            read = list(self._read[stage])
            for source, count in zip(self._index[stage], counts, strict=True):
                read[source] += count
            self._read.append(read)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> tuple[int, int]:
        """(index of the source, which of its rows) of a row of the run."""
        stage = bisect.bisect_right(self._first, row) - 1
        place = row - self._first[stage]
        units = self._mixtures[stage].units
        before, after = dealt(place, units), dealt(place + 1, units)
        part = next(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
        source = self._index[stage][part]
        return source, self._read[stage][source] + before[part]


def dealt(rows: int, units: Sequence[int]) -> list[int]:
    """How many of the first rows each source has; the counts sum to `rows`.

    The first source has its share rounded up, the second its share of the rest, and so
    on: one row more always adds to exactly one count.

    Args:
      rows: Rows dealt.
      units: Shares, as whole numbers.
    """
    counts, left, remaining = [], rows, sum(units)
    for unit in units:
        rest = left * (remaining - unit) // remaining
        counts.append(left - rest)
        left, remaining = rest, remaining - unit
    return counts

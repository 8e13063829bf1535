"""Which layers an intervention reads besides the one that it changes."""

import dataclasses
from collections.abc import Collection
from typing import Protocol

from jaxanatomy.forensics.prediction import FIRST_TARGET


class Sources(Protocol):
    """A rule that names layers.

    Attributes:
      count: How many it names where none is missing.
      where: The layers at which it can be followed, in words: "every layer but the first".
    """

    count: int
    where: str

    def at(self, num_layers: int, layers: Collection[int], layer: int) -> tuple[int, ...] | None:
        """The layers to read for `layer`, one of `layers` that change; None if there are too few.

        The function of an intervention gets them in this order.
        """


@dataclasses.dataclass(frozen=True)
class Offsets:
    """Layers at fixed distances, whether they change themselves or not.

    Attributes:
      offsets: -1 is the previous layer, 1 the next.
      at_ends: Whether those that exist are enough where others are missing.
    """

    offsets: tuple[int, ...] = ()
    at_ends: bool = False

    @property
    def count(self) -> int:
        return len(self.offsets)

    @property
    def where(self) -> str:
        if not self.offsets:
            return "every layer"
        if self.at_ends:
            return "every layer, boundary at the ends"
        missing = [
            name
            for name, reads in (("first", min(self.offsets) < 0), ("last", max(self.offsets) > 0))
            if reads
        ]
        return f"every layer but the {' and '.join(missing)}"

    def at(self, num_layers: int, layers: Collection[int], layer: int) -> tuple[int, ...] | None:
        found = tuple(layer + o for o in self.offsets if 0 <= layer + o < num_layers)
        enough = len(found) == self.count or (self.at_ends and found)
        return found if enough else None


@dataclasses.dataclass(frozen=True)
class Outside:
    """The layers nearest to one that changes, among those that do not (AH section 3.5).

    Attributes:
      count: How many, the nearest first.
      higher: Of two equally near layers the higher one comes first, else the lower.
    """

    count: int
    higher: bool = False

    @property
    def where(self) -> str:
        plural = "s" if self.count > 1 else ""
        return f"layers that leave {self.count} layer{plural} of the model unchanged"

    def at(self, num_layers: int, layers: Collection[int], layer: int) -> tuple[int, ...] | None:
        outside = [other for other in range(num_layers) if other not in layers]
        sign = -1 if self.higher else 1
        nearest = sorted(outside, key=lambda other: (abs(other - layer), sign * other))
        return tuple(nearest[: self.count]) if len(nearest) >= self.count else None


@dataclasses.dataclass(frozen=True)
class Earlier:
    """All layers before, in order, of which there must be two (AH section 4.2)."""

    count: int = 0  # another at each layer
    where: str = f"the layers from {FIRST_TARGET} on"

    def at(self, num_layers: int, layers: Collection[int], layer: int) -> tuple[int, ...] | None:
        return tuple(range(layer)) if layer >= FIRST_TARGET else None

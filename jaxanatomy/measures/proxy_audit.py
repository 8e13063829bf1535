"""Whether a proxy may be trusted: how its order of cuts agrees with that of their damage.

Of each proxy the rank correlation with the damage over all cuts of one length, looked at twice:

- On other documents. Documents are drawn again, damage and proxy from the same ones; the interval
  is at a level that pays for the number of proxies. A proxy of weights alone has no documents, but
  the damage has.
- On other layers. Both may follow depth smoothly, and cuts that overlap are nearly the same cut, so
  that cuts are no independent pairs and may not be shuffled. The proxy is turned around the depth
  of the model instead, forwards and backwards: neighbours stay neighbours, and which cut has which
  value becomes chance. The largest correlation of all proxies at each turn is what one found by
  looking at all of them has to exceed (Westfall and Young 1993, single-step max). Simulated on 30
  layers whose neighbours correlate by 0.7: of four proxies that mean nothing one passes in 4 % of
  models; were cuts shuffled, in 27 % for single layers, in 60 % for cuts of five.

The first and the last layers are unlike all others and may carry a rank correlation alone, so all
of it is asked again of the cuts that leave both in place.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxanatomy.measures.statistics.estimates import Estimate, rank_correlations

ERROR = 0.05  # chance that some proxy of those looked at is called better than chance by chance
STRONG = 0.5  # what a proxy's correlation must exceed, by its whole interval, to be trusted
# Cuts that share no layer: with fewer of them smooth curves over depth agree too often by chance.
# Simulated: of four proxies that mean nothing one agreed in 4 % of models with five, 8 with three.
LEAST_APART = 5
DRAWS, KEY = 2000, 0

TRUSTED, BETTER, NOT, UNKNOWN = "trusted", "better than chance", "not trusted", "cannot tell"
VERDICTS = {
    TRUSTED: f"orders cuts better than chance, by a correlation above {STRONG} on other documents",
    BETTER: "orders cuts better than chance, but not by that much",
    NOT: "chance, or other documents, may account for its order",
    UNKNOWN: "too few cuts for anything to be told from chance, or no documents to draw again",
}


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A number of each of V cuts: a ratio of sums over U documents, or one without documents.

    Attributes:
      value_V: As it is; infinite where it could not be measured.
      sums_VU: Its sums over documents; None: no document decides it.
      count_U: What they are divided by.
    """

    value_V: np.ndarray
    sums_VU: np.ndarray | None = None
    count_U: np.ndarray | None = None

    @classmethod
    def of_sums(cls, sums_VU: np.ndarray, count_U: np.ndarray) -> "Quantity":
        """A ratio; a sum that is not finite makes it infinite: the worst of all."""
        sums_VU, count_U = np.asarray(sums_VU, np.float64), np.asarray(count_U, np.float64)
        is_known_V = np.isfinite(sums_VU).all(axis=1)
        value_V = np.where(is_known_V, sums_VU.sum(axis=1) / count_U.sum(), np.inf)
        return cls(value_V, np.where(is_known_V[:, None], sums_VU, 0.0), count_U)

    def drawn(self, times_BU: np.ndarray) -> np.ndarray:
        """Its values [B, V] if document u came as often as `times_BU` says."""
        if self.sums_VU is None:
            return np.broadcast_to(self.value_V, (len(times_BU), len(self.value_V)))
        value_BV = times_BU @ self.sums_VU.T / (times_BU @ self.count_U)[:, None]
        return np.where(np.isinf(self.value_V), np.inf, value_BV)

    def at(self, is_kept_V: np.ndarray) -> "Quantity":
        """Of some cuts."""
        sums_VU = None if self.sums_VU is None else self.sums_VU[is_kept_V]
        return Quantity(self.value_V[is_kept_V], sums_VU, self.count_U)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the order of a proxy agrees with that of the damage.

    Attributes:
      correlation: Spearman's, with its interval over documents.
      p: Probability that some proxy would agree as well by chance.
    """

    correlation: Estimate
    p: float

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        low = self.correlation.low
        if np.isnan(self.p) or np.isnan(low):
            return UNKNOWN
        if self.p > ERROR or low <= 0:
            return NOT
        return TRUSTED if low > STRONG else BETTER


def agreements(
    damage: Quantity, proxies: Mapping[str, Quantity], apart: int
) -> dict[str, Agreement]:
    """The agreement of each proxy with the damage over the same V cuts; NaN for fewer than two.

    Args:
      damage: Of V cuts in the order of depth.
      proxies: Of the same.
      apart: How many cuts of that length the model has that share no layer.
    """
    if len(damage.value_V) < 2:
        return {name: Agreement(Estimate(np.nan), np.nan) for name in proxies}
    values_NV = np.stack([each.value_V for each in proxies.values()])
    found_N = rank_correlations(values_NV, damage.value_V[None])
    chances_N = _chances(damage.value_V, values_NV, found_N)
    chances_N = np.where(apart < LEAST_APART, np.nan, chances_N)
    level = 1 - ERROR / len(proxies)
    return {
        name: Agreement(_interval(float(found), damage, each, level), float(chance))
        for (name, each), found, chance in zip(proxies.items(), found_N, chances_N, strict=True)
    }


def turns(count: int) -> np.ndarray:
    """Orders of `count` places that keep neighbours together: turned, and turned and reversed.

    Returns:
      int [2 count, count]; the first leaves all as it is. Closed under composition.
    """
    forwards = (np.arange(count)[:, None] + np.arange(count)) % count
    return np.concatenate([forwards, forwards[:, ::-1]])


def weakest(verdicts: list[str]) -> str:
    """What several looks come to: the weakest of their verdicts; unknown if one is."""
    order = list(VERDICTS)
    return max(verdicts, key=order.index)


def _chances(damage_V: np.ndarray, values_NV: np.ndarray, found_N: np.ndarray) -> np.ndarray:
    """For each proxy the share of turns at which some proxy agrees as well or better.

    NaN for all where there are too few turns for that to become as small as `ERROR`.
    """
    order_GV = turns(len(damage_V))
    if ERROR * len(order_GV) < 1:
        return np.full(len(found_N), np.nan)
    turned = [rank_correlations(value_V[order_GV], damage_V[None]) for value_V in values_NV]
    largest_G = np.nan_to_num(np.stack(turned), nan=-1.0).max(axis=0)
    as_good_NG = largest_G >= found_N[:, None] - 1e-9
    return np.where(np.isnan(found_N), 1.0, as_good_NG.mean(axis=1))


def _interval(found: float, damage: Quantity, proxy: Quantity, level: float) -> Estimate:
    """The correlation with the percentile interval over documents; none for one document.

    Documents drawn again add their noise to the noise that is there, so that drawn correlations
    are on the whole weaker: the interval errs on the side of too little trust.
    """
    units = len(damage.count_U)
    if units < 2 or np.isnan(found):
        return Estimate(found)
    times_BU = np.random.default_rng(KEY).multinomial(units, np.full(units, 1 / units), DRAWS)
    drawn_B = rank_correlations(proxy.drawn(times_BU), damage.drawn(times_BU))
    low, high = np.quantile(drawn_B[~np.isnan(drawn_B)], [(1 - level) / 2, (1 + level) / 2])
    return Estimate(found, float(min(low, found)), float(max(high, found)))

"""LR sections 1, 3 and 8: whether a layer's role foretells what becomes of the model without it.

Scores are ranked against what other experiments find of each layer. Roles are relative (z-scores),
so nothing is claimed of a single layer's role: an untrained model has roles, too.

Scores follow depth, and so does nearly all that is found of layers: two curves over depth that have
nothing to do with each other agree or disagree by rank. So both are taken beside their place: what
the best parabola over depth leaves of their ranks is correlated. Simulated on 30 layers
(`tests/claims/test_role_depth.py`): of two independent trends plain ranks are decided in 4.3 %
at the error of these claims, 0.0031; beside their place in 0.2 %.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxanatomy.claims.core import UNMEASURED, Claim, Criterion, Finding
from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.claims.importance import HARM, SKIPPED
from jaxanatomy.claims.quantities import Gather, Quantity, exact, printed, rank_correlation
from jaxanatomy.claims.recovery import GAP, LAST, POINTS
from jaxanatomy.claims.rows import Part, Row, Rows, Table, every_layer
from jaxanatomy.claims.rules import ALL, Measured, Rule, any_differs
from jaxanatomy.forensics.roles import ROLES
from jaxanatomy.measures.depth_score import changes
from jaxanatomy.measures.proxy_audit import turns
from jaxanatomy.measures.roles import of_kind
from jaxanatomy.measures.statistics.estimates import (
    Estimate,
    effective_pairs,
    spearman_interval,
)
from jaxanatomy.words import PLAIN, plain

WEAK = 0.3  # rank correlations within it foretell nothing
BENDS = 2  # degree of the polynomial over depth that is taken out of both
DRAWS, KEY = 10_000, 0  # of layers dealt at random


@dataclasses.dataclass(frozen=True)
class ByScore:
    """The rank correlation of a quantity with the score of each of some roles, over layers.

    Of both, what their place in the depth leaves (`agreement`).

    Attributes:
      each: What is read of each layer.
      scores: By role the score of each layer.
      side: +1 or -1 where only correlations of that sign count, else 0.
    """

    each: Quantity
    scores: Mapping[str, Mapping[int, float]]
    side: int = 0
    unit: str = PLAIN

    @property
    def words(self) -> str:
        """As of `Quantity`."""
        return (
            "the rank correlation over layers, beyond what a parabola over depth accounts for, of "
            f"the role's score with {self.each.words}"
        )

    def measure(self, parts: Sequence[Part]) -> list[Measured]:
        """A correlation for each role; it is missing where a layer is."""
        found = []
        for role, score in self.scores.items():
            ranked = rank_correlation(self.each, printed(score), f"the {role} score")
            gather = dataclasses.replace(ranked, of=functools.partial(_as_a_series, ranked, score))
            found += [dataclasses.replace(one, name=role) for one in gather.measure(parts)]
        return found

    def by_chance(self, parts: Sequence[Part]) -> str:
        """How often other orders of the layers agree with some score as well as theirs."""
        value_N = np.array([part.at(0.95).value for part in self.each.measure(parts) if part.at])
        if len(value_N) < max(len(parts), 4):
            return ""
        layer_N = _layers(parts)
        scores = [[own[layer] for layer in layer_N] for own in self.scores.values()]
        left = (beyond_depth(each, layer_N) for each in (value_N, *scores))
        rank_N, *rank_KN = map(_centred_ranks, left)
        words = []
        for name, order_SN in _orders(len(value_N)).items():
            # All orders have the same values, so that products compare as correlations do.
            size_S = self._sized(rank_N[order_SN] @ np.transpose(rank_KN)).max(axis=1)
            observed = self._sized(rank_KN @ rank_N).max()
            share = float((size_S >= observed - 1e-9).mean())
            words.append(f"{name}: p = {plain(max(share, 1 / len(order_SN)), 4)}")
        return f"as well with layers {', '.join(words)}"

    def _sized(self, correlation: np.ndarray) -> np.ndarray:
        return self.side * correlation if self.side else np.abs(correlation)


@functools.cache
def _orders(count: int) -> dict[str, np.ndarray]:
    """Orders of the layers in which they mean nothing, int [S, N]."""
    index_SN = np.tile(np.arange(count), (DRAWS, 1))
    return {
        "dealt at random": np.random.default_rng(KEY).permuted(index_SN, axis=1),
        "turned around the depth, which keeps neighbours": turns(count),
    }


def _centred_ranks(value_N: Sequence[float]) -> np.ndarray:
    """Ranks of norm 1 about their mean; 0 where all are equal."""
    from scipy.stats import rankdata

    rank_N = rankdata(value_N) - (len(value_N) + 1) / 2
    return rank_N / max(np.linalg.norm(rank_N), 1e-30)


def _as_a_series(
    ranked: Gather,
    score: Mapping[int, float],
    parts: Sequence[Part],
    own: Callable[[float], Sequence[Estimate]],
    level: float,
) -> Estimate:
    """`agreement`, where the layers are told apart at all."""
    found = ranked.of(parts, own, level)
    if math.isnan(found.value):
        return found
    layer_N, value_N = _layers(parts), [each.value for each in own(level)]
    return agreement(value_N, [score[layer] for layer in layer_N], layer_N, level)


def _layers(parts: Sequence[Part]) -> list[int]:
    return [part.key["layer"] for part in parts]


def beyond_depth(value_N: Sequence[float], layer_N: Sequence[int]) -> np.ndarray:
    """What the best parabola over depth leaves of the ranks of layers; 0 where it is all."""
    from scipy.stats import rankdata

    place_N = np.asarray(layer_N, np.float64) - np.mean(layer_N)
    basis_NK, _ = np.linalg.qr(np.vander(place_N, BENDS + 1))
    rank_N = rankdata(value_N)
    return (rank_N - basis_NK @ (basis_NK.T @ rank_N)).round(9)


def agreement(
    value_N: Sequence[float], score_N: Sequence[float], layer_N: Sequence[int], level: float
) -> Estimate:
    """The rank correlation of two numbers of each layer, beside their place in the depth.

    Layers resemble their neighbours beyond any trend, too: they count as fewer pairs
    (`statistics.effective_pairs`), less one for each degree of the polynomial.

    Args:
      value_N: Of each layer.
      score_N: Another.
      layer_N: Which layers.
      level: Coverage.

    Returns:
      NaN where depth accounts for all of one; no ends where fewer than four pairs are left.
    """
    own_N, its_N = (beyond_depth(each, layer_N) for each in (value_N, score_N))
    pairs = effective_pairs(own_N, its_N) - BENDS
    return spearman_interval(own_N, its_N, level, pairs)


@dataclasses.dataclass(frozen=True)
class Foretells:
    """That the scores of roles go with what another experiment finds of each layer.

    Attributes:
      roles: Whose scores; the rule counts them.
      over: Rows of the other experiment, with a part for each layer.
      quantity: What is read of each.
      rule: What it takes.
    """

    roles: tuple[str, ...]
    over: Rows
    quantity: Quantity
    rule: Rule

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments whose rows it reads."""
        return "roles", self.over.experiment

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        scores = {role: {} for role in self.roles}
        return Criterion(self.over, ByScore(self.quantity, scores), self.rule).words

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """Tests the rule on each text."""
        record = evidence.records["roles"]
        rows = of_kind(record.rows, "role", record.provenance.get("model"))
        scores = {role: {row["layer"]: row[role] for row in rows} for role in self.roles}
        tables = self.over.tables(evidence.records[self.over.experiment])
        parts = {table.text: self.over.parts(table) for table in tables}
        layers = {part.key["layer"] for own in parts.values() for part in own}
        if any(layers - score.keys() for score in scores.values()):
            return Finding(UNMEASURED, reason="the roles of some layers are lacking")
        by_score = ByScore(self.quantity, scores, _side(self.rule))
        chance = {text: by_score.by_chance(own) for text, own in parts.items()}
        words = [f"{text}: {each}".removeprefix(": ") for text, each in chance.items() if each]
        beside = "; ".join(words) or "0 for unrelated rankings"
        return Criterion(self.over, by_score, self.rule, beside=beside).finding(evidence, error)


def _side(rule: Rule) -> int:
    """The sign that a correlation needs to meet a rule; 0: either."""
    return int(math.isinf(rule.high)) - int(math.isinf(rule.low))


def _later_tokens(table: Table) -> list[Row]:
    """What each layer changes of later predictions, mean over prompts."""
    model = table.record.provenance.get("model")
    own = [row for row in table.rows if row.get("model") == model]
    return [
        {"convention": convention, "part": part, "layer": layer, "change": float(change)}
        for (convention, part), change_EL in changes(own, "output").items()
        for layer, change in enumerate(change_EL.mean(axis=0))
        if np.isfinite(change)
    ]


LATER = Rows("depth_use", _later_tokens).where(convention="paper", part="layer")
CHANGE = exact("change", words="the change of later predictions when the layer writes nothing")

# One draw of noise a layer will do: layers are the units, and draws of several have nothing to do
# with each other.
TRAINED = POINTS.where(when=LAST)


def _foretells(over: Rows, quantity: Quantity, rule: Rule, *roles: str) -> Foretells:
    return Foretells(roles or ROLES, over.at(layer=every_layer), quantity, rule)


CLAIMS = (
    Claim(
        "roles_foretell_skipping",
        "LR executive summary, section 8",
        "A layer's role predicts how the model responds when the layer is skipped: some role's "
        "score goes with the damage.",
        "'it predicts how the model responds to interventions', without a figure",
        _foretells(SKIPPED, HARM, any_differs(-WEAK, WEAK)),
    ),
    Claim(
        "passthroughs_can_be_skipped",
        "LR sections 3 and 8",
        "Passthroughs add little: the more of a passthrough a layer is, the less it costs to skip.",
        "'the natural places to insert skip-gates', without a figure",
        _foretells(SKIPPED, HARM, ALL.below(0.0), "passthrough"),
    ),
    Claim(
        "hubs_serve_later_tokens",
        "LR section 3",
        "Hubs are what later tokens pull from: the more of a hub a layer is, the more it changes "
        "of later predictions.",
        "'it most often pulls it from a hub', without a figure",
        _foretells(LATER, CHANGE, ALL.above(0.0), "hub"),
    ),
    Claim(
        "roles_foretell_recovery",
        "LR executive summary (our reading)",
        "A layer's role predicts how far it recovers from noise: some role's score goes with what "
        "is left to heal.",
        "'it predicts how the model responds to interventions', without a figure",
        _foretells(TRAINED, GAP, any_differs(-WEAK, WEAK)),
    ),
)

"""Rows and runs for tests of claims, by literal degradations and intervals."""

import math

from jaxanatomy.config import ModelConfig
from jaxanatomy.records import RunRecord
from jaxanatomy.report.claims import CLAIMS
from jaxanatomy.report.claims.claim import Evidence

SMOLLM2 = ModelConfig.uniform(
    30, 9, 3, 1536, vocab_size=49152, hidden_size=576, head_dim=64, rope_theta=100_000.0
).to_dict()
BASELINE_NLL = 3.0
TOKENS = [10] * 8
# Documents differ by this share of an effect, so that its paired interval is narrow.
SHARES = (0.95, 1.05, 0.97, 1.03, 0.99, 1.01, 1.0, 1.0)


def row(low, value, high, text="sentences", **labels):
    """A row of a sweep; value None: a perplexity that is not finite."""
    rise = math.inf if value is None else math.log1p(value / 100)
    nll = [None if value is None else 10 * (BASELINE_NLL + rise * share) for share in SHARES]
    found = {
        "hash": f"{sorted(labels.items())} {text}",
        "variant": "/".join(map(str, labels.values())),
        "nll": None if value is None else 80 * (BASELINE_NLL + rise),
        "tokens": 80,
        "ppl": None if value is None else math.exp(BASELINE_NLL + rise),
        "degradation_percent": value,
        "ci95": None if low is None else [low, high],
        "unit_nll": nll,
        "unit_tokens": TOKENS,
        "text": text,
    }
    return found | labels


def cell(layer, low, value, high, intervention="neighbour_mean", positions="all", **more):
    """A row of the importance experiment."""
    labels = {"intervention": intervention, "scope": "layer", "positions": positions}
    labels |= {"layer": layer, "boundary": more.pop("boundary", False)}
    return row(low, value, high, **labels, **more)


def finding(claim, rows=(), summary=None, papers_model=True):
    """What one claim says about the rows of the experiment that it needs."""
    (chosen,) = (each for each in CLAIMS if each.id == claim)
    provenance = {"model": "file:x", "architecture": SMOLLM2 if papers_model else {}}
    records = {
        name: RunRecord(name, list(rows), {}, provenance, summary or {"done": 1})
        for name in chosen.needs
    }
    return chosen.finding(Evidence(records))

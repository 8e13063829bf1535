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


def baseline(text="sentences"):
    """The row of the unedited model."""
    return row(0.0, 0.0, 0.0, text) | {"variant": "baseline", "ci95": None}


def trial(strategy, low, value, high, name="paper_inner", layers=(3, 5), text="sentences", **dose):
    """A row of the manipulation experiment."""
    labels = {"strategy": strategy, "alpha": None, "rank": None, "set": name, "layers": [*layers]}
    return row(low, value, high, text, **(labels | dose))


def scale(alpha, low, value, high, name="paper_inner", **more):
    """All matrices of a set times alpha."""
    return trial("scale", low, value, high, name, alpha=alpha, **more)


REPLACED = ("zero", "clone", "clone_high", "blend_2", "blend_4")
ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7)


def table4(ends, name="paper_inner", **more):
    """All of Table 4 but scale 0.9, alike."""
    rows = [trial(strategy, *ends, name, **more) for strategy in REPLACED]
    rows.append(trial("low_rank", *ends, name, rank="full", **more))
    return rows + [scale(alpha, *ends, name, **more) for alpha in ALPHAS]


def finding(claim, rows=(), summary=None, papers_model=True, depth=0):
    """What one claim says about the rows of the experiment that it needs.

    Another model than the paper's has `depth` layers; 0: its run does not say how many.
    """
    (chosen,) = (each for each in CLAIMS if each.id == claim)
    architecture = SMOLLM2 if papers_model else {"layers": [{}] * depth}
    provenance = {"model": "file:x", "architecture": architecture}
    records = {
        name: RunRecord(name, list(rows), {}, provenance, summary or {"done": 1})
        for name in chosen.needs
    }
    return chosen.finding(Evidence(records))

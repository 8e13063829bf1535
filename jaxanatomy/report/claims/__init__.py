"""The claims audit: which claims of the papers hold on a checkpoint, each by a written rule.

`audit(evidence)` tests every claim of `CLAIMS` against the rows of finished experiments. An
experiment adds its claims as a tuple in a file of this folder, entered in `CLAIMS`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxanatomy.errors import InputError
from jaxanatomy.provenance import row_hash
from jaxanatomy.records import RunRecord, read_run
from jaxanatomy.report.claims import (
    budgets,
    contradictions,
    depth_growth,
    developmental,
    growth_costs,
    importance,
    layers,
    manipulation,
    predictability,
    probes,
    recovery,
    structure,
)
from jaxanatomy.report.claims.claim import VERDICTS, Claim, Evidence, Finding, weights_of

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Claim",
    "Evidence",
    "Finding",
    "audit",
    "experiment_of",
    "gather",
    "summarise",
]

CLAIMS: tuple[Claim, ...] = (
    *importance.CLAIMS,
    *layers.CLAIMS,
    *structure.CLAIMS,
    *predictability.CLAIMS,
    *manipulation.CLAIMS,
    *probes.CLAIMS,
    *recovery.CLAIMS,
    *developmental.CLAIMS,
    *depth_growth.CLAIMS,
    *growth_costs.CLAIMS,
    *contradictions.CLAIMS,
    *budgets.CLAIMS,
)

# A field that only rows of this experiment have; the first that fits decides.
_FIELDS = {
    "predictability": "reading",
    "structure": "metric",
    "manipulation": "strategy",
    "recovery": "train_text",  # has a map of importance, too
    "importance": "intervention",
    "developmental": "exact_completions",
    "depth_growth": "eval_nll_by_source",
    "flops": "petaflops",
    "grow_checkpoint": "operator",
}


def experiment_of(record: RunRecord) -> str | None:
    """The experiment that a run is of, by the fields of its rows; None if of none that we audit."""
    fields = record.fields
    return next((name for name, field in _FIELDS.items() if field in fields), None)


def gather(folders: Iterable[str | Path]) -> Evidence:
    """Reads the runs of one model.

    Args:
      folders: Of runs of different experiments, finished or not.

    Raises:
      InputError: A folder has no run or no rows that claims are about, two are of one
        experiment, or the runs are of different weights or of different texts of one name.
    """
    records: dict[str, RunRecord] = {}
    for folder in folders:
        try:
            record = read_run(folder)
        except InputError as error:
            raise InputError(
                f"{error}; name the runs that you have as --config.runs=DIR,DIR"
            ) from None
        name = experiment_of(record)
        if name is None:
            raise InputError(
                f"expected a run of {', '.join(sorted(_FIELDS))} with rows; {folder} has "
                f"{'others' if record.rows else 'none yet'}; leave it out"
            )
        if name in records:
            raise InputError(
                f"expected one run of each experiment; {records[name].folder} and {folder} are "
                f"both of {name}; name one of them"
            )
        records[name] = record
    if not records:
        raise InputError("runs must name at least one folder of a run; got none")
    _require_one_model(records)
    _require_one_text(records)
    return Evidence(records)


def _require_one_model(records: Mapping[str, RunRecord]) -> None:
    """Runs that train their own models from scratch go with those of any checkpoint."""
    first, *others = [each for each in records.values() if weights_of(each.provenance)] or [None]
    for other in others:
        own, its = weights_of(first.provenance), weights_of(other.provenance)
        if own != its:
            raise InputError(
                f"expected runs of one model; {first.folder} is of {_model(first)}, {other.folder} "
                f"of {_model(other)} ({own!s:.8} and {its!s:.8}); audit each model on its own"
            )


def _require_one_text(records: Mapping[str, RunRecord]) -> None:
    """A text of one name must be the same text in all runs."""
    seen: dict[str, tuple[Any, RunRecord]] = {}
    for record in records.values():
        texts = record.provenance.get("data_sha256")
        for name, sha256 in texts.items() if isinstance(texts, Mapping) else ():
            own, first = seen.setdefault(name, (sha256, record))
            if sha256 != own:
                raise InputError(
                    f"expected runs on one text {name!r}; {first.folder} and {record.folder} have "
                    f"different ones of this name ({own!s:.8} and {sha256!s:.8}); measure one of "
                    "them again, or leave it out"
                )


def _model(record: RunRecord) -> str:
    return str(record.provenance.get("model") or "an unknown model")


def audit(evidence: Evidence, claims: Iterable[Claim] = CLAIMS) -> list[dict[str, Any]]:
    """A row for each claim: `claim`, `source`, `statement`, `paper`, `measured`, `null`, `rule`,
    `verdict`, `reason`, `model`, `text`, and `needs`, the experiments that it reads (none for
    arithmetic on the paper's figures)."""
    records = evidence.records.values()
    models = sorted({_model(record) for record in records if weights_of(record.provenance)})
    hashes = {
        name: [row["hash"] for row in record.rows] for name, record in evidence.records.items()
    }
    rows = []
    for claim in claims:
        found = claim.finding(evidence)
        read = {name: hashes.get(name) for name in claim.needs}
        rows.append(
            {
                "hash": row_hash(claim=claim.id, rule=claim.rule, evidence=read),
                "claim": claim.id,
                "source": claim.source,
                "statement": claim.statement,
                "paper": claim.paper,
                "measured": found.measured,
                "null": found.null,
                "rule": claim.rule,
                "verdict": found.verdict,
                "reason": found.reason,
                "model": ", ".join(models),
                "text": found.text,
                "needs": list(claim.needs),
            }
        )
    return rows


def summarise(evidence: Evidence, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of verdicts, apart for claims about the model and about the paper, and the runs."""
    rows = list(rows)
    parts = {
        "measured": [row for row in rows if row["needs"]],
        "arithmetic": [row for row in rows if not row["needs"]],
    }
    counts = {name: Counter(row["verdict"] for row in part) for name, part in parts.items()}
    return {
        "verdicts": {
            name: {verdict: count[verdict] for verdict in VERDICTS}
            for name, count in counts.items()
        },
        "papers_model": evidence.is_papers_model,
        "runs": {
            name: {
                "folder": str(record.folder),
                "rows": len(record.rows),
                "finished": bool(record.summary),
                "code_version": record.provenance.get("code_version"),
            }
            for name, record in evidence.records.items()
        },
    }

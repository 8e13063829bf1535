"""What a claim is, and its verdict: holds, does not hold, cannot tell, not measured.

A claim names rows, a quantity with its interval, and a rule; the verdict follows from them, never
by hand. All claims on one run share an error of 5 %: a list of claims pays for its length.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxanatomy.claims.quantities import Gather, Quantity
from jaxanatomy.claims.rows import Part, Row, Rows, Table
from jaxanatomy.claims.rules import Answer, Apart, Measured, Rule, every
from jaxanatomy.claims.words import first, shown
from jaxanatomy.measures.statistics import Estimate
from jaxanatomy.papers import table1_of
from jaxanatomy.records import RunRecord

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"
UNMEASURED = "not measured"
VERDICTS = (HOLDS, FAILS, UNDECIDED, UNMEASURED)
ERROR = 0.05  # of all claims on one run together


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the evidence says about a claim.

    Attributes:
      verdict: One of `VERDICTS`.
      measured: Our figures, in words.
      null: The null or control beside them.
      reason: What decided.
      text: The texts that were measured.
    """

    verdict: str
    measured: str = UNMEASURED
    null: str = ""
    reason: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The runs of one model that claims are tested against.

    Attributes:
      records: By the experiment's name.
    """

    records: Mapping[str, RunRecord]

    @functools.cached_property
    def model(self) -> Mapping[str, Any]:
        """The provenance of a run of the model; empty if all train their own from scratch."""
        made = (record.provenance for record in self.records.values())
        return next(filter(weights_of, made), {})

    @property
    def depth(self) -> int:
        """The number of layers of the model; 0 if no run says."""
        return len((self.model.get("architecture") or {}).get("layers") or ())

    @functools.cached_property
    def is_papers_model(self) -> bool:
        """Whether the runs are of SmolLM2-135M's architecture with trained weights."""
        return any(
            table1_of({"config": record.config, "provenance": record.provenance}) is not None
            for record in self.records.values()
        )


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A rule on a quantity of some rows.

    Attributes:
      over: The rows, with the parts that the claim is about.
      quantity: What is read of each part.
      rule: What it takes.
      gather: Makes one figure of all parts, which the rule is then about.
      control: Rows that are shown beside.
      by: What is read of them; default: the quantity.
      beside: What else they are compared with, in words.
      everywhere: 0: each text is tested on its own. Else the claim is about every text at once,
        and needs so many.
      chosen: How many parts these were chosen among after looking; the rule pays for it.
    """

    over: Rows
    quantity: Quantity
    rule: Rule | Apart
    gather: Gather | None = None
    control: Rows | None = None
    by: Quantity | None = None
    beside: str = ""
    everywhere: int = 0
    chosen: Callable[[Table], int] = lambda _: 1

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        what = self.gather or self.quantity
        of = f" ({self.quantity.words})" if self.gather else ""
        where = f", on every one of at least {self.everywhere} texts" if self.everywhere else ""
        return f"The whole interval of {what.words}{of} {self.rule.words(what.unit)}{where}."

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """Tests the rule on each text, or on all."""
        tables = self.over.tables(evidence.records[self.over.experiment], evidence.depth)
        measured = {table.text: self._measured(table) for table in tables}
        absent = [parts for parts in measured.values() if not _any_measured(parts)]
        tables = [table for table in tables if _any_measured(measured[table.text])]
        if len(tables) < max(1, self.everywhere):
            why = first([*dict.fromkeys(part.missing for parts in absent for part in parts)], 1)
            few = f"needs {self.everywhere} texts, {len(tables)} there" if tables else ""
            return Finding(UNMEASURED, reason=few or why or "the run lacks the rows")
        if self.everywhere:
            texts = [measured[table.text] for table in tables]
            return self._one(_worst(texts), tables, error)
        return combine(
            {
                table.text: self._one(measured[table.text], [table], error / len(tables))
                for table in tables
            }
        )

    def _measured(self, table: Table) -> list[Measured]:
        parts = self.over.parts(table)
        found = [_part(part, self.quantity, self.over.draws) for part in parts]
        if self.gather is None or not found:
            return found
        missing = [part for part in found if part.at is None]
        if missing:
            words = f"{first([part.name for part in missing])} lacking: {missing[0].missing}"
            return [Measured(self.gather.words, None, words)]
        whole = functools.cache(functools.partial(self.gather.of, parts, found))
        name = f"{self.gather.words} over {len(parts)} parts"
        return [_checked(name, whole)]

    def _one(self, parts: Sequence[Measured], tables: Sequence[Table], error: float) -> Finding:
        """The finding on one text, or on all at once."""
        error /= max(map(self.chosen, tables))
        level, _ = self.rule.levels(len(parts), error)
        answer = self.rule.decide(parts, error)
        unit = (self.gather or self.quantity).unit
        return Finding(
            UNDECIDED if answer is None else HOLDS if answer else FAILS,
            _said(parts, level, unit),
            "; ".join(filter(None, [self._control(tables, level), self.beside])),
            _reason(self.rule.answers(parts, level), parts, level),
            ", ".join(filter(None, (table.text for table in tables))),
        )

    def _control(self, tables: Sequence[Table], level: float) -> str:
        if self.control is None:
            return ""
        by, words = self.by or self.quantity, []
        for table in tables:
            found = [_part(part, by, self.control.draws) for part in self.control.parts(table)]
            found = [part for part in found if part.at]
            words += [_said(found, level, by.unit)] if found else []
        return "; ".join(words)


def _any_measured(parts: Sequence[Measured]) -> bool:
    return any(part.at for part in parts)


def _part(part: Part, quantity: Quantity, draws: int) -> Measured:
    """What is read of a part, if it was measured, and drawn often enough."""
    if not part.rows:
        return Measured(part.name, None, "no rows")
    if len(part.rows) < draws:
        return Measured(part.name, None, f"drawn fewer than {draws} times")
    return _checked(part.name, functools.cache(functools.partial(quantity.of, part)))


def _checked(name: str, at: Callable[[float], Estimate | str]) -> Measured:
    """A part whose quantity can be had, or says why not."""
    found = at(1 - ERROR)
    return Measured(name, None, found) if isinstance(found, str) else Measured(name, at)


def _worst(texts: Sequence[Sequence[Measured]]) -> list[Measured]:
    """Each part on the text where it is highest; it is missing where one text lacks it."""
    named = [{part.name: part for part in parts} for parts in texts]
    found = []
    for name in dict.fromkeys(name for parts in named for name in parts):
        own = [parts.get(name) for parts in named]
        if all(part and part.at for part in own):
            found.append(Measured(name, functools.partial(_highest, own)))
        else:
            found.append(Measured(name, None, "not measured on every text"))
    return found


def _highest(parts: Sequence[Measured], level: float) -> Estimate:
    ends = [part.at(level) for part in parts]
    return Estimate(*(max(getattr(each, end) for each in ends) for end in ("value", "low", "high")))


def _said(parts: Sequence[Measured], level: float, unit: str, listed: int = 6) -> str:
    """The parts with their intervals; of many the least, the middle and the most."""
    found = [(part.name, part.at(level)) for part in parts if part.at]
    lead = ""
    if len(found) > listed:
        found.sort(key=lambda each: each[1].value)
        lead = f"{len(found)}, of these least, median, most: "
        found = [found[0], found[len(found) // 2], found[-1]]
    return lead + ", ".join(f"{name} {shown(each, unit)}".strip() for name, each in found)


def _reason(answers: Sequence[Answer], parts: Sequence[Measured], level: float) -> str:
    """What is settled, and what was not measured."""
    words = []
    for said, wanted in (("settled so", True), ("settled otherwise", False), ("open", None)):
        names = [
            part.name
            for part, answer in zip(parts, answers, strict=True)
            if answer is wanted and part.at
        ]
        words += [f"{said}: {first(names)}"] if names else []
    missing = [part for part in parts if part.at is None]
    if missing:
        names = first([part.name for part in missing])
        words.append(f"not measured: {names} ({missing[0].missing})")
    return "; ".join(words) + f"; intervals at {100 * level:.4g} %"


def combine(findings: Mapping[str, Finding]) -> Finding:
    """One finding from those of several texts: they must not contradict each other.

    A text that cannot tell leaves the verdict to the others.
    """
    if len(findings) == 1:
        return next(iter(findings.values()))
    settled = {each.verdict for each in findings.values()} - {UNDECIDED}
    said = [f"{text}: {each.verdict}, {each.reason}" for text, each in findings.items()]
    return Finding(
        settled.pop() if len(settled) == 1 else UNDECIDED,
        "; ".join(f"{text}: {each.measured}" for text, each in findings.items()),
        "; ".join(f"{text}: {each.null}" for text, each in findings.items() if each.null),
        "; ".join(said),
        ", ".join(findings),
    )


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper about a model, and what decides it.

    Attributes:
      id: Short name, unique.
      source: Where it stands: "AH section 4.3, Table 3".
      statement: What is claimed, in our words.
      paper: The paper's figure.
      criteria: Rules, which must all be met.
      papers_model: Whether it is about layers or figures of the paper's model alone.
    """

    id: str
    source: str
    statement: str
    paper: str
    criteria: tuple[Criterion, ...]
    papers_model: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The experiments whose rows it reads."""
        return tuple(dict.fromkeys(each.over.experiment for each in self.criteria))

    @property
    def rule(self) -> str:
        """When it holds, in words."""
        return " And: ".join(each.words for each in self.criteria)

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """Tests the claim, wrong with probability `error` at most."""
        absent = [name for name in self.needs if name not in evidence.records]
        if absent:
            return Finding(UNMEASURED, reason=f"needs a run of {' and '.join(absent)}")
        if self.papers_model and not evidence.is_papers_model:
            return Finding(UNMEASURED, reason="another architecture: it names the paper's model")
        found = [each.finding(evidence, error / len(self.criteria)) for each in self.criteria]
        if len(found) == 1:
            return found[0]
        return _both(found)


def _both(found: Sequence[Finding]) -> Finding:
    """All of several rules."""
    answers = [{HOLDS: True, FAILS: False}.get(each.verdict) for each in found]
    verdict = {True: HOLDS, False: FAILS, None: UNDECIDED}[every(answers)]
    if all(each.verdict == UNMEASURED for each in found):
        verdict = UNMEASURED

    def joined(field: str) -> str:
        return "; and ".join(filter(None, dict.fromkeys(getattr(each, field) for each in found)))

    reasons = "; and ".join(f"{each.verdict}: {each.reason}" for each in found)
    return Finding(verdict, joined("measured"), joined("null"), reasons, joined("text"))


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A claim that figures agree: no measurement, so no noise that could decide it.

    Attributes:
      id: As of `Claim`; so are source, statement and paper.
      rule: When it holds, in words.
      check: Whether it does, our figure, and what decided; None if rows are missing.
      needs: Experiments that compute figures from sizes alone; none: the papers' own.
    """

    id: str
    source: str
    statement: str
    paper: str
    rule: str
    check: Callable[[Sequence[Row]], tuple[Answer, str, str] | None]
    needs: tuple[str, ...] = ()

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """Does the sum."""
        absent = [name for name in self.needs if name not in evidence.records]
        if absent:
            return Finding(UNMEASURED, reason=f"needs a run of {' and '.join(absent)}")
        rows = [row for name in self.needs for row in evidence.records[name].rows]
        found = self.check(rows)
        if found is None:
            return Finding(UNMEASURED, reason="the run lacks the rows")
        answer, measured, reason = found
        verdict = {True: HOLDS, False: FAILS, None: UNDECIDED}[answer]
        return Finding(verdict, measured, reason=reason or "the figures decide")


def weights_of(provenance: Mapping[str, Any]) -> Any:
    """What tells models apart; None for a run that trains its own from scratch."""
    return provenance.get("weights_sha256") or provenance.get("model")

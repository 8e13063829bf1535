"""What a claim is, and its verdict: holds, does not hold, cannot tell, not measured.

A claim names rows, a quantity with its interval, and a rule; the verdict follows from them, never
by hand. All claims on one run share an error of 5 %: a list of claims pays for its length.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from jaxanatomy.claims.evidence import Evidence
from jaxanatomy.claims.quantities import Gather, Quantity
from jaxanatomy.claims.rows import MissingError, Row, Rows, Table
from jaxanatomy.claims.rules import Answer, Measured, Rule, every
from jaxanatomy.measures.statistics.estimates import Estimate
from jaxanatomy.words import first, interval

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"
UNMEASURED = "not measured"
VERDICTS = (HOLDS, FAILS, UNDECIDED, UNMEASURED)
_OF_ANSWER = {True: HOLDS, False: FAILS, None: UNDECIDED}


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
class Criterion:
    """A rule on a quantity of some rows.

    Attributes:
      over: The rows, with the parts that the claim is about.
      quantity: What is read of each part, or of all.
      rule: What it takes.
      control: Rows that are shown beside.
      by: What is read of them; default: the quantity, of each part.
      beside: What else they are compared with, in words.
      everywhere: 0: each text is tested on its own. Else the claim is about every text at once,
        and needs so many.
      chosen: How many parts these were chosen among after looking; the rule pays for it.
    """

    over: Rows
    quantity: Quantity | Gather
    rule: Rule
    control: Rows | None = None
    by: Quantity | None = None
    beside: str = ""
    everywhere: int = 0
    chosen: Callable[[Table], int] = lambda _: 1

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiment whose rows it reads."""
        return (self.over.experiment,)

    @property
    def words(self) -> str:
        """The rule as a sentence."""
        rule = self.rule.words(self.quantity.unit)
        where = f", on every one of at least {self.everywhere} texts" if self.everywhere else ""
        return f"The whole interval of {self.quantity.words} {rule}{where}."

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """Tests the rule on each text, or on all."""
        tables = self.over.tables(evidence.records[self.over.experiment])
        parts = {table.text: self.quantity.measure(self.over.parts(table)) for table in tables}
        there = [table for table in tables if any(part.at for part in parts[table.text])]
        if len(there) < max(1, self.everywhere):
            few = f"needs {self.everywhere} texts, {len(there)} there" if there else ""
            why = first([*dict.fromkeys(part.missing for own in parts.values() for part in own)], 1)
            return Finding(UNMEASURED, reason=few or why or "the run lacks the rows")
        if self.everywhere:
            return self._one(_worst([parts[table.text] for table in there]), there, error)
        return combine(
            {
                table.text: self._one(parts[table.text], [table], error / len(there))
                for table in there
            }
        )

    def _one(self, parts: Sequence[Measured], tables: Sequence[Table], error: float) -> Finding:
        """The finding on one text, or on all at once."""
        error /= max(map(self.chosen, tables))
        level, _ = self.rule.levels(len(parts), error)
        return Finding(
            _OF_ANSWER[self.rule.decide(parts, error)],
            _said(parts, level, self.quantity.unit),
            _joined([self._control(tables, level), self.beside]),
            _reason(self.rule, parts, level),
            ", ".join(filter(None, (table.text for table in tables))),
        )

    def _control(self, tables: Sequence[Table], level: float) -> str:
        if self.control is None:
            return ""
        own = self.quantity.each if isinstance(self.quantity, Gather) else self.quantity
        by = self.by or own
        found = (by.measure(self.control.parts(table)) for table in tables)
        return _joined(_said(parts, level, by.unit) for parts in found)


def _joined(words, by: str = "; ") -> str:
    return by.join(filter(None, words))


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
    words = (
        f"{name} {interval(each.value, each.low, each.high, unit)}".strip() for name, each in found
    )
    return lead + ", ".join(words)


def _reason(rule: Rule, parts: Sequence[Measured], level: float) -> str:
    """What is settled, and what was not measured."""
    answers = [(part.name, rule.answer(part.at(level))) for part in parts if part.at]
    words = []
    for said, wanted in (("settled so", True), ("settled otherwise", False), ("open", None)):
        names = [name for name, answer in answers if answer is wanted]
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
    return Finding(
        settled.pop() if len(settled) == 1 else UNDECIDED,
        _joined(f"{text}: {each.measured}" for text, each in findings.items()),
        _joined(f"{text}: {each.null}" for text, each in findings.items() if each.null),
        _joined(f"{text}: {each.verdict}, {each.reason}" for text, each in findings.items()),
        ", ".join(findings),
    )


# Whether figures agree, what they are, and what decided.
Check = tuple[Answer, str, str]


@dataclasses.dataclass(frozen=True)
class Figures:
    """That figures agree: no measurement, so no noise that could decide it.

    Attributes:
      words: When they do, as a sentence.
      check: Whether they do, of the rows.
      experiment: That computes figures from sizes alone; empty: the papers' own.
    """

    words: str
    check: Callable[[Sequence[Row]], Check]
    experiment: str = ""

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiment whose rows it reads, if any."""
        return (self.experiment,) if self.experiment else ()

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """Does the sum."""
        del error
        rows = evidence.records[self.experiment].rows if self.experiment else ()
        try:
            answer, measured, reason = self.check(rows)
        except MissingError as missing:
            return Finding(UNMEASURED, reason=str(missing))
        return Finding(_OF_ANSWER[answer], measured, reason=reason or "the figures decide")


class Test(Protocol):
    """What decides a claim: `Criterion`, `Figures`, `claims.roles.Foretells`."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments whose rows it reads."""

    @property
    def words(self) -> str:
        """The rule as a sentence."""

    def finding(self, evidence: Evidence, error: float) -> Finding:
        """What the evidence says, wrong with probability `error` at most."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper about a model, and what decides it.

    Attributes:
      id: Short name, unique.
      source: Where it stands: "AH section 4.3, Table 3".
      statement: What is claimed, in our words.
      paper: The paper's figure.
      criterion: What must be met; of several all.
      papers_model: Whether it is about layers or figures of the paper's model alone.
    """

    id: str
    source: str
    statement: str
    paper: str
    criterion: Test | tuple[Test, ...]
    papers_model: bool = False

    @property
    def criteria(self) -> tuple[Test, ...]:
        """What must be met."""
        return self.criterion if isinstance(self.criterion, tuple) else (self.criterion,)

    @property
    def is_measured(self) -> bool:
        """Whether noise could decide it; else it is arithmetic on figures."""
        return not isinstance(self.criterion, Figures)

    @property
    def needs(self) -> tuple[str, ...]:
        """The experiments whose rows it reads."""
        named = (name for each in self.criteria for name in each.experiments)
        return tuple(dict.fromkeys(named))

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
        share = error / len(self.criteria)
        return _all_of([each.finding(evidence, share) for each in self.criteria])


def _all_of(found: Sequence[Finding]) -> Finding:
    """The finding on several rules, all of which must be met."""
    if len(found) == 1:
        return found[0]
    answers = [{HOLDS: True, FAILS: False}.get(each.verdict) for each in found]
    unmeasured = all(each.verdict == UNMEASURED for each in found)

    def joined(field: str) -> str:
        return _joined(dict.fromkeys(getattr(each, field) for each in found), "; and ")

    return Finding(
        UNMEASURED if unmeasured else _OF_ANSWER[every(answers)],
        joined("measured"),
        joined("null"),
        "; and ".join(f"{each.verdict}: {each.reason}" for each in found),
        joined("text"),
    )


def enter_figures(
    claims: list[Claim], source: str, statement: str, paper: str, rule: str
) -> Callable[[Callable[[], Check]], Callable[[], Check]]:
    """A decorator that enters a claim about the papers' own figures, under the function's name.

    Args:
      claims: Where to enter it.
      source: As of `Claim`; so are statement and paper.
      rule: When the figures agree, as a sentence.
    """

    def enter(check: Callable[[], Check]) -> Callable[[], Check]:
        figures = Figures(rule, lambda rows: check())
        claims.append(Claim(check.__name__.lstrip("_"), source, statement, paper, figures))
        return check

    return enter

"""What a claim is, and how its rule says "holds", "does not hold" or "cannot tell".

A rule is an expression of three values: True, False, and None where an interval crosses a
threshold or a part was not measured. So no verdict is made by hand, and a claim about
every layer neither holds nor fails by the layers that somebody happened to measure, unless
they settle it: one counterexample does.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.measures.statistics import paired_difference
from jaxanatomy.papers import table1_of
from jaxanatomy.records import RunRecord
from jaxanatomy.report.cells import Row, interval, number

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"
VERDICTS = (HOLDS, FAILS, UNDECIDED)
Answer = bool | None


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the evidence says about a claim.

    Attributes:
      measured: Our figures, in words.
      null: The null or control beside them; empty for arithmetic on the paper's figures.
      verdict: One of `VERDICTS`.
      reason: What decided.
      text: The texts that were measured.
    """

    measured: str
    null: str
    verdict: str
    reason: str
    text: str = ""

    @classmethod
    def of(
        cls,
        answer: Answer,
        measured: str,
        null: str = "",
        reason: str = "",
        absent: Sequence[str] = (),
    ) -> "Finding":
        """A finding with the verdict of a rule's answer.

        Args:
          answer: Of the rule.
          measured: See the attributes.
          null: Likewise.
          reason: Likewise; the rule is met, or not, if empty.
          absent: Parts that the claim is about and that were not measured.
        """
        verdict = UNDECIDED if answer is None else HOLDS if answer else FAILS
        if not reason and not (absent and answer is None):
            reason = _REASONS[verdict]
        lacks = [f"{_shortened(absent)} {'was' if len(absent) == 1 else 'were'} not measured"]
        reasons = [*filter(None, [reason]), *(lacks if absent else ())]
        return cls(measured, null, verdict, "; ".join(reasons))

    def on(self, texts: Iterable[str]) -> "Finding":
        """The finding with the names of its texts."""
        return dataclasses.replace(self, text=", ".join(texts))


_REASONS = {
    HOLDS: "the rule is met",
    FAILS: "the rule is not met",
    UNDECIDED: "an interval crosses the threshold, or there is none",
}


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

    def rows(self, experiment: str) -> list[Row]:
        """All rows of an experiment; none if it was not run."""
        return list(self.records[experiment].rows) if experiment in self.records else []

    def texts(self, experiment: str) -> dict[str, list[Row]]:
        """The rows of variants on texts, by text; other kinds of rows are left out."""
        texts: dict[str, list[Row]] = {}
        for row in self.rows(experiment):
            if "variant" in row and "kind" not in row:
                texts.setdefault(str(row.get("text") or ""), []).append(row)
        return texts

    def summaries(self, experiment: str, field: str) -> dict[str, Any]:
        """A field of an experiment's summary, by text where the summary keeps it by text."""
        summary = self.records[experiment].summary if experiment in self.records else {}
        texts = summary.get("texts") or {}
        found = {name: part[field] for name, part in texts.items() if field in part}
        return found or ({"": summary[field]} if field in summary else {})


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the rule that decides it.

    Attributes:
      id: Short name, unique.
      source: Where it stands: "AH section 4.3, Table 3".
      statement: What is claimed, in our words.
      paper: The paper's figure.
      rule: When it holds, with the threshold, in a sentence.
      test: The rule; None from it means that its rows are missing.
      needs: Experiments whose rows it reads; empty for arithmetic on the paper's figures.
      papers_model: Whether it is about layers or figures of the paper's model alone.
    """

    id: str
    source: str
    statement: str
    paper: str | float
    rule: str
    test: Callable[[Evidence], Finding | None]
    needs: tuple[str, ...] = ()
    papers_model: bool = False

    def finding(self, evidence: Evidence) -> Finding:
        """Tests the claim; "cannot tell" where it cannot be tested."""
        absent = [name for name in self.needs if name not in evidence.records]
        open_ = [name for name in self.needs if name not in absent]
        open_ = [name for name in open_ if not evidence.records[name].summary]
        note = f"; the {' and '.join(open_)} run is not finished" if open_ else ""
        if absent:
            return _untested(f"not measured: needs a run of {' and '.join(absent)}{note}")
        if self.papers_model and not evidence.is_papers_model:
            return _untested("another architecture: the claim names the paper's model")
        found = self.test(evidence)
        if found is None:
            runs = " and ".join(self.needs)
            return _untested(f"not measured: the {runs} run lacks the rows{note}")
        return dataclasses.replace(found, reason=found.reason + note)


def _untested(reason: str) -> Finding:
    return Finding("not measured", "", UNDECIDED, reason)


def weights_of(provenance: Mapping[str, Any]) -> Any:
    """What tells models apart; None for a run that trains its own from scratch."""
    return provenance.get("weights_sha256") or provenance.get("model")


def per_text(
    experiment: str, test: Callable[[list[Row]], Finding | None], everywhere: bool = False
) -> Callable[[Evidence], Finding | None]:
    """A test of the rows of one text, applied to each text.

    See `per_text_of_depth`, whose tests are also told the depth of the model.
    """
    return per_text_of_depth(experiment, lambda rows, _: test(rows), everywhere)


def per_text_of_depth(
    experiment: str, test: Callable[[list[Row], int], Finding | None], everywhere: bool = False
) -> Callable[[Evidence], Finding | None]:
    """A test of the rows of one text and the depth of the model, applied to each text.

    Texts that cannot tell leave the verdict to the others; texts that contradict each
    other give "cannot tell".

    Args:
      experiment: Whose rows.
      test: None from it: its rows were not measured on that text. The depth is 0 if no run
        says how many layers the model has.
      everywhere: Whether "holds" needs every text to say so.
    """

    def whole(evidence: Evidence) -> Finding | None:
        texts = evidence.texts(experiment)
        found = {text: test(rows, evidence.depth) for text, rows in texts.items()}
        return combine({text: each for text, each in found.items() if each}, everywhere)

    return whole


def combine(findings: Mapping[str, Finding], everywhere: bool = False) -> Finding | None:
    """One finding from those of several texts; see `per_text_of_depth`."""
    if not findings:
        return None
    names = ", ".join(filter(None, findings))
    if len(findings) == 1:
        return dataclasses.replace(*findings.values(), text=names)
    verdicts = {each.verdict for each in findings.values()}
    settled = verdicts - {UNDECIDED}
    verdict = settled.pop() if len(settled) == 1 else UNDECIDED
    if everywhere and verdict == HOLDS and len(verdicts) > 1:
        verdict = UNDECIDED
    said = [f"{text}: {each.verdict}, {each.reason}" for text, each in findings.items()]
    reasons = {each.reason for each in findings.values()}
    agree = len(verdicts) == len(reasons) == 1
    return Finding(
        measured=_by_text({text: each.measured for text, each in findings.items()}),
        null=_by_text({text: each.null for text, each in findings.items() if each.null}),
        verdict=verdict,
        reason=reasons.pop() if agree else "; ".join(said),
        text=names,
    )


def _by_text(words: Mapping[str, str]) -> str:
    if len(set(words.values())) <= 1:
        return next(iter(words.values()), "")
    return "; ".join(f"{text}: {line}" for text, line in words.items())


def padded(answers: Iterable[Answer], absent: Sequence[Any]) -> list[Answer]:
    """The answers, with "cannot tell" for each part that was not measured."""
    return [*answers, *(None for _ in absent)]


def every(answers: Iterable[Answer]) -> Answer:
    """False if one is False, None if one cannot tell, else True."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True


def some(answers: Iterable[Answer]) -> Answer:
    """True if one is True, None if one cannot tell, else False."""
    return negated(every(map(negated, answers)))


def most(answers: Sequence[Answer]) -> Answer:
    """True or False if more than half say so."""
    half = len(answers) / 2
    return True if answers.count(True) > half else False if answers.count(False) > half else None


def agreed(answers: Iterable[Answer]) -> Answer:
    """True or False if all say so: draws that differ, or none, cannot tell."""
    found = set(answers)
    return found.pop() if len(found) == 1 else None


def negated(answer: Answer) -> Answer:
    """Not; None stays None."""
    return None if answer is None else not answer


def beyond(ends: Sequence[float] | None, threshold: float) -> Answer:
    """True if an interval lies at or above the threshold, False if below, None if across."""
    if ends is None or not all(map(_is_number, ends)):
        return None
    return True if ends[0] >= threshold else False if ends[1] < threshold else None


def reaches(row: Row, percent: float) -> Answer:
    """Whether a row's whole 95 % interval of degradation lies at or above `percent`.

    False if it lies below. A degradation that is not finite lies above everything.
    """
    if math.isinf(number(row, "degradation_percent")):
        return True
    return beyond(interval(row), percent)


def harms_more(row: Row, other: Row) -> Answer:
    """Whether a variant loses more than another on the same text, with its whole 95 % interval.

    What is not finite loses more than anything that is.
    """
    lost, other_lost = ("nll" in each and each["nll"] is None for each in (row, other))
    if lost or other_lost:
        return None if lost and other_lost else lost
    if "unit_nll" not in row or "unit_nll" not in other:
        return None
    found = paired_difference(row, other)
    return True if found.low > 0 else False if found.high < 0 else None


def mean_nll(row: Row) -> float:
    """Nats per token; infinite where it is not finite."""
    return math.inf if row.get("nll") is None else row["nll"] / row["tokens"]


def percent(value: float) -> str:
    """A change in percent, for reading."""
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1e6:
        mantissa, exponent = f"{value:+.1e}".split("e")
        return f"{mantissa}e{int(exponent)} %".replace("-", "−")
    return (f"{value:+,.1f} %" if abs(value) < 1e3 else f"{value:+,.0f} %").replace("-", "−")


def effect(row: Row) -> str:
    """A row's degradation with its interval, for reading."""
    words, ends = percent(number(row, "degradation_percent")), interval(row)
    if ends is None or words == "not finite":
        return words
    low, high = (percent(end).removesuffix(" %") for end in ends)
    return f"{words} [{low}, {high}]"


def layers(numbers: Iterable[int]) -> str:
    """`L8, L9`, or "none"."""
    return ", ".join(f"L{layer}" for layer in numbers) or "none"


def _shortened(names: Sequence[str], shown: int = 6) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)

"""The report of depth growth: which arm ends better, which is cheaper."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.growth.depth_arms import ARMS, BASELINE, EQUAL_FLOPS
from jaxanatomy.measures.depth_growth import CURVE, FINAL, stopped, summarise
from jaxanatomy.report.depth_growth import figures
from jaxanatomy.report.depth_growth.primitives import primitives_table
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table
from jaxanatomy.train.metrics import read_metrics

Row = Mapping[str, Any]
_HOW = (
    "All arms have the same seeds, data in the same order and one continuous learning rate, and "
    "all but the controls (shallow, mean_depth) the same architecture at the end. An arm that "
    "grows starts shallow, and copies of its own layers are inserted, with their moments. At "
    "equal steps it has read as many tokens with fewer FLOPs; arms of equal FLOPs train longer on "
    "more tokens. The held-out loss is the mean over the sources of the mixture, by their shares. "
    "Intervals are Student's over seeds; differences are from the baseline with the same seed. "
    "FLOPs are those of matrix products, three times the forward. Seconds leave out compilation "
    "and evaluation and depend on the machine; so do tokens per second, and MFU: the FLOPs in "
    "these seconds as a share of what the devices can do at most, as published for bfloat16 "
    "products or as train.peak_flops says."
)
_TRAINING = (
    "Training loss and gradient norm are before each step, on its batch; gradients of a norm above "
    "1 are scaled to it. A grown model computes more, "
    "so that tokens per second fall."
)
_PRIMITIVES = (
    "Held-out questions of each kind; the choice with the highest summed log-probability counts. "
    "Chance is guessing among all choices. In copying the answer stands in the second half of the "
    "ten words and is never among those repeated; who guesses among the words that are left so, "
    "one to five of them, is right in (1/5 + 1/4 + 1/3 + 1/2 + 1) / 5 = 45.7 % without copying."
)


def depth_growth_report(record: Any) -> Report | None:
    """The report of a `RunRecord` of depth growth; None if it is of another experiment."""
    curve = [row for row in record.rows if row.get("kind") == CURVE and "layers" in row]
    if not curve:
        return None
    finals = [row for row in record.rows if row.get("kind") == FINAL]
    arms = list(dict.fromkeys(row["arm"] for row in curve))
    summary = summarise(record.rows)["arms"]
    content: tuple = (_arms_table(summary), _costs_table(summary)) if summary else ()
    said = (_HOW, *_verdicts(summary), *_lost(stopped(record.rows), arms))
    sections = [
        Section("Does growth win?", said, (*content, _meaning(arms))),
        Section("Curves", (), (_curves(record.rows, arms),)),
    ]
    if lines := read_metrics(record.folder):
        sections.append(Section("Every step", (_TRAINING,), (_training(lines, arms),)))
    if finals:
        answers = (primitives_table(summary), _primitives(finals))
        sections.append(Section("Reasoning primitives", (_PRIMITIVES,), answers))
        sections.append(Section("Loss by source", (), (_sources_table(finals),)))
    return Report(
        kind="Depth growth",
        title="Models that grow in depth against models of constant depth",
        lead=f"{len(arms)} arms, {len({row['seed'] for row in curve})} seeds.",
        sections=tuple(sections),
    )


def summary_table(rows: Iterable[Row]) -> str:
    """A line for each arm, plain text: FLOPs, seconds, MFU, loss and accuracy."""
    lines = [
        f"{'arm':28}{'steps':>7}{'TFLOP':>10}{'seconds':>9}{'MFU':>10}{'held-out loss':>24}"
        f"{'against baseline':>26}{'accuracy':>10}{'chance':>8}"
    ]
    for name, arm in summarise(rows)["arms"].items():
        loss, accuracy = arm["eval_nll"], arm["accuracy"]
        lines.append(
            f"{name:28}{arm['steps']:7}{arm['flops'] / 1e12:10.2f}{arm['seconds']:9.1f}"
            f"{_share(arm['mfu']):>10}"
            f"{_ends(loss['mean'], loss['ci95']):>24}{_against(loss, name):>26}"
            f"{_number(accuracy['mean']):>10}{arm['chance']:8.3f}"
        )
    return "\n".join(lines)


def _verdicts(summary: Mapping[str, Any]) -> list[str]:
    """What each arm does against the baseline, in words that the intervals allow."""
    if BASELINE not in summary:
        return ["The baseline is not finished: nothing to compare with yet."]
    sides: dict[str, list[str]] = {}
    for name, arm in summary.items():
        if name == BASELINE:
            continue
        ends = arm["eval_nll"]["against_ci95"]
        side = "not told apart from the baseline"
        if ends is None:
            side = f"cannot be told, because {_untold(arm, summary[BASELINE])}"
        elif ends[1] < 0:
            side = "better than the baseline"
        elif ends[0] > 0:
            side = "worse than the baseline"
        sides.setdefault(side, []).append(name)
    parts = [f"{', '.join(names)}: {side}" for side, names in sides.items()]
    return [f"Held-out loss at the end: {'; '.join(parts)}."] if parts else []


def _untold(arm: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Why an arm has no interval against the baseline."""
    if arm["seeds"] == arm["diverged"]:
        return "all seeds diverged"
    if baseline["seeds"] == baseline["diverged"]:
        return "all seeds of the baseline diverged"
    return "an interval needs two seeds that neither diverged here nor in the baseline"


def _lost(pairs: Collection[tuple[str, int]], arms: Sequence[str]) -> list[str]:
    """Which seeds have diverged, in the order of the arms."""
    names = [f"{arm}, seed {seed}" for arm in arms for own, seed in sorted(pairs) if own == arm]
    if not names:
        return []
    return [
        f"Diverged and left out: {'; '.join(names)}.",
        "Their last checkpoints are kept in checkpoints/.",
    ]


def _arms_table(summary: Mapping[str, Any]) -> Table:
    rows = []
    for name, arm in summary.items():
        loss, accuracy = arm["eval_nll"], arm["accuracy"]
        kept = len(arm["seeds"]) - len(arm["diverged"])
        rows.append(
            (
                Cell(name),
                Cell(str(kept), kept),
                Cell(_ends(loss["mean"], loss["ci95"]), loss["mean"]),
                Cell(_against(loss, name), loss["against_baseline"]),
                Cell(_ends(accuracy["mean"], accuracy["ci95"]), accuracy["mean"]),
                Cell(_against(accuracy, name), accuracy["against_baseline"]),
            )
        )
    chance = next(iter(summary.values()))["chance"]
    return Table(
        f"Loss in nats per token; accuracy is the mean of the primitives, chance {chance:.3f}",
        (
            *("arm", "seeds", "held-out loss", "against baseline"),
            *("accuracy", "against baseline"),
        ),
        tuple(rows),
        sortable=True,
    )


def _costs_table(summary: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            Cell(name),
            Cell(f"{arm['steps']:,}", arm["steps"]),
            Cell(f"{arm['tokens'] / 1e6:,.2f}", arm["tokens"]),
            Cell(f"{arm['flops'] / 1e12:,.1f}", arm["flops"]),
            Cell(f"{arm['seconds']:,.0f}", arm["seconds"]),
            Cell(f"{arm['tokens_per_second']:,.0f}", arm["tokens_per_second"]),
            Cell(_share(arm["mfu"]), arm["mfu"]),
        )
        for name, arm in summary.items()
    )
    return Table(
        "What each arm costs, of one seed; seconds and what follows are means over seeds",
        (
            *("arm", "steps", "million tokens", "TFLOP", "seconds"),
            *("tokens per second", "MFU"),
        ),
        rows,
        sortable=True,
    )


def _meaning(arms: Sequence[str]) -> Table:
    def words(arm: str) -> str:
        base = ARMS[arm.removesuffix(EQUAL_FLOPS)]
        return base + (
            "; as many steps as the baseline's FLOPs buy" if base != ARMS.get(arm) else ""
        )

    rows = tuple((Cell(arm), Cell(words(arm))) for arm in arms)
    return Table("What each arm is", ("arm", "what"), rows, folded=True)


def _curves(rows: Iterable[Row], arms: Sequence[str]) -> Picture:
    return Picture(
        "curves",
        figures.curves(rows, arms)[0].figure,
        "Held-out loss of each arm against steps, tokens, FLOPs and seconds.",
        "Lines are means over seeds, bands their ranges; a point stands where the model has just "
        "grown, before its first step at the new depth. Dashed: LN-scaling; dotted: equal FLOPs; "
        "dash-dotted: both. A seed that has diverged is left out from its first step on.",
    )


def _training(lines: Sequence[Row], arms: Sequence[str]) -> Picture:
    return Picture(
        "training",
        figures.training(lines, arms)[0].figure,
        "Training loss, gradient norm, learning rate and tokens per second of each arm and step.",
        "Means over seeds, and over each hundredth of the steps; points, lines and seeds that "
        "diverged as above.",
    )


def _primitives(finals: Sequence[Row]) -> Picture:
    arms = list(dict.fromkeys(row["arm"] for row in finals))
    return Picture(
        "primitives",
        figures.primitives(finals, arms)[0].figure,
        "Accuracy of each primitive for each arm and seed beside chance and guessing.",
        "Each point is a seed; arms in the order of the table. Hollow: LN-scaling; diamonds: equal "
        "FLOPs.",
    )


def _sources_table(finals: Sequence[Row]) -> Table:
    sources = list(finals[0]["eval_nll_by_source"])
    rows = []
    for arm in dict.fromkeys(row["arm"] for row in finals):
        own = [row["eval_nll_by_source"] for row in finals if row["arm"] == arm]
        cells = []
        for source in sources:
            values = [each[source] for each in own if each[source] is not None]
            mean = sum(values) / len(values) if values else None
            cells.append(Cell(_number(mean), mean))
        rows.append((Cell(arm), *cells))
    return Table(
        "Held-out loss at the end by source of the mixture, mean over seeds, nats per token",
        ("arm", *sources),
        tuple(rows),
        sortable=True,
    )


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("-", "−")


def _ends(mean: float | None, ends: Sequence[float] | None) -> str:
    if ends is None:
        return _number(mean)
    return f"{_number(mean)} [{_number(ends[0])}, {_number(ends[1])}]"


def _against(found: Mapping[str, Any], arm: str) -> str:
    if arm == BASELINE:
        return ""
    return _ends(found["against_baseline"], found["against_ci95"])

"""The report of depth growth: which arm ends better, which is cheaper."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jaxanatomy.growth.depth_arms import ARMS, BASELINE, EQUAL_FLOPS, SHALLOW, grows
from jaxanatomy.measures.depth_growth import TUNED_BY, stopped, summarise
from jaxanatomy.measures.tuning import CURVE, FINAL, of_purpose, tried
from jaxanatomy.report.depth_growth import figures
from jaxanatomy.report.depth_growth.primitives import primitives_table
from jaxanatomy.report.document import Cell, Picture, Report, Section, Table
from jaxanatomy.report.tuning import tuning_table
from jaxanatomy.train.metrics import read_metrics

Row = Mapping[str, Any]
_HOW = (
    "All arms have the same seeds, data in the same order and a learning rate without breaks, "
    "tuned for each arm on seeds of their own where the config has several. All but the controls "
    "(shallow, mean_depth) have the same architecture at the end. An arm that grows starts "
    "shallow, and copies of its own layers are inserted, with their moments. At equal steps it "
    "has read as many tokens with fewer FLOPs; arms of equal FLOPs train longer on more tokens. "
    "The held-out loss is the mean over the sources of the mixture, by their shares. Intervals of "
    "means are Student's over seeds. Those of differences are over the seeds and the held-out "
    "rows (or questions) that both arms share, and hold for all differences of their kind on this "
    "page at once with 95 %. FLOPs are those of matrix products, three times the forward. Seconds "
    "leave out compilation and evaluation and depend on the machine; so do tokens per second, and "
    "MFU: the FLOPs in these seconds as a share of what the devices can do at most, as published "
    "for bfloat16 products or as train.peak_flops says."
)
_SHALLOW = (
    "A model that grows is shallow for most of its steps. If it ends better than the baseline, "
    "either depth is better added late, or it is not needed at all: the arm 'shallow' never has "
    "more layers than a growing model begins with. Below 0, the layers that were added are of use."
)
_RATES = (
    "Held-out loss of the tuning seeds at the end; each arm's seeds take the rate of its lowest. "
    "Where arms differ by less than their own columns do, a comparison at one rate would have said "
    "little."
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
    all_curves = [row for row in record.rows if row.get("kind") == CURVE and "layers" in row]
    if not all_curves:
        return None
    curve, finals = of_purpose(all_curves, CURVE), of_purpose(record.rows, FINAL)
    arms = list(dict.fromkeys(row["arm"] for row in curve))
    summary = summarise(record.rows)
    sections = []
    if arms:
        content: tuple = ()
        if finals:
            content = (_arms_table(summary), _costs_table(summary["arms"]))
        said = (_HOW, *_verdicts(summary), *_lost(stopped(record.rows), arms))
        sections.append(Section("Does growth win?", said, (*content, _meaning(arms))))
        sections += _shallow_section(summary)
        sections.append(Section("Curves", (), (_curves(curve, arms),)))
    if summary["tuning"]:
        sections.append(Section("Learning rates", (_RATES,), (_tuning(record.rows, summary),)))
    if lines := read_metrics(record.folder):
        sections.append(Section("Every step", (_TRAINING,), (_training(lines, arms),)))
    if finals:
        answers = (primitives_table(summary["arms"]), _primitives(finals))
        sections.append(Section("Reasoning primitives", (_PRIMITIVES,), answers))
        sections.append(Section("Loss by source", (), (_sources_table(finals),)))
    return Report(
        kind="Depth growth",
        title="Models that grow in depth against models of constant depth",
        lead=f"{len(arms)} arms, {len({row['seed'] for row in curve})} seeds.",
        sections=tuple(sections),
    )


def summary_table(rows: Iterable[Row]) -> str:
    """A line for each arm, plain text: rate, FLOPs, seconds, MFU, loss and accuracy.

    Below them what arms that grow lose less than the shallow one, at equal steps.
    """
    summary = summarise(rows)
    lines = [
        f"{'arm':28}{'rate':>8}{'steps':>7}{'TFLOP':>10}{'seconds':>9}{'MFU':>10}"
        f"{'held-out loss':>24}{'less baseline':>26}{'accuracy':>10}{'chance':>8}"
    ]
    for name, arm in summary["arms"].items():
        loss, accuracy = arm["eval_nll"], arm["accuracy"]
        lines.append(
            f"{name:28}{arm['learning_rate']:8g}{arm['steps']:7}{arm['flops'] / 1e12:10.2f}"
            f"{arm['seconds']:9.1f}{_share(arm['mfu']):>10}"
            f"{_ends(loss['mean'], loss['ci95']):>24}{_less(loss['less_baseline']):>26}"
            f"{_number(accuracy['mean']):>10}{arm['chance']:8.3f}"
        )
    grown = _less_shallow(summary)
    if grown:
        lines += ["", f"held-out loss less that of {SHALLOW}, at equal steps:"]
        lines += [
            f"{name:28}{_less(arm['eval_nll']['less_shallow'])}" for name, arm in grown.items()
        ]
    elif any(grows(name) for name in summary["arms"]):
        lines += ["", f"less {SHALLOW}: not measured; add {SHALLOW} to the arms"]
    lines += ["", f"differences: intervals over seeds and held-out rows, {_level(summary)}"]
    return "\n".join(lines)


def _verdicts(summary: Mapping[str, Any]) -> list[str]:
    """What each arm does against the baseline, in words that the intervals allow."""
    arms = summary["arms"]
    if BASELINE not in arms:
        return ["The baseline is not finished: nothing to compare with yet."]
    sides: dict[str, list[str]] = {}
    for name, arm in arms.items():
        if name != BASELINE:
            side = _side(arm["eval_nll"]["less_baseline"], "the baseline")
            untold = f"cannot be told, because {_untold(arm, arms[BASELINE])}"
            sides.setdefault(side or untold, []).append(name)
    parts = [f"{', '.join(names)}: {side}" for side, names in sides.items()]
    return [f"Held-out loss at the end: {'; '.join(parts)}."] if parts else []


def _side(found: Mapping[str, Any], other: str) -> str:
    """On which side of another arm a difference of losses is; empty without an interval."""
    if found["low"] is None or found["high"] is None:
        return ""
    if found["low"] <= 0 <= found["high"]:
        return f"not told apart from {other}"
    return f"better than {other}" if found["high"] < 0 else f"worse than {other}"


def _less_shallow(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The arms that are compared with the shallow one."""
    return {name: arm for name, arm in summary["arms"].items() if arm["eval_nll"]["less_shallow"]}


def _shallow_section(summary: Mapping[str, Any]) -> list[Section]:
    """Growing models against one that never grows; nothing where no arm grows."""
    title = "Is depth needed?"
    if not any(grows(name) for name in summary["arms"]):
        return []
    grown = _less_shallow(summary)
    if not grown:
        words = f"Not measured: the arms of this run lack {SHALLOW}."
        return [Section(title, (_SHALLOW, words), ())]
    sides: dict[str, list[str]] = {}
    for name, arm in grown.items():
        side = _side(arm["eval_nll"]["less_shallow"], SHALLOW) or "cannot be told"
        sides.setdefault(side, []).append(name)
    words = "; ".join(f"{', '.join(names)}: {side}" for side, names in sides.items())
    fields = ("eval_nll", "accuracy")
    rows = tuple(
        (Cell(name), *(_less_cell(arm[field]["less_shallow"]) for field in fields))
        for name, arm in grown.items()
    )
    caption = f"Grown less {SHALLOW}, at equal steps ({_level(summary)})"
    table = Table(caption, ("arm", "held-out loss", "accuracy"), rows, sortable=True)
    return [Section(title, (_SHALLOW, f"Held-out loss at the end: {words}."), (table,))]


def _level(summary: Mapping[str, Any]) -> str:
    """Of the intervals of differences, in words."""
    return f"each at level {summary['level']:.2%}, all at once 95 %"


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
    for name, arm in summary["arms"].items():
        loss, accuracy = arm["eval_nll"], arm["accuracy"]
        kept = len(arm["seeds"]) - len(arm["diverged"])
        rows.append(
            (
                Cell(name),
                Cell(str(kept), kept),
                Cell(f"{arm['learning_rate']:g}", arm["learning_rate"]),
                Cell(_ends(loss["mean"], loss["ci95"]), loss["mean"]),
                _less_cell(loss["less_baseline"]),
                Cell(_ends(accuracy["mean"], accuracy["ci95"]), accuracy["mean"]),
                _less_cell(accuracy["less_baseline"]),
            )
        )
    chance = next(iter(summary["arms"].values()))["chance"]
    return Table(
        f"Loss in nats per token; accuracy is the mean of the primitives, chance {chance:.3f}; "
        f"differences {_level(summary)}",
        (
            *("arm", "seeds", "rate", "held-out loss", "less baseline"),
            *("accuracy", "less baseline"),
        ),
        tuple(rows),
        sortable=True,
    )


def _tuning(rows: Iterable[Row], summary: Mapping[str, Any]) -> Table:
    arms = summary["arms"]
    taken = {name: arm["learning_rate"] for name, arm in arms.items()}
    at_edge = [name for name, arm in arms.items() if arm["rate_at_edge"]]
    caption = "Held-out loss at the end by learning rate, nats per token"
    return tuning_table(tried(rows, TUNED_BY), taken, at_edge, caption)


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


def _less(found: Mapping[str, Any] | None) -> str:
    """A difference with its interval; nothing for what is compared with itself."""
    if found is None:
        return ""
    ends = None if found["low"] is None else (found["low"], found["high"])
    return _ends(found["mean"], ends)


def _less_cell(found: Mapping[str, Any] | None) -> Cell:
    return Cell(_less(found), found and found["mean"])

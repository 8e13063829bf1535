"""AH Table 1, sections 4.1 and 1.2: which layers are critical, redundant, or in the way."""

from collections.abc import Callable, Sequence

from jaxanatomy.report.cells import NEIGHBOUR_MEAN, Row
from jaxanatomy.report.claims.claim import (
    Answer,
    Claim,
    Evidence,
    Finding,
    combine,
    effect,
    every,
    harms_more,
    layers,
    mean_nll,
    negated,
    per_text,
    percent,
    reaches,
    some,
)
from jaxanatomy.report.claims.importance import (
    CRITICAL,
    REDUNDANT,
    cells_of,
    inner_rows,
    skipped_span,
)
from jaxanatomy.report.reference import paper_table

_PAPER = paper_table("table1")
_PRINTED = _PAPER["degradation_percent"]


def _all_layers(
    names: Sequence[int], rule: Callable[[Row], Answer], intervention: str = NEIGHBOUR_MEAN
) -> Callable[[list[Row]], Finding | None]:
    """A test that each of the named layers obeys a rule."""

    def test(rows: list[Row]) -> Finding | None:
        cells = cells_of(rows)
        found = {layer: cells.row(intervention, layer) for layer in names}
        if None in found.values():
            return None
        answers = {layer: rule(row) for layer, row in found.items()}
        said = {
            words: [layer for layer in names if answers[layer] is answer]
            for words, answer in (
                ("settled so", True),
                ("settled otherwise", False),
                ("open", None),
            )
        }
        reason = "; ".join(f"{words}: {layers(those)}" for words, those in said.items() if those)
        measured = ", ".join(f"L{layer} {effect(row)}" for layer, row in found.items())
        beside = "zero" if intervention == NEIGHBOUR_MEAN else NEIGHBOUR_MEAN
        control = [(layer, row) for layer in names if (row := cells.row(beside, layer))]
        null = ", ".join(f"L{layer} {effect(row)}" for layer, row in control)
        words = "skipped instead" if beside == "zero" else "neighbour mean instead"
        return Finding.of(every(answers.values()), measured, null and f"{words}: {null}", reason)

    return test


def _is_critical(row: Row) -> Answer:
    return reaches(row, CRITICAL)


def _is_redundant(row: Row) -> Answer:
    return negated(reaches(row, REDUNDANT))


def _improves(row: Row) -> Answer:
    """True below 0, False above, None where the interval holds 0."""
    return negated(reaches(row, 0.0))


def _most_important(rows: list[Row]) -> Finding | None:
    named = _PRINTED.index(max(_PRINTED))
    inner = {row["layer"]: row for row in inner_rows(cells_of(rows))}
    if named not in inner or len(inner) < 2:
        return None
    own = inner.pop(named)
    rival = max(inner.values(), key=mean_nll)
    return Finding.of(
        harms_more(own, rival),
        f"L{named} {effect(own)}; next L{rival['layer']} {effect(rival)}",
        skipped_span(cells_of(rows)),
        "by the paired interval of their difference",
    )


def _anti_layers(evidence: Evidence) -> Finding | None:
    """Any layer whose replacement improves every text; it takes two texts to say so."""
    texts = {
        text: inner_rows(cells_of(rows)) for text, rows in evidence.texts("importance").items()
    }
    texts = {text: inner for text, inner in texts.items() if inner}
    if not texts:
        return None
    better = {
        text: {row["layer"]: _improves(row) for row in inner} for text, inner in texts.items()
    }
    shared = set.intersection(*(set(answers) for answers in better.values()))
    answers = {layer: every(each[layer] for each in better.values()) for layer in shared}
    answer = some(answers.values())
    if answer and len(texts) < 2:
        answer = None
    best = {text: min(inner, key=mean_nll) for text, inner in texts.items()}
    findings = {
        text: Finding.of(
            some(better[text].values()),
            f"least: L{row['layer']} {effect(row)}",
            f"{0.025 * len(better[text]):.1f} of {len(better[text])} layers by chance",
        )
        for text, row in best.items()
    }
    settled = sorted(layer for layer, each in answers.items() if each)
    still_open = sum(each is None for each in answers.values())
    words = "on the only text" if len(texts) == 1 else f"on all {len(texts)} texts"
    reason = f"settled improvements {words}: {layers(settled)}; undecided layers: {still_open}"
    whole = combine(findings)
    return Finding.of(answer, whole.measured, whole.null, reason).on(texts)


def _printed(names: Sequence[int]) -> str:
    return ", ".join(f"L{layer} {percent(_PRINTED[layer])}" for layer in names)


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test, **more) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=("importance",), **more)


_ANTI, _CORE = _PAPER["anti_layers"], _PAPER["critical_core"]
_CRITICAL_LAYERS = _PAPER["categories"]["critical"]
_REDUNDANT_LAYERS = [
    layer for layer in _PAPER["categories"]["redundant"] if layer not in _PAPER["not_ablated"]
]

CLAIMS = (
    _claim(
        "critical_layers",
        "AH Table 1",
        "The nine layers listed as critical are critical.",
        _printed(_CRITICAL_LAYERS),
        f"Each one's whole interval lies at or above {CRITICAL:g} %.",
        per_text("importance", _all_layers(_CRITICAL_LAYERS, _is_critical)),
        papers_model=True,
    ),
    _claim(
        "critical_core",
        "AH abstract, section 4.1",
        "Layers 8 to 11 form a critical core.",
        _printed(_CORE),
        f"The whole interval of each of the four lies at or above {CRITICAL:g} %.",
        per_text("importance", _all_layers(_CORE, _is_critical)),
        papers_model=True,
    ),
    _claim(
        "redundant_layers",
        "AH Table 1",
        "The inner layers listed as redundant are redundant.",
        _printed(_REDUNDANT_LAYERS),
        f"Each one's whole interval lies below {REDUNDANT:g} %.",
        per_text("importance", _all_layers(_REDUNDANT_LAYERS, _is_redundant)),
        papers_model=True,
    ),
    _claim(
        "most_important_layer",
        "AH section 4.1, Table 1",
        "Layer 11 is the most important one.",
        f"L11 {percent(_PRINTED[11])}, next L10 {percent(_PRINTED[10])}",
        "A paired interval says that it harms more than the most harmful other layer.",
        per_text("importance", _most_important),
        papers_model=True,
    ),
    _claim(
        "anti_layers_named",
        "AH abstract, Table 1",
        "Layers 14 and 17 are anti-layers: the model is as good or better without them.",
        _printed(_ANTI),
        "The whole interval of both lies below 0 on every text; it fails where a text puts one "
        "above 0.",
        per_text("importance", _all_layers(_ANTI, _improves), everywhere=True),
        papers_model=True,
    ),
    _claim(
        "anti_layers_exist",
        "AH hypothesis H4",
        "Some layers harm the model.",
        ", ".join(f"L{layer}" for layer in _ANTI),
        "The whole interval of some inner layer lies below 0 on every text, at least two.",
        _anti_layers,
    ),
    _claim(
        "random_weights_better",
        "AH hypothesis H4, section 1.2",
        "The model performs better with random weights in layers 14 and 17.",
        "H4, called confirmed",
        "With Gaussian weights of each matrix's mean and std the whole interval of both lies "
        "below 0.",
        per_text("importance", _all_layers(_ANTI, _improves, "matched_noise"), everywhere=True),
        papers_model=True,
    ),
)

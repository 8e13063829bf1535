"""AH Table 1, sections 4.1 and 1.2: which layers are critical, redundant, or in the way."""

from collections.abc import Callable, Sequence

from jaxanatomy.papers import paper_table
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
    padded,
    percent,
    reaches,
    some,
)
from jaxanatomy.report.claims.importance import CRITICAL, REDUNDANT
from jaxanatomy.report.claims.maps import LayerMap, layer_map, per_map, skipped_span
from jaxanatomy.report.claims.tried import RULE as IMPROVED
from jaxanatomy.report.claims.tried import improves

_PAPER = paper_table("table1")
_PRINTED = _PAPER["degradation_percent"]


def _all_layers(
    names: Sequence[int], rule: Callable[[Row], Answer], intervention: str = NEIGHBOUR_MEAN
) -> Callable[[LayerMap], Finding | None]:
    """A test that each of the named layers obeys a rule."""

    def test(map_: LayerMap) -> Finding | None:
        cells = map_.cells
        rows = {layer: cells.row(intervention, layer) for layer in names}
        found = {layer: row for layer, row in rows.items() if row}
        if not found:
            return None
        absent = map_.absent(intervention, among=names)
        answers = {layer: rule(row) for layer, row in found.items()}
        said = {
            words: [layer for layer in found if answers[layer] is answer]
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
        return Finding.of(
            every(padded(answers.values(), absent)),
            measured,
            null and f"{words}: {null}",
            reason,
            absent,
        )

    return test


def _is_critical(row: Row) -> Answer:
    return reaches(row, CRITICAL)


def _is_redundant(row: Row) -> Answer:
    return negated(reaches(row, REDUNDANT))


def _improves(row: Row) -> Answer:
    """True below 0, False above, None where the interval holds 0."""
    return negated(reaches(row, 0.0))


def _most_important(map_: LayerMap) -> Finding | None:
    named = _PRINTED.index(max(_PRINTED))
    inner = {row["layer"]: row for row in map_.rows()}
    if named not in inner or len(inner) < 2:
        return None
    own, absent = inner.pop(named), map_.absent()
    rival = max(inner.values(), key=mean_nll)
    return Finding.of(
        every(padded([harms_more(own, rival)], absent)),
        f"L{named} {effect(own)}; next L{rival['layer']} {effect(rival)}",
        skipped_span(map_),
        "by the paired interval of their difference",
        absent,
    )


def _anti_layers(evidence: Evidence) -> Finding | None:
    """Any layer whose replacement improves every text; it takes two texts to say so."""
    maps = {
        text: layer_map(rows, evidence.depth) for text, rows in evidence.texts("importance").items()
    }
    maps = {text: each for text, each in maps.items() if each.rows()}
    if not maps:
        return None
    shared = set.intersection(*({row["layer"] for row in each.rows()} for each in maps.values()))
    better = {
        text: {row["layer"]: improves(row, each.cells.baseline, len(shared)) for row in each.rows()}
        for text, each in maps.items()
    }
    answers = {layer: every(each[layer] for each in better.values()) for layer in sorted(shared)}
    missing = sorted({layer for each in maps.values() for layer in each.inner} - shared)
    answer = some(padded(answers.values(), missing))
    if answer and len(maps) < 2:
        answer = None
    findings = {}
    for text, each in maps.items():
        least = min(each.rows(), key=mean_nll)
        findings[text] = Finding.of(
            some(better[text].values()),
            f"least: L{least['layer']} {effect(least)}",
            f"{0.025 * len(better[text]):.1f} of {len(better[text])} layers by chance have a 95 % "
            "interval below 0",
        )
    settled = [layer for layer, each in answers.items() if each]
    still_open = sum(each is None for each in answers.values())
    words = "on the only text" if len(maps) == 1 else f"on all {len(maps)} texts"
    reason = f"settled improvements {words}: {layers(settled)}; undecided layers: {still_open}"
    whole = combine(findings)
    absent = [f"L{layer}" for layer in missing]
    return Finding.of(answer, whole.measured, whole.null, reason, absent).on(maps)


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
        per_map(_all_layers(_CRITICAL_LAYERS, _is_critical)),
        papers_model=True,
    ),
    _claim(
        "critical_core",
        "AH abstract, section 4.1",
        "Layers 8 to 11 form a critical core.",
        _printed(_CORE),
        f"The whole interval of each of the four lies at or above {CRITICAL:g} %.",
        per_map(_all_layers(_CORE, _is_critical)),
        papers_model=True,
    ),
    _claim(
        "redundant_layers",
        "AH Table 1",
        "The inner layers listed as redundant are redundant.",
        _printed(_REDUNDANT_LAYERS),
        f"Each one's whole interval lies below {REDUNDANT:g} %.",
        per_map(_all_layers(_REDUNDANT_LAYERS, _is_redundant)),
        papers_model=True,
    ),
    _claim(
        "most_important_layer",
        "AH section 4.1, Table 1",
        "Layer 11 is the most important one.",
        f"L11 {percent(_PRINTED[11])}, next L10 {percent(_PRINTED[10])}",
        "A paired interval says that it harms more than the most harmful other layer.",
        per_map(_most_important),
        papers_model=True,
    ),
    _claim(
        "anti_layers_named",
        "AH abstract, Table 1",
        "Layers 14 and 17 are anti-layers: the model is as good or better without them.",
        _printed(_ANTI),
        "The whole interval of both lies below 0 on every text that was measured; it fails if a "
        "text puts one at or above 0 and none puts both below.",
        per_map(_all_layers(_ANTI, _improves), everywhere=True),
        papers_model=True,
    ),
    _claim(
        "anti_layers_exist",
        "AH hypothesis H4",
        "Some layers harm the model.",
        ", ".join(f"L{layer}" for layer in _ANTI),
        f"Some inner layer is better replaced on every text, at least two ({IMPROVED}); it fails "
        "if on some text the 95 % interval of each lies at or above 0.",
        _anti_layers,
    ),
    _claim(
        "random_weights_better",
        "AH hypothesis H4, section 1.2",
        "The model performs better with random weights in layers 14 and 17.",
        "H4, called confirmed",
        "With Gaussian weights of each matrix's mean and std the whole interval of both lies below "
        "0 on every text that was measured; it fails if a text puts one at or above 0 and none "
        "puts both below.",
        per_map(_all_layers(_ANTI, _improves, "matched_noise"), everywhere=True),
        papers_model=True,
    ),
)

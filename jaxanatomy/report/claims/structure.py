"""AH section 4.3: the delta correlation of -0.5, its figure and its reading."""

from collections.abc import Iterable, Sequence

from jaxanatomy.papers import paper_table
from jaxanatomy.report.cells import Row
from jaxanatomy.report.claims.claim import Answer, Claim, Evidence, Finding, every, padded

FIGURE = -0.5
TOLERANCE = 0.01  # the paper's seven components lie within 0.005 of -0.5
MARGIN = 0.02  # least difference from a null that means anything
SIGMAS = 3.0  # least distance from a null, in standard deviations of its draws
NULLS = ("closed_form", "gaussian", "shuffled_layers", "random_init")

_TABLE3 = paper_table("table3_delta_correlation")


def _averages(evidence: Evidence, metric: str) -> dict[str, dict[str, Row]]:
    """Rows of a metric's average over layers, by component and null."""
    found: dict[str, dict[str, Row]] = {}
    for row in evidence.rows("structure"):
        if row.get("metric") == metric and row.get("layer") is None:
            found.setdefault(row["component"], {})[row["null"]] = row
    return found


def _is_beyond(row: Row, direction: int) -> Answer:
    """Whether a value lies beyond its null: by the margin, and by 3 sigmas where there are any."""
    value, null, z = row.get("value"), row.get("null_value"), row.get("z")
    if value is None or null is None:
        return None
    if direction * (value - null) < MARGIN:
        return False
    return z is None or direction * z >= SIGMAS


def _figure(evidence: Evidence) -> Finding | None:
    components = _averages(evidence, "delta_correlation")
    if not components:
        return None
    values = _values(components)
    near = [
        None if value is None else abs(value - FIGURE) <= TOLERANCE for value in values.values()
    ]
    absent = [name for name in _TABLE3 if name not in values]
    return Finding.of(
        every(padded(near, absent)),
        _listed(values.items()),
        _nulls(components),
        f"{near.count(True)} of {len(near)} components within {TOLERANCE} of {FIGURE}",
        absent,
    )


def _values(components: dict[str, dict[str, Row]]) -> dict[str, float | None]:
    """A metric by component: the same in its rows of all nulls."""
    return {name: next(iter(rows.values()))["value"] for name, rows in components.items()}


def _reading(metric: str, direction: int):
    """A test that a metric of every component lies beyond every null, in one direction."""

    def test(evidence: Evidence) -> Finding | None:
        components = _averages(evidence, metric)
        if not components:
            return None
        answers = {
            component: every(
                _is_beyond(rows[null], direction) if null in rows else None for null in NULLS
            )
            for component, rows in components.items()
        }
        beyond = [component for component, answer in answers.items() if answer]
        absent = [name for name in _TABLE3 if name not in components]
        for null in NULLS:
            lacking = [name for name, rows in components.items() if null not in rows]
            absent += [f"{_words(null)} of {name}" for name in lacking]
        return Finding.of(
            every(padded(answers.values(), absent)),
            _listed(_values(components).items()),
            _nulls(components),
            f"beyond every null: {', '.join(beyond) or 'no component'} of {len(answers)}",
            absent,
        )

    return test


def _nulls(components: dict[str, dict[str, Row]]) -> str:
    """For each null the span of its values over the components."""
    words = []
    for null in NULLS:
        values = [rows[null].get("null_value") for rows in components.values() if null in rows]
        values = [value for value in values if value is not None]
        if values:
            words.append(f"{_words(null)} {_span(values)}")
    return ", ".join(words)


def _words(null: str) -> str:
    return null.replace("_", " ")


def _span(values: Sequence[float]) -> str:
    low, high = _plain(min(values)), _plain(max(values))
    return low if low == high else f"{low} to {high}"


def _listed(values: Iterable[tuple[str, float | None]]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in values)


def _plain(value: float | None) -> str:
    # Adding 0.0 takes the sign from what rounds to 0.
    return "none" if value is None else f"{round(value, 4) + 0.0:.4f}".replace("-", "−")


def _claim(id: str, source: str, statement: str, paper: str, rule: str, test) -> Claim:
    return Claim(id, source, statement, paper, rule, test, needs=("structure",))


_BEYOND = (
    f"in every component by at least {MARGIN}, and where the null is drawn often by {SIGMAS:g} "
    "standard deviations of its draws (closed form, Gaussian, layers in random order, "
    "random-initialised model)"
)

CLAIMS = (
    _claim(
        "delta_correlation",
        "AH section 4.3, Table 3",
        "The delta correlation is about -0.50 in every component.",
        _listed(_TABLE3.items()),
        f"Every component's average lies within {TOLERANCE} of {FIGURE}.",
        _figure,
    ),
    _claim(
        "layers_undo_each_other",
        "AH sections 4.3, 5.2",
        "The delta correlation says that each layer partly undoes the previous one's change.",
        "read off −0.50",
        f"The delta correlation lies below every null, {_BEYOND}.",
        _reading("delta_correlation", -1),
    ),
    _claim(
        "standing_wave",
        "AH sections 4.3, 5.2",
        "Weights form a standing wave in layer space: what turns back turns again.",
        "read off −0.50",
        f"The correlation of deltas two layers apart lies above every null, {_BEYOND}.",
        _reading("lag2_delta_correlation", 1),
    ),
)

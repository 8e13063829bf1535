"""Rows of tasks of lm-evaluation-harness under several variants (needs the [eval] extra)."""

import contextlib
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lm_eval
import numpy as np
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.tasks import TaskManager

from jaxanatomy.config import ModelConfig
from jaxanatomy.data.files import first_line, first_of
from jaxanatomy.errors import InputError
from jaxanatomy.harness import Harness, Scorer, writing
from jaxanatomy.interventions.materialise import materialised_config
from jaxanatomy.interventions.variants import BASELINE, Variant, baseline
from jaxanatomy.measures.answers import task_row
from jaxanatomy.records import Row
from jaxanatomy.runs import row_hash
from jaxanatomy.sweep import SweepOptions
from jaxanatomy.weights import Source

VERSION = lm_eval.__version__
WRITTEN = "generate_until"  # requests whose answer the model writes
SCORED = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")  # tasks that have none

# By task and metric: the harness's figure, whether each item is right (None if the metric is not
# yes or no), and the accuracy of guessing.
Found = Mapping[tuple[str, str], tuple[float | None, np.ndarray | None, float | None]]


def load_tasks(name: str) -> dict[str, Any]:
    """The tasks of lm-eval behind a name or the path of a .yaml: one, or those of a group.

    Raises:
      InputError: There is none, or what it needs is not here: a data set, another package.
    """
    with _complaints(f"the task {name!r} of lm-eval cannot be loaded"):
        return dict(TaskManager().load([name])["tasks"])


def require_answerable(
    tasks: Mapping[str, Any], limit: int | None, config: ModelConfig, variants: Sequence[Variant]
) -> None:
    """Refuses tasks that ask for text which the model or a variant cannot write.

    A task of any output type may be scored under any variant; what is written (`generate_until`)
    a variant writes as a model of its own, which adds no streams and changes no single positions.

    Args:
      tasks: Of `load_tasks`.
      limit: Items of each task; None: all.
      config: The model.
      variants: What is to be measured beside it.

    Raises:
      InputError: A task draws tokens, or asks for as many as the context holds; a variant cannot
        be a model of its own.
    """
    refused = _not_materialised(config, variants)
    for name, task in tasks.items():
        asked = () if task.OUTPUT_TYPE in SCORED else _requests(task, limit)
        settings = [each.args[1] for each in asked if each.request_type == WRITTEN]
        for own in settings:
            writing(own, config.context_length, f"the task {name!r}")
        if settings and refused:
            raise InputError(
                f"the task {name!r} of lm-eval has text written ({WRITTEN}), which a variant does "
                f"as a model of its own; {first_of([*refused])} cannot be one "
                f"({next(iter(refused.values()))}); give this task a run without such variants"
            )


def _not_materialised(config: ModelConfig, variants: Sequence[Variant]) -> dict[str, InputError]:
    """The variants that are no model of their own, and why."""
    found = {}
    for variant in variants:
        try:
            materialised_config(config, variant.steps)
        except InputError as error:
            found[variant.name] = error
    return found


def harness_rows(
    tasks: Mapping[str, Any],
    source: Source,
    variants: Sequence[Variant],
    *,
    limit: int | None,
    options: SweepOptions,
    done: Callable[[str], bool],
    **decides: Any,
) -> Iterator[list[Row]]:
    """The rows of every metric of some tasks, one variant after the other, the baseline first.

    Args:
      tasks: Of `load_tasks`; their names are those of the rows.
      source: The model, read if rows are missing.
      variants: What to measure beside the unchanged model.
      limit: Items of each task; None: all.
      options: How to sweep.
      done: Tells by its hash whether a row is there.
      **decides: What decides the rows besides tasks and variants; goes into the hashes.

    Raises:
      InputError: A task fails.
    """
    data = hashes(tasks, limit)

    def mark(variant: Variant, task: str, index: int, last: bool) -> str:
        what = {"variant": variant.name, "steps": variant.fingerprint(), "task": task}
        what |= {"data": data[task], "index": index, "last": last, "lm_eval": VERSION}
        return row_hash(**what, **decides)

    def is_complete(variant: Variant, task: str) -> bool:
        # How many rows a task has is known by the last of them alone.
        inner = itertools.takewhile(
            lambda index: done(mark(variant, task, index, last=False)), itertools.count()
        )
        return done(mark(variant, task, sum(1 for _ in inner), last=True))

    unchanged = baseline(source.config.num_layers)
    missing = [
        variant
        for variant in (unchanged, *variants)
        if not all(is_complete(variant, task) for task in tasks)
    ]
    if not missing:
        return
    missing = [unchanged, *(each for each in missing if each.name != BASELINE)]
    scorer, base = Scorer(source.load(), missing, options), None
    for variant in missing:
        found = _evaluate(tasks, Harness(scorer, variant.name), limit)
        rows = [row | {"text": f"lm_eval:{row['task']}"} for row in _rows(found, base, variant)]
        for task in tasks:
            own = [row for row in rows if row["task"] == task]
            for index, row in enumerate(own):
                last = index == len(own) - 1
                row |= {"hash": mark(variant, task, index, last), "model": source.id}
        base = base or found
        yield rows


def _rows(found: Found, base: Found | None, variant: Variant) -> list[Row]:
    """A row of every metric; whether it is yes or no is a matter of the unchanged model.

    Scores of a variant may all be 0 or 1 by chance: those of a broken model on F1 are all 0.
    """
    rows = []
    for (task, metric), (value, right, chance) in found.items():
        row = {"variant": variant.name, **variant.labels, "task": task, "metric": metric}
        before, right_before, _ = base[task, metric] if base else (None, None, None)
        if right is not None and (base is None or right_before is not None):
            own = {"right": right}
            row |= task_row(own, None if right_before is None else {"right": right_before}, chance)
        elif before is not None:
            row["change"] = None if value is None else value - before
        rows.append(row | {"value": value})
    return rows


def _evaluate(tasks: Mapping[str, Any], model: Harness, limit: int | None) -> Found:
    """What the harness says of a model; a filter of answers is part of a metric's name."""
    with _complaints(f"{', '.join(tasks)} of lm-eval failed"):
        for task in tasks.values():
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        results = lm_eval.evaluate(model, dict(tasks), limit=limit, bootstrap_iters=0)
    found = {}
    for task, samples in results["samples"].items():
        has_choices = results["configs"][task]["output_type"] == "multiple_choice"
        for filtered in dict.fromkeys(sample["filter"] for sample in samples):
            own = [sample for sample in samples if sample["filter"] == filtered]
            chance = float(np.mean([1 / len(sample["resps"]) for sample in own]))
            for metric in own[0]["metrics"]:
                figure = results["results"][task].get(f"{metric},{filtered}")
                known = isinstance(figure, int | float) and np.isfinite(figure)
                scores = [sample[metric] for sample in own]
                binary = all(np.ndim(each) == 0 and each in (0, 1) for each in scores)
                found[task, metric if filtered == "none" else f"{metric}, {filtered}"] = (
                    float(figure) if known else None,
                    np.array(scores, int) if binary else None,
                    chance if has_choices else None,
                )
    return found


def hashes(tasks: Mapping[str, Any], limit: int | None) -> dict[str, str]:
    """By task a hash of what it asks and how it scores: requests, documents and settings.

    Raises:
      InputError: A task cannot be asked.
    """
    return {name: _sha256(task, limit) for name, task in tasks.items()}


def _requests(task: Any, limit: int | None) -> list[Any]:
    """What a task asks, as the harness will ask it."""
    with _complaints("a task of lm-eval cannot be asked"):
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        return list(task.instances)


def _sha256(task: Any, limit: int | None) -> str:
    with _complaints("a task of lm-eval cannot be asked"):
        asked = [
            [each.request_type, *map(str, each.args), each.doc] for each in _requests(task, limit)
        ]
        content = json.dumps([asked, _settings(task)], default=lambda value: type(value).__name__)
    # An object without a text of its own has its place in memory there.
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", content).encode()).hexdigest()


def _settings(task: Any) -> dict[str, Any]:
    """What a task says of itself, without where its files lie."""
    left_out = ("dataset_kwargs", "metadata")
    return {name: each for name, each in task.dump_config().items() if name not in left_out}


@contextlib.contextmanager
def _complaints(what: str) -> Iterator[None]:
    """What the harness throws as one line; what it logs is left out."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the harness, a data set or the network throws
        raise InputError(
            f"{what}: {type(error).__name__}: {first_line(error)}; check the name, what the task "
            "needs (a data set, a package) and the connection"
        ) from error
    finally:
        logger.setLevel(level)

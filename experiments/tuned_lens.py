"""Tuned lenses: what a model would predict if it stopped after each layer.

The method (Belrose et al. 2023; DG section 4.1): for each layer an affine map is trained, from the
identity, after which the model's own final norm and head come nearest to its final predictions,
in KL. The lenses of all layers are trained at once on one part of a text. On documents that no
lens was trained on, each lens is compared with the logit lens, which reads the stream as it is: KL
both ways, overlap of the likeliest tokens, entropy and perplexity at every layer, with intervals
over documents. For one prompt the page shows the likeliest token at every layer and position, and
questions are answered by each lens after each layer (early exit). A learning rate may be chosen on
separate documents (`choosing_share`, `choosing`), used for neither training nor results.

    python -m experiments.tuned_lens --config=configs/tuned_lens.py --workdir=runs/tuned_lens

`rows.jsonl` has rows of kind "step" (the training loss), "lens", "prediction" and "answers";
`arrays.npz` has the lens, with which `ja.load_lens` reads the same model again, and the losses. A
run that was killed resumes from its last checkpoint to the same numbers.
"""

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report, runs
from jaxanatomy.data import question_files
from jaxanatomy.data.packing import TextBatch, count_predictions
from jaxanatomy.data.question_files import load_questions
from jaxanatomy.data.questions import Questions
from jaxanatomy.data.text import SOURCES, TEXTS, Text, beginnings, hold_out, load_text
from jaxanatomy.data.windows import DEFAULT_WINDOW
from jaxanatomy.errors import InputError, require_unique, require_whole
from jaxanatomy.measures import tuned_lens as measures
from jaxanatomy.measures.readings.lens import TunedLens
from jaxanatomy.measures.statistics.estimates import MIN_DOCUMENTS
from jaxanatomy.progress import format_duration
from jaxanatomy.records import read_arrays
from jaxanatomy.study import Study, StudyPart, StudySettings, required_tokenizer, tokenise
from jaxanatomy.sweep import SweepOptions, cost
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.tuned_lens import LensSettings, step_flops, train
from jaxanatomy.weights import Source, describe_model_ids, open_model
from jaxanatomy.weights.tokenizer import Tokenizer

MAY_CHANGE_ON_RESUME = (*config_fields.SWEEP_MAY_CHANGE, "checkpoint_every")


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is not trained yet, measures, then writes lens, summary, figures and report."""
    plan = _plan(config)
    with runs.Run.open(workdir, config.to_dict(), plan.provenance, MAY_CHANGE_ON_RESUME) as results:
        lens = _lens(config, plan, results)
        plan.study.add(_parts(plan, lens))
        plan.study.measure(results)
        report.conclude(results, plan.counts() | measures.summarise(results.rows))


def dry_run(config: ConfigDict) -> str:
    """Texts, steps and what training would cost."""
    plan = _plan(config)
    work = plan.lens.steps * step_flops(plan.source.config, plan.batches[0], plan.lens)
    seconds = work / (cost.EFFICIENCY * cost.measure_peak())
    counts = ", ".join(f"{name} {count:,}" for name, count in plan.counts().items())
    return (
        f"{plan.lens.steps} steps on {plan.train_text.name}, {len(plan.batches)} batches of "
        f"{plan.batches[0].token_RT.size} tokens: {counts}\n"
        f"  matrix products of training  {work / 1e12:,.1f} TFLOP\n"
        f"  expected time                {format_duration(seconds)} (at {cost.EFFICIENCY:.0%} of "
        "the product peak measured now)"
    )


def describe() -> str:
    """Texts and model ids, a line each."""
    sections = {"texts": {**TEXTS, **SOURCES}, "tasks": question_files.SOURCES}
    return cli.format_sections({**sections, **describe_model_ids()})


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Validated settings; nothing is loaded.

    Attributes:
      source: The model.
      study: Measures it.
      train_text: What lenses are trained on.
      batches: That as the model reads it.
      held_out: What they are measured on, of the results or to choose settings on.
      prompt: Of the figure.
      prompt_tokens: That as the model reads it.
      questions: Of each task, to be answered after each layer.
      lens: What decides the lens.
      packing: How the text to train on is cut.
    """

    source: Source
    study: Study
    train_text: Text
    batches: tuple[TextBatch, ...]
    held_out: Text
    prompt: Text
    prompt_tokens: list[int]
    questions: list[Questions]
    lens: LensSettings
    packing: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the lens of a model."""
        trained_on = {"sha256": self.train_text.sha256, **self.packing}
        return {"lens": dataclasses.asdict(self.lens), "trained_on": trained_on}

    def provenance(self) -> dict[str, Any]:
        """Of the model and all texts."""
        texts = self.train_text, self.held_out, self.prompt, *self.questions
        return {**self.study.provenance(), "data_sha256": {t.name: t.sha256 for t in texts}}

    def counts(self) -> dict[str, int]:
        """Documents and predicted tokens on both sides of the split."""
        sides = {"train": self.batches, "held_out": self.study.batches(self.held_out)}
        return {
            f"{side}_{name}": count
            for side, batches in sides.items()
            for name, count in (
                ("documents", 1 + max(int(batch.document_P.max()) for batch in batches)),
                ("predictions", count_predictions(batches)),
            )
        }


def _plan(config: ConfigDict) -> _Plan:
    """Refuses what cannot be trained or measured."""
    for name, least in (
        ("train_tokens", 2),
        ("tokens_per_step", 2),
        ("checkpoint_every", 1),
        ("questions", 1),
        ("seed", 0),
    ):
        require_whole(name, config[name], least)
    require_unique("task", tuple(config.tasks))
    lens = LensSettings(Optimiser(**config.optimiser), **config.lens)
    options = SweepOptions(**config.sweep)
    source = open_model(config.model)
    train_text, held_out = _texts(config)
    window = min(config.packing.window or DEFAULT_WINDOW, source.config.context_length)
    # Windows that overlap would show tokens twice, and predict none of them twice.
    own = {"window": window, "stride": max(1, window - 1), "token_budget": config.train_tokens}
    own |= {"add_bos": config.packing.add_bos, "tokens_per_batch": config.tokens_per_step}
    settings = StudySettings("tuned_lens", packing=config.packing.to_dict(), options=options)
    study, prompt = Study(source, [], settings), Text("prompt", (config.prompt,))
    asked = [load_questions(name, config.questions, config.seed) for name in config.tasks]
    for text in (held_out, *asked):
        study.batches(text)  # refused here, not after the training
    _require_documents(held_out, study.count_documents(held_out), config.packing.token_budget)
    return _Plan(
        source=source,
        study=study,
        train_text=train_text,
        batches=tokenise(source, train_text, **own),
        held_out=held_out,
        prompt=prompt,
        prompt_tokens=measures.tokens_of(study.batches(prompt)),
        questions=asked,
        lens=dataclasses.replace(lens, dtype=options.dtype),
        packing=own,
    )


def _texts(config: ConfigDict) -> tuple[Text, Text]:
    """What lenses are trained on, and what they are measured on; no document is in both.

    The last documents are those of the results; those before them, if there are any, are there to
    choose settings on; the others train. Which those are is the same whether one chooses or not.
    """
    results, choosing = config.held_out_share, config.choosing_share
    text = load_text(config.text)
    if config.document_characters is not None:
        text = beginnings(text, config.document_characters)
    others, held_out = hold_out(text, results)
    if not choosing and not config.choosing:
        return others, held_out
    if not 0 < choosing < 1 - results:
        raise InputError(
            f"choosing_share must be above 0 and leave documents to train on beside held_out_share="
            f"{results}; got {choosing}; 0.2 is usual"
        )
    train, chosen_on = hold_out(others, choosing / (1 - results), "to choose on")
    return train, chosen_on if config.choosing else held_out


def _require_documents(held_out: Text, read: int, budget: int | None) -> None:
    """Refuses a budget that leaves intervals to be over blocks of a few documents."""
    if budget is not None and read < MIN_DOCUMENTS <= len(held_out.documents):
        raise InputError(
            f"packing.token_budget must reach {MIN_DOCUMENTS} of the {len(held_out.documents)} "
            f"documents held out, or no interval is over documents; {budget} tokens reach {read}; "
            "raise it, or read less of each (document_characters)"
        )


def _lens(config: ConfigDict, plan: _Plan, results: runs.Run) -> TunedLens:
    """The lens of an earlier start, or a new one; the rows of its training that are missing."""
    folder = results.path("checkpoints")
    if not results.path("arrays.npz").exists():
        with runs.Progress(plan.lens.steps, "training") as progress:
            lens, losses = train(
                plan.source.config,
                lambda: plan.study.load().params,
                plan.batches,
                plan.lens,
                folder,
                plan.source.read_sha256(),
                config.checkpoint_every,
                progress.update,
            )
        results.write_arrays(**lens._asdict(), loss=np.asarray(losses))
    shutil.rmtree(folder, ignore_errors=True)
    arrays = read_arrays(results.path("arrays.npz"))
    labels = {"model": plan.source.id, "text": plan.train_text.name, "kind": "step"}
    row_hash = functools.partial(plan.study.row_hash, plan.train_text, **plan.settings)
    results.append(
        {"hash": row_hash(step=step), **labels, "step": step, "loss": loss}
        for step, loss in enumerate(arrays["loss"])
    )
    return TunedLens(arrays["kernel"], arrays["bias"])


def _parts(plan: _Plan, lens: TunedLens) -> list[StudyPart]:
    """Both lenses on what was held out, on the prompt, and on questions."""
    layers = plan.source.config.num_layers
    token_T = plan.prompt_tokens
    spell = functools.partial(_spell, required_tokenizer(plan.source))
    held_out = StudyPart(
        plan.held_out,
        [],
        measures.held_out_readings(lens),
        plan.settings,
        rows=measures.held_out_rows,
        units=functools.partial(measures.held_out_units, num_layers=layers),
    )
    prompt = StudyPart(
        plan.prompt,
        [],
        measures.prompt_readings(lens),
        plan.settings,
        rows=functools.partial(measures.prompt_rows, token_T=token_T, spell=spell),
        units=functools.partial(measures.prompt_units, num_layers=layers, length=len(token_T)),
    )
    answers = [
        StudyPart(
            asked,
            [],
            measures.answer_readings(lens),
            plan.settings,
            rows=functools.partial(measures.answer_rows, questions=asked),
            units=functools.partial(
                measures.answer_units, num_layers=layers, tasks=list(asked.tasks)
            ),
        )
        for asked in plan.questions
    ]
    return [held_out, prompt, *answers]


def _spell(tokenizer: Tokenizer, token: int) -> str:
    """The text of a token."""
    return tokenizer.decode([token])


if __name__ == "__main__":
    cli.run_experiment("tuned_lens", run)

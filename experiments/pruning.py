"""Pruning: an audit of cheap proxies of a layer's worth, and a plan of which layers to leave out.

The method. Every run of n layers is left out, and the damage measured: perplexity, and KL to the
unchanged model. It is compared with proxies that cost one pass over the text, or none: block
influence, angular distance, contribution norm, what the logit lens gains, effective rank, tail
exponent, co-magnitude, depth alone. The rank correlation of a proxy with the damage, with documents
resampled and against proxies rotated around the depth, says whether it may be trusted on this
checkpoint. Then k layers are chosen: by the damage of each alone, by each proxy, one by one
(greedy), as one run, and at random; all choices are judged on a second text, and timed.

    python -m experiments.pruning --config=configs/pruning.py --workdir=runs/pruning

`rows.jsonl` has rows of kind "removal", "proxy", "greedy", "plan" and "seconds". The `variant` of a
row of the plan is what `experiments.export` takes: `--config.variants=cut/set/5,14,17`.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report, runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import SOURCES, TEXTS, Text, load_text
from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.interventions.variants import Variant
from jaxanatomy.measures import proxies, pruning, pruning_summary
from jaxanatomy.measures.decoding_speed import seconds_rows
from jaxanatomy.records import Row
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.sweep import SweepOptions
from jaxanatomy.weights import describe_model_ids, open_model

MAY_CHANGE_ON_RESUME = (*config_fields.SWEEP_MAY_CHANGE, "timing_rounds")


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes summary, figures and report."""
    plan = _plan(config)
    study, depth = plan.study, plan.study.config.num_layers
    with runs.Run.open(
        workdir, config.to_dict(), plan.provenance(), MAY_CHANGE_ON_RESUME
    ) as results:
        study.measure(results)
        results.append(_weight_rows(plan))
        for size in range(2, max(plan.sizes) + 1):
            variants = pruning.greedy_round(study.config, results.rows, size)
            study.add([_part(plan.selection, study.config, variants)])
            study.measure(results)
        chosen = pruning.choices(results.rows, plan.sizes, depth, config.random_orders)
        study.add([_judgement(plan, chosen)])
        study.measure(results)
        results.append(_seconds_rows(config, plan, chosen, results))
        report.conclude(
            results,
            pruning_summary.summarise(results.rows, plan.selection.name, plan.judgement.name),
        )


def dry_run(config: ConfigDict) -> str:
    """The cuts and what they would cost; rounds and judgement follow from what they find."""
    plan = _plan(config)
    return (
        f"{plan.study.describe()}\n\nThen {max(plan.sizes) - 1} greedy rounds over the layers that "
        f"are left, and the plan on {plan.judgement.name}."
    )


def describe() -> str:
    """Proxies, ways to choose, texts and model ids, a line each."""
    sections = {
        "proxies": proxies.PROXIES,
        "ways to choose layers": pruning.WAYS,
        "texts": {**TEXTS, **SOURCES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Validated settings; no weights are read.

    Attributes:
      study: Measures cuts and proxies on the text that chooses.
      selection: That text.
      judgement: The text that chooses nothing.
      sizes: How many layers are left out.
      cuts: All runs of as many layers.
    """

    study: Study
    selection: Text
    judgement: Text
    sizes: list[int]
    cuts: list[proxies.Cut]

    def provenance(self) -> dict:
        """Of the model and both texts."""
        texts = (self.selection, self.judgement)
        return {**self.study.provenance(), "data_sha256": {t.name: t.sha256 for t in texts}}


def _plan(config: ConfigDict) -> _Plan:
    """Refuses what cannot be measured."""
    for name in ("random_orders", "timing_rounds"):
        require_whole(name, config[name], least=0)
    selection, judgement = map(load_text, (config.selection_text, config.judgement_text))
    shared = {*selection.documents} & {*judgement.documents}
    if shared:
        raise InputError(
            "judgement_text may hold no document of selection_text, which chose; got "
            f"{len(shared)} in both {selection.name!r} and {judgement.name!r}; name another text, "
            "or other documents, as in paragraphs#0-15 and paragraphs#16-39"
        )
    source = open_model(config.model)
    sizes = pruning.parse_sizes(source.config, config.sizes)
    cuts = pruning.runs_of(source.config.num_layers, sizes)
    settings = StudySettings.of("pruning", config.sweep, config.packing)
    parts = [
        _part(selection, source.config, pruning.removals(source.config, cuts)),
        StudyPart(
            selection,
            [],
            proxies.readings(source.config.num_layers),
            rows=functools.partial(proxies.text_rows, cuts=cuts),
            units=functools.partial(proxies.units, cuts=cuts),
        ),
    ]
    study = Study(source, parts, settings)
    study.batches(judgement)  # refused here, not after the cuts
    return _Plan(study, selection, judgement, sizes, cuts)


def _part(text: Text, config: ModelConfig, variants: Sequence[Variant]) -> StudyPart:
    """Losses and KLs of some variants."""
    return StudyPart(text, [pruning.unchanged(config), *variants], rows=pruning.removal_rows)


def _judgement(plan: _Plan, chosen: dict[pruning.Choice, pruning.Layers]) -> StudyPart:
    """Every choice on the text that chose nothing."""
    config = plan.study.config
    return StudyPart(
        plan.judgement,
        [pruning.unchanged(config), *pruning.plan_variants(config, chosen)],
        rows=functools.partial(pruning.plan_rows, chosen=chosen, config=config),
        units=functools.partial(pruning.plan_units, chosen=chosen),
    )


def _weight_rows(plan: _Plan) -> Iterator[Row]:
    """The proxies that need no text; so cheap that every start computes them again."""
    for row in proxies.weight_rows(plan.study.load().params, plan.cuts):
        key = {name: row[name] for name in ("kind", "proxy", "start", "size")}
        yield _labelled(plan.study, plan.selection, row, key)


def _seconds_rows(
    config: ConfigDict, plan: _Plan, chosen: dict[pruning.Choice, pruning.Layers], results: runs.Run
) -> list[Row]:
    """Seconds a token of the model and of those that greed leaves; none if they are there."""
    study, rounds = plan.study, config.timing_rounds
    variants = [pruning.unchanged(study.config)]
    variants += [
        pruning.without(study.config, chosen["greedy", size], pruning.PLAN) for size in plan.sizes
    ]
    keys = [{"kind": "seconds", "variant": each.name, "rounds": rounds} for each in variants]
    if not rounds or all(results.done(study.row_hash(plan.judgement, **key)) for key in keys):
        return []
    tokens = study.batches(plan.judgement)[0].token_RT.ravel().tolist()
    dtype = SweepOptions(**config.sweep).compute_dtype
    found = seconds_rows(study.config, study.load().params, variants, tokens, rounds, dtype)
    return [
        _labelled(study, plan.judgement, row, key) for row, key in zip(found, keys, strict=True)
    ]


def _labelled(study: Study, text: Text, row: Row, key: dict[str, Any]) -> Row:
    """A row that no sweep makes, with the hash of what names it."""
    return {"hash": study.row_hash(text, **key), "model": study.model, "text": text.name, **row}


if __name__ == "__main__":
    cli.run_experiment("pruning", run)

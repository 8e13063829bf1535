"""Depth use: what each layer does to later layers, to later tokens and to the output.

The method (DG section 4 and appendix B): a layer, its attention or its MLP is silenced, at all
tokens or up to a boundary. We measure how far each later layer's contribution moves, with the
change propagated through the layers or seen by each alone, and how far the predictions move. The
depth score follows from the effects on later tokens. One more pass gives what each sublayer adds,
what the head makes of each layer's stream, massive activations and candidates for super weights,
which are then removed one by one; their controls are random weights of the same size and the
largest of other layers. The same is measured for other checkpoints, if any, and for the untrained
architecture, the null of the depth score. Further draws of the untrained architecture are
measured only as far as the depth score needs them (propagated future effects).

    python -m experiments.depth_use --config=configs/depth_use.py --workdir=runs/depth_use

`rows.jsonl` has rows of kind "effect" (a source and a target), "output", "depth_score",
"depth_difference", "contribution", "periodicity", "lens", "massive", "candidate" and "removal";
`arrays.npz` has the heatmaps [source, target]; `report.html` shows them.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report, runs
from jaxanatomy.data.packing import FITTED
from jaxanatomy.data.text import SOURCES, TEXTS, Text, load_text
from jaxanatomy.errors import InputError, require_each_once, require_unique, require_whole
from jaxanatomy.forensics.blocks import require_enough_draws, sizes_of
from jaxanatomy.forensics.structure import require_draws
from jaxanatomy.measures import depth_use
from jaxanatomy.measures.depth_score import untrained_draws, untrained_id
from jaxanatomy.measures.losses import loss_rows
from jaxanatomy.measures.readings import contribution, effects, outliers
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.sweep import distributed
from jaxanatomy.weights import Source, describe_model_ids, open_model
from jaxanatomy.weights.random_init import random_blocks, random_params

MAY_CHANGE_ON_RESUME = (*config_fields.SWEEP_MAY_CHANGE, "distributed")
RANDOM = "random:"


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes arrays, summary, figures and report."""
    process, processes = distributed.start(**config.distributed)
    studies, draws = _studies(config, process, processes)
    first, *others = every = [*studies, *draws]
    weights = _others_provenance(config, studies)
    with first.opened(workdir, config, MAY_CHANGE_ON_RESUME, **weights) as results:
        for study in every:
            study.measure(results)
        if not first.gathered(results, *others):
            return
        text = load_text(config.text)
        _measure_removals(config, first, text, results)
        for study in every:
            for row in depth_use.score_rows(results.rows, study.model):
                key = {field: row[field] for field in depth_use.SCORE_KEY}
                results.append([{"hash": study.row_hash(text, **key), **row}])
        for study in studies:
            _append_periods(config, study, text, results)
        _append_differences(every, text, results)
        whole = {study.model for study in studies}
        results.write_arrays(
            **depth_use.arrays([row for row in results.rows if row["model"] in whole])
        )
        report.conclude(results, depth_use.summarise(results.rows))


def dry_run(config: ConfigDict) -> str:
    """The variants, and what they would cost."""
    studies, draws = _studies(config)
    return "\n\n".join(f"{each.model}\n{each.describe()}" for each in (*studies, *draws))


def describe() -> str:
    """Conventions, texts and model ids, a line each."""
    sections = {
        "conventions": effects.CONVENTIONS,
        "texts": {**TEXTS, **SOURCES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


def _studies(
    config: ConfigDict, process: int = 0, processes: int = 1
) -> tuple[list[Study], list[Study]]:
    """Those measured whole (the model, others, the untrained one), and further untrained draws."""
    for name in ("conventions", "parts", "spreads", "whens"):
        require_each_once(name, tuple(config[name]))
    if effects.FUTURE in config.whens:
        require_each_once("boundaries", tuple(config.boundaries))
    require_draws(config.null_draws, config.seed, name="null_draws")
    require_whole("super_weights", config.super_weights, least=0)
    packing = {**config.packing, "row_length": FITTED}  # prompts are short
    settings = StudySettings.of("depth_use", config.sweep, packing, process, processes)
    count = _untrained_count(config)
    sources = [open_model(model_id) for model_id in (config.model, *config.others)]
    sources += [_untrained(config.model, draw) for draw in range(count)]
    whole = len(sources) - max(count - 1, 0)
    studies = [_study(config, source, settings) for source in sources[:whole]]
    has_score = effects.PROPAGATED in config.spreads and effects.FUTURE in config.whens
    draws = [Study(source, [], settings) for source in sources[whole:] if has_score]
    for study in draws:
        _add_effects(config, study, (effects.PROPAGATED,), (effects.FUTURE,))
    return studies, draws


def _untrained_count(config: ConfigDict) -> int:
    """How many untrained draws there are: none of a model that is untrained itself."""
    require_whole("untrained_draws", config.untrained_draws, least=0)
    require_unique("model and others", [config.model, *config.others])
    count = 0 if config.model.startswith(RANDOM) else config.untrained_draws
    drawn = {untrained_id(config.model, draw) for draw in range(count)} & {*config.others}
    if drawn:
        raise InputError(
            f"untrained_draws={count} measures {min(drawn)}, so others must not name it; leave it "
            "out of others, or set untrained_draws=0"
        )
    return count


def _untrained(model_id: str, draw: int) -> Source:
    """A draw of the untrained architecture; `draw` is the seed of its weights."""
    source = open_model(untrained_id(model_id))
    if not draw:
        return source
    sha256 = hashlib.sha256(f"{source.read_sha256()} draw {draw}".encode()).hexdigest()
    return dataclasses.replace(
        source,
        id=untrained_id(model_id, draw),
        read_params=functools.partial(random_params, source.config, seed=draw),
        read_blocks=functools.partial(random_blocks, source.config, seed=draw),
        read_sha256=lambda: sha256,
    )


def _measure_removals(config: ConfigDict, study: Study, text: Text, results: runs.Run) -> None:
    """The likeliest super weights, each removed alone, beside random ones of their size."""
    rows = depth_use.of_model(results.rows, study.model)
    candidates = [row for row in rows if row["kind"] == "candidate"]
    done = sum(row["kind"] == "removal" for row in rows)
    if config.super_weights and done < outliers.removals(candidates, config.super_weights):
        params = study.load().params
        count, seed = config.super_weights, config.seed
        variants = outliers.removal_variants(params, candidates, count, seed)
        make = functools.partial(rows_of_readings, make=loss_rows)
        study.add([StudyPart(text, variants, rows=make, everywhere=True)])  # only process 0 is left
        study.measure(results)


def _others_provenance(config: ConfigDict, studies: Sequence[Study]) -> dict[str, Any]:
    """The weights that stand beside the model."""
    others = zip(config.others, studies[1:], strict=False)  # after them comes the untrained one
    own = {model: study.provenance()["weights_sha256"] for model, study in others}
    return {"others_sha256": own} if own else {}


def _append_differences(studies: Sequence[Study], text: Text, results: runs.Run) -> None:
    """Depth scores of other models, the untrained one among them, less that of the model."""
    given, *more = studies
    by_id = {study.model: study for study in more}
    draws = untrained_draws(given.model, by_id)
    of = len(by_id) - max(len(draws) - 1, 0)  # the draws are compared together
    for row in depth_use.difference_rows(results.rows, given.model, list(by_id)):
        key = {field: row[field] for field in depth_use.DIFFERENCE_KEY}
        beside = {"beside": given.model, "of": of, "draws": len(draws)}
        results.append([{"hash": by_id[row["model"]].row_hash(text, **key, **beside), **row}])


def _append_periods(config: ConfigDict, study: Study, text: Text, results: runs.Run) -> None:
    """Whether contributions repeat from block to block."""
    sizes = sizes_of(config.blocks, study.config.num_layers)
    draws = {"samples": config.null_draws, "seed": config.seed}
    for row in depth_use.period_rows(results.rows, study.model, sizes, **draws):
        key = {field: row[field] for field in depth_use.PERIOD_KEY}
        results.append([{"hash": study.row_hash(text, **key, **draws), **row}])


def _study(config: ConfigDict, source: Source, settings: StudySettings) -> Study:
    """The model as it is, then effects; nothing is measured before prompts and boundaries fit."""
    study, text = Study(source, [], settings), load_text(config.text)
    layers = study.config.num_layers
    looks = contribution.looks(sizes_of(config.blocks, layers))
    require_enough_draws(config.null_draws, looks)
    units = functools.partial(depth_use.profile_units, num_layers=layers)
    rows, readings = depth_use.profile_rows, depth_use.PROFILE
    study.add([StudyPart(text, [], readings, rows=rows, units=units, everywhere=True)])
    _add_effects(config, study, config.spreads, config.whens)
    return study


def _add_effects(
    config: ConfigDict, study: Study, spreads: Sequence[str], whens: Sequence[str]
) -> None:
    """Plans the effects of all parts in all conventions."""
    text = load_text(config.text)
    boundaries = tuple(map(str, config.boundaries)) if effects.FUTURE in whens else ()
    places = effects.places(whens, boundaries)
    units = functools.partial(effects.units, places=places, num_layers=study.config.num_layers)
    rows = functools.partial(effects.effect_rows, places=places)
    for convention in config.conventions:
        effects.require_boundaries(boundaries, convention, study.batches(text))
        batches = effects.branched(study.config, study.batches(text), convention, places)
        for spread in spreads:
            variants = effects.effect_variants(
                study.config, spread, convention=convention, parts=tuple(config.parts)
            )
            read = {"readings": effects.readings(spread), "batches": batches}
            made = {"rows": rows, "units": units, "baseline": False}
            study.add([StudyPart(text, variants, **read, **made)])


if __name__ == "__main__":
    cli.run_experiment("depth_use", run)

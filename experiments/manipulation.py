"""Manipulation: how much change of a whole set of layers a model tolerates.

The method (AH sections 3.5 and 4.4, with controls): zero, clone, blend, low-rank blend or
scale the layers that the importance map calls redundant, and measure the perplexity. The
same on the paper's set, on that set without its first and last layer, on the k least
important layers and on pairs. Every improvement is compared with what a temperature alone
would gain. The paper's reasons are tested, too: whether a 1 % error compounds over layers,
and whether it redirects attention.

    python -m experiments.manipulation --config=configs/manipulation.py --workdir=runs/manipulation

`rows.jsonl` has one row for each variant and text, rows of kind "temperature" and rows of kind
"attention"; `report.html` shows them.
"""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report
from jaxanatomy.data.text import SOURCES, TEXTS, Text, load_text, require_texts
from jaxanatomy.errors import InputError, choose, require_whole
from jaxanatomy.interventions.grid import (
    is_chosen_by_map,
    manipulation_grid,
    map_variants,
    selected_variants,
    strategy_baseline,
    table4_variants,
)
from jaxanatomy.interventions.perturbations import perturbation_variants
from jaxanatomy.interventions.registry import describe_interventions
from jaxanatomy.interventions.sets import FORMS, MAIN_SETS, named_sets, parse_sets, split_sets
from jaxanatomy.measures import manipulation as digest
from jaxanatomy.measures.losses import loss_rows
from jaxanatomy.measures.manipulation import improved, map_degradation
from jaxanatomy.measures.readings import attention, temperature
from jaxanatomy.measures.readings.temperature import checked_temperatures
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.sweep import Reading, distributed
from jaxanatomy.weights import open_model

MAY_CHANGE_ON_RESUME = (*config_fields.SWEEP_MAY_CHANGE, "distributed")


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes summary, figures and report."""
    process, processes = distributed.start(**config.distributed)
    study = _study(config, process, processes)
    _check(config, study.config)
    with study.opened(workdir, config, MAY_CHANGE_ON_RESUME) as results:
        study.measure(results)
        variants = _grid(config, study.config, results.rows)
        if _has_map(config):
            study.add(_parts(study.config, variants))
            study.measure(results)
        if not study.gathered(results):
            return
        study.add(_calibration_parts(config, study.config, variants, results.rows))
        study.add(_attention_parts(config, study))
        study.measure(results)
        report.conclude(results, _summary(config, study.config, results.rows))


def dry_run(config: ConfigDict) -> str:
    """The variants, and what they would cost."""
    study = _study(config)
    _check(config, study.config)
    if not _has_map(config):
        return study.describe()
    # Which layers are redundant is not known yet; their number is.
    unknown = {layer: 0.0 for layer in range(1, study.config.num_layers - 1)}
    variants = _grid(config, study.config, unknown=unknown)
    study.add(_parts(study.config, variants))
    return (
        "First the neighbour means, which decide the sets; then the grid, here as if the first "
        f"inner layers were the least important.\n\n{study.describe()}"
    )


def describe() -> str:
    """Sets, strategies and texts, a line each."""
    sections = {
        "sets": FORMS,
        "strategies": dict(describe_interventions()),
        "texts": {**TEXTS, **SOURCES},
    }
    return cli.format_sections(sections)


def _study(config: ConfigDict, process: int = 0, processes: int = 1):
    """On every text the map of neighbour means; the grid at once if no set is chosen by it."""
    require_texts(config.texts)
    source = open_model(config.model)
    settings = StudySettings.of("manipulation", config.sweep, config.packing, process, processes)
    has_map = _has_map(config)
    variants = dict.fromkeys(config.texts, _map(config, source.config))
    if not has_map:
        variants = _grid(config, source.config)
    return Study(source, _parts(source.config, variants, everywhere=has_map), settings)


def _has_map(config: ConfigDict) -> bool:
    return is_chosen_by_map(split_sets(config.sets))


def _map(config: ConfigDict, model):
    """The neighbour mean of each inner layer, if sets are chosen by them."""
    return map_variants(model) if _has_map(config) else []


def _check(config: ConfigDict, model) -> None:
    """Refuses what can be refused before anything is measured."""
    choose("grid", config.grid, ("protocol", "main"))
    checked_temperatures(config.calibration.temperatures)
    require_whole("calibration.documents", config.calibration.documents)
    for name, values in config.attention.items():
        if any(not 0 <= value < float("inf") for value in values) or len({*values}) < len(values):
            raise InputError(
                f"attention.{name} must be numbers of 0 or above, each once; got {tuple(values)}"
            )
    _grid(config, model, unknown={layer: 0.0 for layer in range(1, model.num_layers - 1)})


def _grid(config: ConfigDict, model, rows=(), unknown=None):
    """For each text its variants; the sets are chosen by the map on the first text."""
    degradation = unknown
    if degradation is None and _has_map(config):
        degradation = map_degradation(rows, config.texts[0], model.num_layers)
    settings = {"alphas": config.alphas, "ranks": config.ranks}
    noise = perturbation_variants(
        model,
        config.perturbation.alphas,
        config.perturbation.counts or None,
        config.perturbation.seeds,
    )
    if config.sets or config.strategies:
        chosen = selected_variants(
            model, degradation, split_sets(config.sets), config.strategies, **settings
        )
        return {text: chosen for text in config.texts}
    main = table4_variants(model, degradation, **settings)
    first = main
    if config.grid == "protocol":
        first = manipulation_grid(model, degradation, **settings)
    return {text: main for text in config.texts} | {config.texts[0]: [*first, *noise]}


def _parts(model, variants, everywhere: bool = False):
    """One part for each text."""
    rows = functools.partial(rows_of_readings, make=loss_rows)
    return [
        StudyPart(
            load_text(text), [strategy_baseline(model), *own], rows=rows, everywhere=everywhere
        )
        for text, own in variants.items()
    ]


def _fit_texts(config: ConfigDict):
    """For each text the one that temperatures are fitted on: the start of another one."""
    fits = {}
    for name in config.texts:
        others = [other for other in config.texts if other != name]
        if others:
            text, count = load_text(others[0]), config.calibration.documents
            if len(text.documents) > count:
                text = Text(f"{text.name}, first {count} documents", text.documents[:count])
            fits[name] = text
    return fits


def _calibration_parts(config: ConfigDict, model, variants, rows):
    """Every variant that improves on a text, at several temperatures, there and where they fit."""
    grid = tuple(config.calibration.temperatures)
    texts, wanted = {}, {}
    for name, fit in _fit_texts(config).items():
        better = improved(rows, name)
        for text in (load_text(name), fit) if better else ():
            texts[text.name] = text
            wanted.setdefault(text.name, set()).update(better)
    known = {variant.name: variant for own in variants.values() for variant in own}
    known |= {variant.name: variant for variant in _map(config, model)}
    baseline = strategy_baseline(model)
    return [
        StudyPart(
            text,
            [baseline, *(known[name] for name in known if name in wanted[text.name])],
            readings={temperature.MEASURE: Reading(temperature.nll_at_temperatures(grid))},
            settings={"temperatures": grid},
            everywhere=True,  # only process 0 is left
            rows=functools.partial(temperature.temperature_rows, temperatures=grid),
        )
        for text in texts.values()
    ]


def _attention_parts(config: ConfigDict, study: Study):
    """How far noise on queries or keys moves the attention, on the first text."""
    settings = [  # None: noise alone, the other end of the scale
        attention.AttentionNoise(component, alpha, seed)
        for component in attention.COMPONENTS
        for alpha in (*config.attention.alphas, None)
        for seed in config.attention.seeds
    ]
    if not config.attention.alphas:
        return []
    text = load_text(config.texts[0])
    return [
        StudyPart(
            text,
            attention.attention_variants(study.config, settings),
            readings=attention.SHIFTS,
            rows=functools.partial(attention.attention_rows, batches=study.batches(text)),
            baseline=False,
            everywhere=True,  # only process 0 is left
        )
    ]


def _summary(config: ConfigDict, model, rows):
    """The figures that the experiment is about."""
    degradation = None
    if _has_map(config):
        degradation = digest.map_degradation(rows, config.texts[0], model.num_layers)
    if config.sets:
        parsed = parse_sets(model.num_layers, split_sets(config.sets), degradation)
        sets = {each.name: each for each in parsed}
        main = list(sets)
    else:
        sets = named_sets(model.num_layers, degradation)
        main = [name for name in MAIN_SETS if name in sets]
    fits = {name: text.name for name, text in _fit_texts(config).items()}
    return {
        "texts": {text: digest.summarise_text(rows, text, main) for text in config.texts},
        "sets": {name: list(each.layers) for name, each in sets.items()},
        "calibration": digest.calibration_digest(rows, fits),
        "compounding": digest.compounding_digest(rows, config.texts[0]),
        "attention": digest.attention_digest(rows),
    }


if __name__ == "__main__":
    cli.run_experiment("manipulation", run)

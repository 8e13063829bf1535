"""Predictability: whether earlier layers' weights predict a later layer's, and whether that works.

The method (AH sections 3.3 and 4.2, with nulls): ridge regression on the layer index
predicts the weights of every layer from those before it. The paper does not say where it
scores, so six readings of its text are measured, each against independent Gaussians of the
same moments and the same layers in random order. Then the function test: perplexity with
predicted weights in one layer and in sets of layers, against deleting the same layers.

    python -m experiments.predictability --config=configs/predictability.py --workdir=runs/predict

`rows.jsonl` has rows of both kinds: those of the function test have `reading: "function"`.
"""

import dataclasses
import functools
from pathlib import Path

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report, runs, tree
from jaxanatomy.data.text import SOURCES, TEXTS, load_texts
from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.forensics.components import of_one_shape, require_comparable
from jaxanatomy.forensics.prediction import READINGS, targets
from jaxanatomy.interventions.function_test import prediction_variants
from jaxanatomy.measures.losses import loss_rows
from jaxanatomy.measures.predictability import component_rows, summarise
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.weights import open_model

MAY_CHANGE_ON_RESUME = config_fields.SWEEP_MAY_CHANGE


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes summary, figures and report."""
    source = _open(config)
    study = _study(config, source)
    with study.opened(workdir, config, MAY_CHANGE_ON_RESUME) as results:
        _measure_weights(config, source, results)
        study.measure(results)
        report.conclude(results, summarise(results.rows))


def dry_run(config: ConfigDict) -> str:
    """What would be measured, and what it would cost."""
    source = _open(config)
    study = _study(config, source)
    weights = (
        f"weights: {', '.join(_components(config, source.config))}; {config.samples:,} parameters "
        f"of each layer, {config.null_draws} draws of each null"
    )
    return "\n\n".join(filter(None, [weights, study.describe()]))


def describe() -> str:
    """Readings, components and texts, a line each."""
    sections = {
        "readings": {name: reading.help for name, reading in READINGS.items()},
        "components": {
            **dict.fromkeys(tree.ATTENTION, "a matrix of attention"),
            **dict.fromkeys(tree.MLP, "a matrix of the MLP"),
        },
        "texts": {**TEXTS, **SOURCES},
    }
    return cli.format_sections(sections)


def _open(config: ConfigDict):
    """The model, whose weights both halves read from one copy."""
    source = open_model(config.model)
    return dataclasses.replace(source, read_params=functools.cache(source.read_params))


def _components(config: ConfigDict, model) -> tuple[str, ...]:
    return require_comparable(model, config.components, "predictability")


def _study(config: ConfigDict, source):
    """The function test on every text; refuses what cannot be measured."""
    for name, least in (("samples", 2), ("null_draws", 2), ("seed", 0)):
        require_whole(name, config[name], least)
    for size in config.set_sizes:
        require_whole("each of set_sizes", size, remedy="as in 2,4,9")
    if config.texts and not source.config.is_uniform:
        same = of_one_shape(source.config)
        alone = f"the weights alone with --config.texts= --config.components={','.join(same)}"
        raise InputError(
            "predicted weights replace whole layers and need layers of one shape, which "
            f"{config.model} does not have; study {alone if same else 'another model'}"
        )
    _components(config, source.config)
    variants = prediction_variants(source.config, config.set_sizes) if config.texts else []
    settings = StudySettings.of("predictability", config.sweep, config.packing)
    rows = functools.partial(rows_of_readings, make=loss_rows)
    texts = load_texts(config.texts) if config.texts else ()
    parts = [StudyPart(text, variants, rows=rows) for text in texts]
    return Study(source, parts, settings)


def _measure_weights(config: ConfigDict, source, results) -> None:
    """The rows of the weights, component by component."""

    def row_hash(component: str, reading: str, target: int | None) -> str:
        return runs.row_hash(
            weights=source.read_sha256(),
            component=component,
            reading=reading,
            target=target,
            samples=config.samples,
            null_draws=config.null_draws,
            seed=config.seed,
            code=runs.code_version("predictability"),
        )

    cells = [(name, t) for name in READINGS for t in (None, *targets(source.config.num_layers))]
    components = _components(config, source.config)
    with runs.Progress(len(components), "weights", unit="matrices") as progress:
        for component in components:
            if not all(results.done(row_hash(component, *cell)) for cell in cells):
                rows = component_rows(
                    source.load().params["layers"],
                    component,
                    samples=config.samples,
                    null_draws=config.null_draws,
                    seed=config.seed,
                )
                results.append(
                    {"hash": row_hash(component, row["reading"], row["target"]), **row}
                    for row in rows
                )
            progress.update()


if __name__ == "__main__":
    cli.run_experiment("predictability", run)

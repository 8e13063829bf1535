"""Structure: how weights change from layer to layer, beside what chance alone would give.

The method (AH sections 3.4 and 4.3, with nulls): flatten a matrix of every layer; correlate
consecutive differences between layers, compare all pairs by cosine, and do PCA over layers.
Beside every figure stands what independent layers, Gaussian layers, the same layers in
random order, layers without their trend of scale and an untrained model give.

    python -m experiments.structure --config=configs/structure.py --workdir=runs/structure

`rows.jsonl` has one row for each matrix, metric, layer and null; `report.html` shows them.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs, tree
from jaxanatomy.forensics.components import require_comparable
from jaxanatomy.forensics.gram import Moments, gram
from jaxanatomy.forensics.structure import METRICS, NULLS, reading_keys, require_draws
from jaxanatomy.measures.structure import (
    component_structure,
    structure_arrays,
    structure_rows,
    summarise,
)
from jaxanatomy.model import block_shapes, parameter_count
from jaxanatomy.records import read_arrays
from jaxanatomy.runs import Progress, Run
from jaxanatomy.weights import Source, describe_model_ids, open_model


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes summary, figures and report."""
    plan = _plan(config)
    provenance = runs.provenance(
        "structure",
        model=plan.source.id,
        architecture=plan.source.config.to_dict(),
        weights_sha256=plan.source.read_sha256(),
        seed=plan.seed,
    )
    with runs.Run.open(workdir, config.to_dict(), provenance) as results:
        _measure(plan, results)
        results.write_summary(summarise(results.rows))
        report.conclude(results.folder)


def dry_run(config: ConfigDict) -> str:
    """What would be measured, from the architecture alone."""
    plan = _plan(config)
    architecture = plan.source.config
    lines = [f"{plan.source.id}: {architecture.num_layers} layers"]
    for name in plan.components:
        shape = " x ".join(map(str, block_shapes(architecture, 0)[name]))
        lines.append(f"  {name:10} {shape} in each layer, {len(plan.keys)} rows")
    models = " and ".join(source.id for source in (plan.source, plan.initial) if source)
    lines.append(f"weights: of {models}, {_gigabytes(plan):.1f} GB in float32, one after the other")
    lines.append(f"null models: {plan.samples:,} draws, seed {plan.seed}")
    return "\n".join(lines)


def describe() -> str:
    """Components, metrics, nulls and model ids, a line each."""
    sections = {
        "components": dict.fromkeys(tree.MATRICES, ""),
        "metrics": METRICS,
        "nulls": NULLS,
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Validated settings; no weights are read.

    Attributes:
      source: The model.
      initial: Its architecture with random weights; None for a model that is random itself.
      components: The matrices.
      keys: Metric, layer and null of each row of a component.
      samples: Draws of each null that has draws.
      seed: Of these draws.
    """

    source: Source
    initial: Source | None
    components: tuple[str, ...]
    keys: list[Any]
    samples: int
    seed: int

    def hashes(self, component: str) -> list[str]:
        """The hash of each row of a component."""
        return [
            runs.row_hash(
                weights=self.source.read_sha256(),
                code=runs.code_version("structure"),
                component=component,
                metric=metric,
                layer=layer,
                null=null,
                samples=self.samples,
                seed=self.seed,
            )
            for metric, layer, null in self.keys
        ]


def _plan(config: ConfigDict) -> _Plan:
    require_draws(config.null_draws, config.seed, name="null_draws")
    source = open_model(config.model)
    is_random = config.model.startswith("random:")
    initial = None if is_random else open_model(f"random:{config.model}")
    components = require_comparable(source.config, config.components)
    keys = reading_keys(source.config.num_layers, has_initial=not is_random)
    return _Plan(source, initial, components, keys, config.null_draws, config.seed)


def _measure(plan: _Plan, results: Run) -> None:
    """Appends the rows of each component that is not there yet, with its arrays.

    A component's arrays are written before its rows, so that rows always have theirs.
    """
    arrays = read_arrays(results.path("arrays.npz"))
    hashes = {name: plan.hashes(name) for name in plan.components}
    todo = [
        name
        for name in plan.components
        if f"pca_{name}" not in arrays or not all(map(results.done, hashes[name]))
    ]
    if not todo:
        return
    steps = len(todo) * (3 if plan.initial else 2)
    with runs.Progress(steps, "structure") as bar:
        moments = _read(plan.source, todo, bar)
        initial = _read(plan.initial, todo, bar) if plan.initial else {}
        for name in todo:
            found = component_structure(
                name, moments[name], initial.get(name), samples=plan.samples, seed=plan.seed
            )
            arrays |= structure_arrays(name, found)
            results.write_arrays(**arrays)
            rows = structure_rows(name, found)
            pairs = zip(hashes[name], rows, strict=True)
            results.append({"hash": hash, **row} for hash, row in pairs)
            bar.update()


def _read(source: Source, components: list[str], bar: Progress) -> dict[str, Moments]:
    """The moments of each component; the weights are gone when it returns."""
    layers = source.load().params["layers"]
    found = {}
    for name in components:
        found[name] = gram([tree.get(block, name) for block in layers])
        bar.update()
    return found


def _gigabytes(plan: _Plan) -> float:
    """The weights of one of the models in float32."""
    return 4 * parameter_count(plan.source.config) / 1e9


if __name__ == "__main__":
    cli.run_experiment("structure", run)

"""Structure: how weights change from layer to layer, against what chance alone would give.

The method (AH sections 3.4 and 4.3, with nulls): flatten a matrix of every layer; correlate
consecutive differences between layers, compare all pairs by cosine, and do PCA over layers.
Every figure is compared with what independent layers, Gaussian layers, the same layers in
random order, layers without their trend of scale and an untrained model give. Blocks of layers are
compared by their FFN weights, concatenated (DG section 4.4).

    python -m experiments.structure --config=configs/structure.py --workdir=runs/structure

`rows.jsonl` has one row for each matrix, metric, layer and null; `report.html` shows them.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs, tree
from jaxanatomy.errors import InputError
from jaxanatomy.forensics.blocks import (
    FFN,
    FFN_PARTS,
    SCORES,
    block_keys,
    require_enough_draws,
    sizes_of,
)
from jaxanatomy.forensics.components import require_comparable
from jaxanatomy.forensics.gram import Moments, gram
from jaxanatomy.forensics.structure import METRICS, NULLS, reading_keys, require_draws
from jaxanatomy.measures.structure import (
    component_structure,
    ffn_blocks,
    structure_arrays,
    structure_rows,
    summarise,
)
from jaxanatomy.model import block_shapes, parameter_count
from jaxanatomy.records import read_arrays
from jaxanatomy.runs import Progress, Run
from jaxanatomy.weights import Source, describe_model_ids, open_model
from jaxanatomy.words import listed


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
        report.conclude(results, summarise(results.rows))


def dry_run(config: ConfigDict) -> str:
    """What would be measured, from the architecture alone."""
    plan = _plan(config)
    architecture = plan.source.config
    lines = [f"{plan.source.id}: {architecture.num_layers} layers"]
    for name in plan.components:
        shape = " x ".join(map(str, block_shapes(architecture, 0)[name]))
        lines.append(f"  {name:10} {shape} in each layer, {len(plan.keys_of(name))} rows")
    models = " and ".join(source.id for source in (plan.source, plan.initial) if source)
    lines.append(f"weights: of {models}, {_gigabytes(plan):.1f} GB in float32, one after the other")
    if plan.blocks:
        sizes = ", ".join(map(str, plan.blocks))
        lines.append(f"  {FFN:10} blocks of {sizes} layers, {len(plan.keys_of(FFN))} rows")
    lines.append(f"null models: {plan.samples:,} draws, seed {plan.seed}")
    return "\n".join(lines)


def describe() -> str:
    """Components, metrics, nulls and model ids, a line each."""
    sections = {
        "components": dict.fromkeys(tree.MATRICES, ""),
        "metrics": METRICS,
        "scores of blocks": SCORES,
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
      blocks: Sizes of blocks; empty where the FFN is not read whole.
      samples: Draws of each null that has draws.
      seed: Of these draws.
    """

    source: Source
    initial: Source | None
    components: tuple[str, ...]
    blocks: tuple[int, ...]
    samples: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The components, and what is read of blocks of layers."""
        return (*self.components, FFN) if self.blocks else self.components

    def keys_of(self, name: str) -> list[dict[str, Any]]:
        """What tells the rows of one of `names` apart."""
        has_initial = self.initial is not None
        if name == FFN:
            fields, keys = ("metric", "block", "null"), block_keys(self.blocks, has_initial)
        else:
            layers = self.source.config.num_layers
            fields, keys = ("metric", "layer", "null"), reading_keys(layers, has_initial)
        return [dict(zip(fields, key, strict=True)) for key in keys]

    def hashes(self, name: str) -> list[str]:
        """The hash of each row of one of `names`."""
        return [
            runs.row_hash(
                weights=self.source.read_sha256(),
                code=runs.code_version("structure"),
                component=name,
                samples=self.samples,
                seed=self.seed,
                **key,
            )
            for key in self.keys_of(name)
        ]


def _plan(config: ConfigDict) -> _Plan:
    require_draws(config.null_draws, config.seed, name="null_draws")
    source = open_model(config.model)
    is_random = config.model.startswith("random:")
    initial = None if is_random else open_model(f"random:{config.model}")
    components = require_comparable(source.config, config.components)
    sizes = sizes_of(config.blocks, source.config.num_layers)
    require_enough_draws(config.null_draws, sum(size > 1 for size in sizes))
    has_ffn = set(FFN_PARTS) <= set(components)
    if config.blocks and not has_ffn:
        raise InputError(
            f"blocks are compared by {listed(FFN_PARTS)}; got components {listed(components)}; "
            "name those too, or no blocks"
        )
    blocks = sizes if has_ffn else ()
    return _Plan(source, initial, components, blocks, config.null_draws, config.seed)


def _measure(plan: _Plan, results: Run) -> None:
    """Appends the rows of each component, and of blocks, that are not there yet, with the arrays.

    A component's arrays are written before its rows, so that rows always have theirs.
    """
    arrays = read_arrays(results.path("arrays.npz"))
    hashes = {name: plan.hashes(name) for name in plan.names}
    first = {name: f"pca_{name}" for name in plan.components}
    if plan.blocks:
        first[FFN] = f"block_similarity_{plan.blocks[0]}"
    todo = [
        name
        for name in plan.names
        if first[name] not in arrays or not all(map(results.done, hashes[name]))
    ]
    if not todo:
        return
    needed = {*todo, *(FFN_PARTS if FFN in todo else ())} - {FFN}
    steps = len(needed) * (2 if plan.initial else 1) + len(todo)
    with runs.Progress(steps, "structure") as bar:
        moments = _read(plan.source, needed, bar)
        initial = _read(plan.initial, needed, bar) if plan.initial else {}
        draws = {"samples": plan.samples, "seed": plan.seed}
        for name in todo:
            if name == FFN:
                rows, more = ffn_blocks(moments, initial, plan.blocks, **draws)
            else:
                found = component_structure(name, moments[name], initial.get(name), **draws)
                rows, more = structure_rows(name, found), structure_arrays(name, found)
            arrays |= more
            results.write_arrays(**arrays)
            pairs = zip(hashes[name], rows, strict=True)
            results.append({"hash": hash, **row} for hash, row in pairs)
            bar.update()


def _read(source: Source, components: Collection[str], bar: Progress) -> dict[str, Moments]:
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

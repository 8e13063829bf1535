"""Roles: what each layer is for, from its weights and a short probe of what it does.

The method (LR sections 3, 4 and 8): effective ranks, norms against those of peers, how the product
of gate and up spreads over neurons, attention's share, and matching heads in other layers, read
from one layer after another; sink, copying and what is written, read in one pass over a short
text; for a step of a training run where its optimiser pushes each matrix, for other models, with
`momentum`, where gradients of that text would. Each feature is z-scored over layers and routed to
the roles that it is evidence for. The untrained architecture gets roles by the same rule, as a
null; other checkpoints of the architecture are compared with the model, tensor by tensor and role
by role.

    python -m experiments.roles --config=configs/roles.py --workdir=runs/roles

`rows.jsonl` has rows of kind "feature" (model, layer, component, metric), "change" (of another
checkpoint) and "role"; `arrays.npz` has the coupling of heads [layer, layer]; `report.html` shows
them.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import checkpoints, cli, config_fields, report, runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import SOURCES, TEXTS, load_text
from jaxanatomy.errors import InputError, require_unique, require_whole
from jaxanatomy.forensics import layer_features, roles
from jaxanatomy.forensics.momentum import MOMENTUM_FEATURES
from jaxanatomy.measures import roles as measures
from jaxanatomy.measures.readings import probe
from jaxanatomy.model import block_shapes
from jaxanatomy.progress import announced
from jaxanatomy.records import Row, read_arrays
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.train import role_moments
from jaxanatomy.weights import Source, describe_model_ids, open_model

MAY_CHANGE_ON_RESUME = config_fields.SWEEP_MAY_CHANGE
RANDOM = "random:"


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes arrays, summary, figures and report."""
    plan = _plan(config)
    with runs.Run.open(
        workdir, config.to_dict(), plan.provenance(), ignore=MAY_CHANGE_ON_RESUME
    ) as results:
        for name, source in plan.named.items():
            _measure_weights(source, name, results)
            if config.text:
                _study(config, source).measure(results)
            _measure_momentum(config, source, results)
        for other in plan.others:
            _measure_changes(plan.model, other, results)
        for source in plan.named.values():
            rows = measures.role_rows(results.rows, source.id, config.draws, config.seed)
            of = {name: config[name] for name in ("draws", "seed", "text", "momentum")}
            _append(source, rows, results, **of)
        models = [source.id for source in (plan.model, *plan.others)]
        null = plan.null and plan.null.id
        report.conclude(results, measures.summarise(results.rows, models, null))


def dry_run(config: ConfigDict) -> str:
    """What would be read."""
    plan = _plan(config)
    lines = [
        f"{each.id}: {each.config.num_layers} layers, one by one" for each in plan.named.values()
    ]
    if config.text:
        lines += ["", _study(config, plan.model).describe()]
    stored = [each.id for each in plan.named.values() if role_moments.optimiser_step(each.id)]
    lines += [f"the optimiser's state of {name}" for name in stored]
    if config.momentum:
        whose = "each other model" if stored else "each model"
        lines += ["", f"{config.momentum} gradients of {whose} on {config.text}"]
    return "\n".join(lines)


def describe() -> str:
    """Features, roles, texts and model ids, a line each."""
    routed = {
        role: ", ".join(f"{'+' if sign > 0 else '-'}{name}" for name, sign in features.items())
        for role, features in roles.ROUTING.items()
    }
    sections = {
        "features of a matrix": layer_features.MATRIX_FEATURES,
        "features of a norm": layer_features.NORM_FEATURES,
        "features of a layer": layer_features.LAYER_FEATURES,
        "features of a probe text": probe.PROBE_FEATURES,
        "features of momentum": MOMENTUM_FEATURES,
        "roles": routed,
        "texts": {**TEXTS, **SOURCES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Validated settings; no weights are read.

    Attributes:
      model: The model.
      others: Checkpoints that are compared with it.
      null: Its architecture with random weights, or None.
      study: The probe of the model, or None.
    """

    model: Source
    others: tuple[Source, ...]
    null: Source | None
    study: Study | None

    @property
    def named(self) -> dict[str, Source]:
        """All of them, by the names of their arrays."""
        others = {f"coupling_other_{at}": other for at, other in enumerate(self.others)}
        null = {"coupling_untrained": self.null} if self.null else {}
        return {"coupling": self.model, **others, **null}

    def provenance(self) -> dict[str, Any]:
        """What `runs.Run.open` records."""
        others = {other.id: other.read_sha256() for other in self.others}
        if self.study is not None:
            return {**self.study.provenance(), "others_sha256": others}
        return runs.provenance(
            "roles",
            model=self.model.id,
            architecture=self.model.config.to_dict(),
            weights_sha256=self.model.read_sha256(),
            others_sha256=others,
        )


def _plan(config: ConfigDict) -> _Plan:
    require_whole("draws", config.draws, least=1)
    require_whole("seed", config.seed, least=0)
    require_whole("momentum", config.momentum, least=0)
    if config.momentum and not config.text:
        raise InputError(
            f"momentum={config.momentum} needs gradients of a text; got text=''; name one, or set "
            "momentum=0"
        )
    require_unique("model and others", [config.model, *config.others])
    model = open_model(config.model)
    roles.require_layers(model.config)
    others = tuple(map(open_model, config.others))
    for other in others:
        if other.config != model.config:
            raise InputError(
                "checkpoints that are compared must have one architecture; "
                f"{model.id} has {model.config.summary}, {other.id} {other.config.summary}"
                f"{_difference(model.config, other.config)}; compare it in a run of its own"
            )
    shas = [source.read_sha256() for source in (model, *others)]
    require_unique("the weights that are compared", shas)
    wants_null = config.untrained and not config.model.startswith(RANDOM)
    null = open_model(f"{RANDOM}{config.model}") if wants_null else None
    return _Plan(model, others, null, _study(config, model) if config.text else None)


def _difference(one: ModelConfig, other: ModelConfig) -> str:
    """Where two architectures differ, for a message; of layers the first that do."""
    found = []
    for name in (field.name for field in dataclasses.fields(one)):
        own, its = getattr(one, name), getattr(other, name)
        if own != its and name == "layers":
            pairs = (pair for pair in zip(own, its, strict=False) if pair[0] != pair[1])
            shapes = next(pairs, None)
            own, its = (each.summary for each in shapes) if shapes else map(len, (own, its))
        if own != its:
            found.append(f"{name}: {own} against {its}")
    return f" (they differ in {'; '.join(found)})"


def _study(config: ConfigDict, source: Source) -> Study:
    """The probe of a model; its weights go with it."""
    settings = StudySettings.of("roles", config.sweep, config.packing)
    units = functools.partial(probe.probe_units, num_layers=source.config.num_layers)
    rows = probe.probe_rows
    part = StudyPart(load_text(config.text), [], probe.READINGS, rows=rows, units=units)
    return Study(source, [part], settings)


def _measure_weights(source: Source, name: str, results: runs.Run) -> None:
    """Appends the rows of each layer as it is read, one layer in memory at a time."""
    arrays = read_arrays(results.path("arrays.npz"))
    last = {"kind": "feature", "layer": 0, "component": "", "metric": measures.COUPLING}
    if name in arrays and results.done(_hash(source, last)):
        return
    layers = source.config.num_layers
    with runs.Progress(layers + 1, f"weights of {source.id}", unit="layers") as bar:
        for rows, coupling_LL in measures.weight_rows(source.blocks(), source.config.head_dim):
            if coupling_LL is not None:
                results.write_arrays(**{**arrays, name: coupling_LL})
            _append(source, rows, results)
            bar.update()


def _measure_momentum(config: ConfigDict, source: Source, results: runs.Run) -> None:
    """Appends where the optimiser pushes each matrix, or else where gradients of the text would."""
    last = {"kind": "feature", "layer": source.config.num_layers - 1, "component": "down_proj"}
    last |= {"metric": "stuck_share"}
    step = role_moments.optimiser_step(source.id)
    if step and results.done(_hash(source, last)):
        return
    if step:
        with announced(f"the optimiser's state of {source.id}"):
            rows = role_moments.stored_momentum(*step)
        if rows:
            _append(source, rows, results)
            return
    if not config.momentum:
        return
    text, updates = load_text(config.text), config.momentum
    if results.done(_hash(source, last, text=text.name, updates=updates)):
        return
    with announced(f"{updates} gradients of {source.id}"):
        rows = checkpoints.momentum(source.load(), text, updates, config.packing.to_dict())
    rows = [{**row, "text": text.name} for row in rows]
    _append(source, rows, results, text=text.name, updates=updates)


def _measure_changes(model: Source, other: Source, results: runs.Run) -> None:
    """Appends the rows of each layer of another checkpoint, two layers in memory at a time."""
    layers, since = model.config.num_layers, model.read_sha256()
    *_, component = block_shapes(model.config, layers - 1)
    last = {"kind": "change", "layer": layers - 1, "component": component, "metric": "cosine"}
    if results.done(_hash(other, last, since=since)):
        return
    with runs.Progress(layers, f"changes of {other.id}", unit="layers") as bar:
        for rows in measures.change_rows(model.blocks(), other.blocks()):
            _append(other, rows, results, since=since)
            bar.update()


def _append(source: Source, rows: Sequence[Row], results: runs.Run, **what: Any) -> None:
    """Appends rows of a model; those that are there are skipped."""
    results.append({"hash": _hash(source, row, **what), "model": source.id, **row} for row in rows)


def _hash(source: Source, row: Row, **what: Any) -> str:
    key = {name: row.get(name) for name in ("kind", "layer", "component", "metric")}
    made = {"weights": source.read_sha256(), "code": runs.code_version("roles")}
    return runs.row_hash(model=source.id, **made, **key, **what)


if __name__ == "__main__":
    cli.run_experiment("roles", run)

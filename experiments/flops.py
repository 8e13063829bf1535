"""FLOPs: what growing a model in depth saves, beside the paper's Table 7.

The method (DG Table 7): count the matrix products of a forward pass at each depth, multiply by
three for a training step and by the steps of each stage, and add them up. The ratio is the cost of
training at full depth over that of the growing run. No model is run and no weights are read.

    python -m experiments.flops --config=configs/flops.py --workdir=runs/flops

`rows.jsonl` has a row for each model and arm; the arm that grows has one for each way to round
the steps of its stages.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxanatomy import cli, report, runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.errors import InputError, choose, require_each_once, require_whole
from jaxanatomy.growth.depth_arms import DepthArmSettings
from jaxanatomy.growth.smollm import MODELS
from jaxanatomy.measures.flops import (
    ARMS,
    GROWN,
    REMAINDER,
    ROUNDINGS,
    beside_the_paper,
    cost_rows,
    summarise,
)
from jaxanatomy.model import parameter_count
from jaxanatomy.papers import paper_table
from jaxanatomy.weights import describe_model_ids, open_model

SHAPE = "shape"
BATCH_SIZE = 512  # of models that the paper does not have


def run(config: ConfigDict, workdir: Path) -> None:
    """Counts, then writes rows, summary and report, and prints the table."""
    plan = _plan(config)
    provenance = runs.provenance(
        "flops", architectures={model.name: model.config.to_dict() for model in plan}
    )
    rows = [row for model in plan for row in model.rows()]
    with runs.Run.open(workdir, config.to_dict(), provenance) as results:
        results.append(rows)
        report.conclude(results, summarise(results.rows))


def dry_run(config: ConfigDict) -> str:
    """The stages of each model that grows."""
    lines = []
    for model in _plan(config):
        settings = model.settings
        lines.append(
            f"{model.name}: {model.config.num_layers} layers, {parameter_count(model.config):,} "
            f"parameters, {settings.steps:,} steps of {settings.batch_size} x {settings.seq_len} "
            "tokens"
        )
        for row in model.rows():
            if (row["arm"], row["rounding"]) == (GROWN, REMAINDER):
                stages = (f"{steps:,} with {layers}" for layers, steps in row["stages"])
                lines.append(f"  steps with so many layers: {', '.join(stages)}")
    return "\n".join(lines)


def describe() -> str:
    """Models, arms and ways to round, a line each."""
    models = {name: "of the paper (DG Table 2)" for name in MODELS}
    models |= {SHAPE: "the architecture in config.shape"}
    sections = {"models": models, **describe_model_ids(), "arms": ARMS, "rounding": ROUNDINGS}
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True)
class _Model:
    """A model whose cost is asked for.

    Attributes:
      name: As the config names it.
      config: Its architecture.
      settings: Steps, stages and batch.
    """

    name: str
    config: ModelConfig
    settings: DepthArmSettings

    def rows(self) -> list[dict[str, Any]]:
        """A row for each arm, beside the paper's figures."""
        try:
            rows = cost_rows(self.config, self.settings)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        printed, reason = self._printed()
        made = {
            "code": runs.code_version("flops"),
            "model": self.name,
            "architecture": self.config.to_dict(),
            "settings": dataclasses.asdict(self.settings),
        }
        return [
            {
                "hash": runs.row_hash(arm=row["arm"], rounding=row["rounding"], **made),
                "model": self.name,
                **beside_the_paper(row, printed, reason),
            }
            for row in rows
        ]

    def _printed(self) -> tuple[dict[str, float] | None, str]:
        """The paper's figures if model and settings are its own, else None and why."""
        table = paper_table("dg_table7")
        if self.name not in table["models"]:
            return None, "the paper has no such model"
        printed = table["models"][self.name]
        papers = table["settings"] | {"batch_size": printed.pop("batch_size")}
        other = [
            name
            for name, value in dataclasses.asdict(self.settings).items()
            if papers.get(name, value) != value  # what becomes of moments costs nothing
        ]
        reason = f"not with the paper's {', '.join(other)}"
        return (None, reason) if other else (printed, "")


def _plan(config: ConfigDict) -> list[_Model]:
    require_each_once("models", config.models)
    for name in ("steps", "seq_len"):
        require_whole(name, config[name])
    if config.batch_size is not None:
        require_whole("batch_size", config.batch_size, remedy="none is the paper's")
    plan = []
    for name in config.models:
        batch_size = MODELS[name].batch_size if name in MODELS else BATCH_SIZE
        settings = DepthArmSettings(
            steps=config.steps,
            block=config.block,
            growth_fraction=config.growth_fraction,
            alpha=config.alpha,
            batch_size=batch_size if config.batch_size is None else config.batch_size,
            seq_len=config.seq_len,
        )
        plan.append(_Model(name, _architecture(name, config.shape), settings))
    return plan


def _architecture(name: str, shape: ConfigDict) -> ModelConfig:
    if ":" in name:
        return open_model(name).config
    choose("model", name, (*MODELS, SHAPE))
    if name in MODELS:
        return MODELS[name].config
    return ModelConfig.uniform(**shape)


if __name__ == "__main__":
    cli.run_experiment("flops", run)

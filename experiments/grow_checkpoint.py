"""Growing a trained model in depth: what copied layers cost before any training.

A map takes the layers of a model to those of a deeper one (DG section 3.1); the result is written
as a Hugging Face folder, for further training (depth up-scaling). It is compared with the
original model, every other map to the same depth, and three nulls: random layers in the places of
the new ones, the same new layers in random order, and blocks copied after themselves at random
places.

    python -m experiments.grow_checkpoint --config=configs/grow_checkpoint.py --workdir=runs/grown

The folder is `model` in the workdir; `rows.jsonl` has one row for each map and text.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import changed, cli, config_fields, model, report
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import SOURCES, TEXTS, Text, load_texts
from jaxanatomy.errors import InputError, require_whole
from jaxanatomy.growth.apply import grow, grown_config
from jaxanatomy.growth.maps import OPERATORS, GrowthMap, growth_map
from jaxanatomy.growth.variants import NULLS, growth_variants
from jaxanatomy.measures.grow_checkpoint import summarise
from jaxanatomy.measures.losses import loss_rows
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.weights import Checkpoint, Source, describe_model_ids, open_model
from jaxanatomy.weights.hf_config import to_config
from jaxanatomy.weights.tensors import DTYPES, parse_dtype

MAY_CHANGE_ON_RESUME = config_fields.SWEEP_MAY_CHANGE


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures every map, writes the folder, reads it back, then summary and report."""
    plan = _plan(config)
    with plan.study.opened(workdir, config, MAY_CHANGE_ON_RESUME) as results:
        plan.study.measure(results)
        original = plan.source.load()
        folder = changed.write_folder(results, lambda: _grown(plan, original), plan.dtype)
        summary = _facts(plan) | _written(plan, original, folder)
        summary["texts"] = summarise(results.rows, plan.operator)
        report.conclude(results, summary)
    print(f"model: {folder}")
    print(f"load it: transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r})")


def dry_run(config: ConfigDict) -> str:
    """What would be measured and written, from the architecture alone."""
    plan = _plan(config)
    facts = _facts(plan)
    size = model.parameter_count(plan.config) * plan.dtype.itemsize / 2**20
    lines = [
        f"{plan.operator}: {facts['layers_before']} to {facts['layers_after']} layers",
        f"layers: {facts['sources']}",
        f"parameters: {facts['parameters_after']:,}, was {facts['parameters_before']:,}",
        f"size: {size:,.0f} MiB of {config.dtype}",
        *(f"without {name}: {reason}" for name, reason in plan.absent.items()),
    ]
    return "\n".join(lines) + "\n\n" + plan.study.describe()


def describe() -> str:
    """Operators, nulls, texts, dtypes and model ids, a line each."""
    sections = {
        "operators": {name: operator.help for name, operator in OPERATORS.items()},
        "beside them": NULLS,
        "texts": {**TEXTS, **SOURCES},
        "dtypes": {name: "" for name in DTYPES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """Validated settings; no weights are read.

    Attributes:
      source: The model as it is.
      operator: That of the folder.
      growth: Its map.
      config: The architecture of the folder.
      dtype: Of its tensors.
      texts: What to measure on.
      study: Every map on every text.
      absent: Operators that do not take these numbers, and why.
    """

    source: Source
    operator: str
    growth: GrowthMap
    config: ModelConfig
    dtype: np.dtype
    texts: tuple[Text, ...]
    study: Study
    absent: dict[str, str]


def _plan(config: ConfigDict) -> _Plan:
    texts = load_texts(config.texts)
    for name, least in (("null_draws", 1), ("seed", 0)):
        require_whole(name, config[name], least)
    dtype = parse_dtype(config.dtype)
    source = open_model(config.model)
    source = dataclasses.replace(source, read_params=functools.cache(source.read_params))
    if source.config.ln_scaling:
        raise InputError(
            f"{config.model} has LN-scaling, by which a copied layer changes with its place; fold "
            "it into the norms first: write the model with experiments.export, grow that folder"
        )
    size = (source.config.num_layers, config.block, config.num_layers)
    growth = growth_map(config.operator, *size)
    grown = grown_config(source.config, growth)
    to_config(grown)  # refuses what a Hugging Face folder cannot express
    settings = StudySettings.of("grow_checkpoint", config.sweep)
    variants, absent = growth_variants(
        source.config, config.operator, *size[1:], config.null_draws, config.seed
    )
    rows = functools.partial(rows_of_readings, make=loss_rows)
    study = Study(source, [StudyPart(text, variants, rows=rows) for text in texts], settings)
    return _Plan(source, config.operator, growth, grown, dtype, texts, study, absent)


def _grown(plan: _Plan, original: Checkpoint) -> Checkpoint:
    params, _ = grow(plan.growth, original.params)
    return dataclasses.replace(original, config=plan.config, params=params)


def _facts(plan: _Plan) -> dict[str, Any]:
    return {
        "operator": plan.operator,
        "sources": list(plan.growth.sources),
        "inserted": list(plan.growth.inserted),
        "zeroed": list(plan.growth.zeroed),
        **changed.sizes(plan.source.config, plan.config),
        "absent": plan.absent,
    }


def _written(plan: _Plan, original: Checkpoint, folder: Path) -> dict[str, Any]:
    """The folder as it reads: hash, perplexity on the first text, and how logits moved."""
    text = plan.texts[0]
    written, found = changed.compare(original, folder, plan.dtype, text)
    token_BT = jnp.asarray(plan.study.batches(text)[0].token_RT[:1, :64])
    logits = [
        np.asarray(model.forward(each.config, each.params, token_BT))
        for each in (original, written)
    ]
    return found | {"largest_change_of_a_logit": float(np.abs(logits[1] - logits[0]).max())}


if __name__ == "__main__":
    cli.run_experiment("grow_checkpoint", run)

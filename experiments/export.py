"""Export: the model after a change, as a Hugging Face folder that transformers loads.

Layers are dropped, scaled, cloned or replaced, or parts of them zeroed, several at once and in any
order, as the other experiments name their variants.

    python -m experiments.export --config=configs/export.py --workdir=runs/export \\
        --config.variants=zero/layer/14,scale_0.9/layer/17

The folder is `model` in the workdir; `summary.json` says what was changed, and what that
costs in perplexity, measured on the tensors as written.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxanatomy import api, changed, cli, runs
from jaxanatomy.config import ModelConfig
from jaxanatomy.data.text import Text, load_text
from jaxanatomy.interventions.changes import combined_steps, split_names
from jaxanatomy.interventions.materialise import materialised_config, remaining_steps
from jaxanatomy.interventions.registry import describe_interventions
from jaxanatomy.interventions.scopes import SCOPES
from jaxanatomy.interventions.variants import Step, Steps, Variant
from jaxanatomy.model import parameter_count
from jaxanatomy.study import tokenise
from jaxanatomy.weights import Checkpoint, Source, describe_model_ids, open_model
from jaxanatomy.weights.hf_config import to_config
from jaxanatomy.weights.recipes import llama_quantize_command, mergekit_config
from jaxanatomy.weights.tensors import DTYPES, parse_dtype

MERGEKIT = "mergekit.yml"  # beside it, where layers are chosen and none is changed


def run(config: ConfigDict, workdir: Path) -> None:
    """Writes the folder, reads it back, and records what was changed."""
    plan = _plan(config)
    provenance = runs.provenance(
        "export",
        model=plan.source.id,
        architecture=plan.source.config.to_dict(),
        weights_sha256=plan.source.read_sha256(),
        data_sha256={plan.text.name: plan.text.sha256} if plan.text else {},
    )
    with runs.Run.open(workdir, config.to_dict(), provenance) as results:
        original, variant = plan.source.load(), Variant("changed", plan.steps)
        folder = changed.write_folder(results, lambda: api.apply(original, variant), plan.dtype)
        summary = _summary(plan, original, folder)
        results.write_summary(summary)
        recipe = _mergekit(config, plan)
        if recipe:
            results.write_text(MERGEKIT, recipe)
    print(_in_words(summary, folder, plan))


def dry_run(config: ConfigDict) -> str:
    """What would be written, from the architecture alone."""
    plan = _plan(config)
    facts = _facts(plan)
    size = parameter_count(plan.config) * plan.dtype.itemsize / 2**20
    lines = [
        f"changes: {', '.join(facts['variants']) or 'none'}",
        f"layers: {facts['layers']} of {facts['layers_before']}",
        f"parameters: {facts['parameters_after']:,} of {facts['parameters_before']:,}",
        f"size: {size:,.0f} MiB of {config.dtype}",
        f"perplexity: {'on ' + plan.text.name if plan.text else 'not measured'}",
    ]
    return "\n".join(lines)


def describe() -> str:
    """How changes are written, interventions, scopes and dtypes, a line each."""
    sections = {
        "variants": {
            "zero/layer/14": "layer 14 is dropped",
            "zero/head_3/7": "query head 3 of layer 7 is silenced",
            "scale_0.9/set/3,5-8": "the weights of these layers times 0.9",
            "clone/set/paper": "a set by its name; see `jaxanatomy manipulation --list`",
            "repeat/span/9-15": "layers 9 to 15 are applied twice",
        },
        "interventions": dict(describe_interventions()),
        "scopes": {**SCOPES, "head_I": "one query head (zero only)"},
        "dtypes": {name: "" for name in DTYPES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Validated settings; no weights are read.

    Attributes:
      source: The model as it is.
      variants: The changes by name.
      steps: The layers of the new model.
      config: Its architecture.
      dtype: Of the written tensors.
      text: What to measure on, or None.
    """

    source: Source
    variants: tuple[str, ...]
    steps: Steps
    config: ModelConfig
    dtype: np.dtype
    text: Text | None


def _plan(config: ConfigDict) -> _Plan:
    dtype = parse_dtype(config.dtype)
    text = load_text(config.text) if config.text else None
    source = open_model(config.model)
    names = split_names(config.variants)
    steps = combined_steps(source.config, names, config.layers or None)
    steps = remaining_steps(source.config, steps)
    made = materialised_config(source.config, steps)
    to_config(made)  # refuses what a Hugging Face folder cannot express
    if text is not None:
        tokenise(source, text)
    return _Plan(source, tuple(names), steps, made, dtype, text)


def _facts(plan: _Plan) -> dict[str, Any]:
    return {
        "variants": list(plan.variants),
        "layers": [step.layer for step in plan.steps],
        **changed.sizes(plan.source.config, plan.config),
    }


def _summary(plan: _Plan, original: Checkpoint, folder: Path) -> dict[str, Any]:
    """What was changed and what it costs; the folder is read back for both."""
    _, found = changed.compare(original, folder, plan.dtype, plan.text)
    summary = _facts(plan) | found
    if plan.text is None:
        return summary
    before, after = (found[f"ppl_{when}"] for when in ("before", "after"))
    is_known = None not in (before, after)
    return summary | {"degradation_percent": 100 * (after / before - 1) if is_known else None}


def _is_choice(plan: _Plan) -> bool:
    """Whether the new model has layers of the old one as they are, in any order."""
    scaled = plan.source.config.ln_scaling  # a layer that moves would be scaled as before here
    return not scaled and all(step == Step(step.layer) for step in plan.steps)


def _mergekit(config: ConfigDict, plan: _Plan) -> str | None:
    """The same choice of layers for mergekit."""
    layers = [step.layer for step in plan.steps]
    return mergekit_config(plan.source.id, layers, config.dtype) if _is_choice(plan) else None


def _in_words(summary: dict[str, Any], folder: Path, plan: _Plan) -> str:
    """The summary for the terminal."""
    lines = [
        f"model: {folder} ({summary['layers_after']} layers, was {summary['layers_before']}; "
        f"{summary['parameters_after']:,} parameters, was {summary['parameters_before']:,}; "
        f"{summary['bytes'] / 2**20:,.1f} MiB of {summary['dtype']})"
    ]
    if summary.get("degradation_percent") is not None:
        lines.append(
            f"perplexity on {summary['text']}: {summary['ppl_after']:.4f}, was "
            f"{summary['ppl_before']:.4f} ({summary['degradation_percent']:+.2f} %)"
        )
    elif "reason" in summary:
        lines.append(f"perplexity on {summary['text']}: none, {summary['reason']}")
    lines.append(f"load it: transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r})")
    if _is_choice(plan):
        layers, depth = [step.layer for step in plan.steps], plan.source.config.num_layers
        command = llama_quantize_command(plan.source.id, layers, depth)
        lines.append(f"the same with mergekit: mergekit-yaml {folder.with_name(MERGEKIT)} FOLDER")
        lines += [f"the same with llama.cpp: {command}"] if command else []
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_experiment("export", run)

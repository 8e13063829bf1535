"""Importance: what the model loses without each layer, and parts of it, with controls.

The method (AH section 3.2, with controls of our own): replace a layer's weights
by the mean of its neighbours', or by one of eight controls, and measure the perplexity.
The same for attention and MLP, each matrix and each head; at all token positions,
at the first only, at the others only. Intervals are over documents, paired.

    python -m experiments.importance --config=configs/importance.py --workdir=runs/atlas

`rows.jsonl` has one row for each variant and text; `report.html` shows them.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report
from jaxanatomy.data.text import SOURCES, TEXTS, load_texts
from jaxanatomy.errors import InputError
from jaxanatomy.interventions import cells
from jaxanatomy.interventions.registry import describe_interventions
from jaxanatomy.interventions.scopes import SCOPES
from jaxanatomy.measures.importance_summary import summarise
from jaxanatomy.papers import table1_of
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.sweep import distributed
from jaxanatomy.weights import describe_model_ids, open_model

MAY_CHANGE_ON_RESUME = (*config_fields.SWEEP_MAY_CHANGE, "distributed")


def run(config: ConfigDict, workdir: Path) -> None:
    """Measures what is not measured yet, then writes summary, figures and report."""
    process, processes = distributed.start(**config.distributed)
    study = _study(config, process, processes)
    with study.opened(workdir, config, MAY_CHANGE_ON_RESUME) as results:
        study.measure(results)
        if not study.gathered(results):
            return
        published = table1_of({**config.to_dict(), **study.config.to_dict()})
        by_text = {
            text: summarise([row for row in results.rows if row["text"] == text], published)
            for text in dict.fromkeys(row["text"] for row in results.rows)
        }
        report.conclude(results, {"texts": by_text})


def dry_run(config: ConfigDict) -> str:
    """The variants, and what they would cost."""
    return _study(config).describe()


def _study(config: ConfigDict, process: int = 0, processes: int = 1):
    """All cells on the first text, the main map on the others; what is listed on every text."""
    texts = load_texts(config.texts)
    source = open_model(config.model)
    if config.cells not in ("protocol", "map"):
        raise InputError(f"cells must be 'protocol' or 'map'; got {config.cells!r}; choose one")
    main_map = cells.main_map(source.config, boundary=config.boundary)
    if config.interventions or config.scopes or config.positions or config.layers:
        first = others = cells.ablations(
            source.config,
            config.interventions or None,
            config.scopes or None,
            config.positions or None,
            config.layers or None,
            config.draws,
        )
    elif config.cells == "protocol":
        first, others = cells.protocol_cells(source.config, config.draws), main_map
    else:
        first = others = main_map
    settings = StudySettings.of("importance", config.sweep, config.packing, process, processes)
    parts = [StudyPart(texts[0], first), *(StudyPart(text, others) for text in texts[1:])]
    return Study(source, parts, settings)


def describe() -> str:
    """Interventions, scopes, texts and model ids, a line each."""
    sections = {
        "interventions": dict(describe_interventions()),
        "scopes": {**SCOPES, "head_I": "one query head, from head_0 (zero only)"},
        "positions": {
            "all": "every token",
            "first": "the first token of each window of text",
            "others": "every token but the first of its window",
        },
        "texts": {**TEXTS, **SOURCES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


if __name__ == "__main__":
    cli.run_experiment("importance", run)

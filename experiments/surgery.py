"""Surgery: every run of layers left out, applied twice, swapped and reversed.

The method (DG section 4, extended from single sizes to every contiguous run): cut, repeat, damp the
repeat, swap with the next block or reverse, and measure the perplexity and how far each prediction
moved (KL to the unchanged model), paired by document. The best of hundreds looks good by chance, so
the intervals of an operation hold for all of its variants at once.

    python -m experiments.surgery --config=configs/surgery.py --workdir=runs/surgery

`rows.jsonl` has one row for each variant and text; `report.html` shows them.
"""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from jaxanatomy import cli, config_fields, report
from jaxanatomy.data.text import SOURCES, TEXTS, load_texts
from jaxanatomy.interventions.registry import describe_interventions
from jaxanatomy.interventions.surgery import surgery_variants
from jaxanatomy.measures.losses import loss_rows
from jaxanatomy.measures.rows import rows_of_readings
from jaxanatomy.measures.surgery import summarise
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
        documents = {text.name: study.count_documents(text) for text in load_texts(config.texts)}
        report.conclude(results, summarise(results.rows, documents))


def dry_run(config: ConfigDict) -> str:
    """The variants, and what they would cost."""
    return _study(config).describe()


def describe() -> str:
    """Operations, texts and model ids, a line each."""
    operations = ("cut", "repeat", "repeat_damped_ALPHA", "swap", "reverse")
    named = dict(describe_interventions())
    sections = {
        "operations": {name: named[name] for name in operations},
        "texts": {**TEXTS, **SOURCES},
        **describe_model_ids(),
    }
    return cli.format_sections(sections)


def _study(config: ConfigDict, process: int = 0, processes: int = 1) -> Study:
    """All variants on every text."""
    source = open_model(config.model)
    variants = surgery_variants(
        source.config, config.cut, config.repeat, config.damping, config.swap, config.reverse
    )
    settings = StudySettings.of("surgery", config.sweep, config.packing, process, processes)
    rows = functools.partial(rows_of_readings, make=loss_rows)
    parts = [StudyPart(text, variants, rows=rows) for text in load_texts(config.texts)]
    return Study(source, parts, settings)


if __name__ == "__main__":
    cli.run_experiment("surgery", run)

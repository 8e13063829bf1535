"""Run by test_devices as two processes that share a workdir: half of the chunks each."""

import os
import sys

from jaxanatomy import runs
from jaxanatomy.interventions import cells
from jaxanatomy.study import Study, StudyPart, StudySettings
from jaxanatomy.sweep import SweepOptions, distributed
from jaxanatomy.weights import Source


def main(workdir, backend):
    count, index = int(os.environ["PROCESS_COUNT"]), int(os.environ["PROCESS_INDEX"])
    coordinator = os.environ["COORDINATOR"] if count > 1 else ""
    index, count = distributed.start(coordinator, count, index)
    from test_study import CONFIG, PARAMS, TEXT, Letters  # computes, so after the start

    source = Source("test", CONFIG, Letters, lambda dtype: PARAMS, lambda: "sha256")
    options = SweepOptions(
        widths=(2, 1), chunk_size=6, backend=backend, devices=4 if count > 1 else 1
    )
    variants = cells.ablations(CONFIG, ["neighbour_mean", "zero"], ["layer", "mlp"])
    settings = StudySettings(options=options, processes=count, process=index)
    study = Study(source, [StudyPart(TEXT, variants)], settings)
    with runs.Run.open(
        workdir,
        {"seed": 0},
        study.provenance(),
        process_index=index,
        process_count=count,
    ) as run:
        study.measure(run)
        measured = len(run.rows)
        distributed.wait_for_all("rows")
        if index == 0:
            run.merge_parts(study.row_order())
        print(f"measured {measured} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])

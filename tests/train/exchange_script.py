"""Prints the shapes of what devices gather in a compiled step whose parameters are cut."""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import growing_run
import jax
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.train.loop import run_steps, start
from jaxanatomy.train.loss import LanguageModelLoss, nothing_frozen
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser, make

ADAMW = make(Optimiser(), {})


def main():
    config = growing_run.config(2)
    place = Placement.over(fsdp_shards=jax.device_count(), min_sharded_size=1)

    def initial():
        params = model.init(config, jax.random.key(0))
        return start(ADAMW, tree.with_layers(params, tree.stack(params["layers"])))

    state = place.make(initial)
    batch = growing_run.Counting(0).next()
    batches = place.rows(jax.tree.map(lambda leaf: leaf[None], batch), axis=1)
    loss = LanguageModelLoss(config, remat=sys.argv[1], gather=place.gather)
    rates = place.replicate(np.ones(1, np.float32))
    steps = run_steps.lower(
        loss,
        ADAMW,
        state,
        nothing_frozen(state.params),
        batches,
        rates,
        1,
        place=place.constrain,
    )
    found = re.findall(r"= f32\[([\d,]+)\]\S* all-gather", steps.compile().as_text())
    print(json.dumps([[int(size) for size in shape.split(",")] for shape in found]))


if __name__ == "__main__":
    main()

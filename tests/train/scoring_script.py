"""Scores questions on one and on all devices, in parts; prints as JSON what came.

Both answers, and the shapes of all float32 results in the program that a device runs.
"""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import growing_run
import jax
import numpy as np

from jaxanatomy import model, tree
from jaxanatomy.data.choices import pack_choices
from jaxanatomy.data.questions import Question
from jaxanatomy.train import evaluation
from jaxanatomy.train.mesh import Placement
from jaxanatomy.train.optimiser import Optimiser
from jaxanatomy.train.setup import Setup, TrainOptions

ROWS, LENGTH, ACCUMULATE = 16, 24, 2
CONFIG = growing_run.config(2)


class Letters:
    """One token for each character."""

    def encode(self, text):
        return [ord(character) % growing_run.VOCABULARY for character in text]


def scored(placement, params):
    """The answers, and the programs that gave them."""
    options = TrainOptions(grad_accum_steps=ACCUMULATE)
    stages, schedule = growing_run.STAGES[:1], growing_run.SCHEDULE
    setup = Setup(stages, Optimiser(), schedule, placement=placement, options=options)
    asked = [Question("task", f"{at} is", (" odd", " even"), at % 2) for at in range(20)]
    packed = pack_choices(asked, Letters(), ROWS, LENGTH)
    program, texts = evaluation.target_nll, set()

    def spied(*arguments):
        texts.add(program.lower(*arguments).compile().as_text())
        return program(*arguments)

    evaluation.target_nll = spied
    right_MQ = evaluation.answers(setup, stages[0], placement.put(params), packed)
    evaluation.target_nll = program
    return right_MQ.tolist(), texts


def main():
    params = model.init(CONFIG, jax.random.key(0))
    params = tree.with_layers(params, tree.stack(params["layers"]))
    params = jax.tree.map(lambda leaf: 20 * np.asarray(leaf), params)
    one, _ = scored(Placement.over(jax.devices()[:1]), params)
    several, texts = scored(Placement.over(), params)
    shapes = {shape for text in texts for shape in re.findall(r"= f32\[([\d,]+)\]", text)}
    shapes = [[int(size) for size in shape.split(",")] for shape in sorted(shapes)]
    print(json.dumps({"one": one, "several": several, "programs": len(texts), "shapes": shapes}))


if __name__ == "__main__":
    main()

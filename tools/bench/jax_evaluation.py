"""This package's side of the evaluation: its harness, and the requests that both are asked."""

import json

from bench.jax_sweep import open_product
from lm_eval.api.instance import Instance

from jaxanatomy import host, weights
from jaxanatomy.data.question_files import load_questions
from jaxanatomy.harness import Harness, Scorer
from jaxanatomy.interventions.variants import baseline

REQUESTS = "requests.json"


def export(folder, source, count):
    """Writes a prompt and a continuation for each question without choices."""
    asked = load_questions(source, count).items
    pairs = [[each.prompt, each.choices[0]] for each in asked]
    (folder / REQUESTS).write_text(json.dumps(pairs))


def read_requests(folder):
    """The requests as the harness has them."""
    pairs = json.loads((folder / REQUESTS).read_text())
    return [Instance("loglikelihood", {}, tuple(pair), at) for at, pair in enumerate(pairs)]


def answers(model, requests):
    """Log-likelihoods, and whether each continuation is greedy."""
    return [[float(one), bool(greedy)] for one, greedy in model.loglikelihood(requests, True)]


def open_harness(folder):
    """The unchanged model; what it has answered is forgotten at each step."""
    host.keep_freed_memory()  # as the command line does
    checkpoint = weights.load(f"file:{folder / 'model'}")
    scorer = Scorer(checkpoint, [baseline(checkpoint.config.num_layers)])
    requests, model = read_requests(folder), Harness(scorer)

    def step(number):
        scorer.clear()
        return answers(model, requests)

    return {"step": step, "work": scorer.flops, "product": open_product()}

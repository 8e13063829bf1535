"""What tasks of lm-eval are refused for before anything is measured, with a harness that is faked.

The harness itself is an optional extra: `tests/parity/test_harness.py` asks it.
"""

import sys
import types

import pytest

import jaxanatomy

WRITES = {"until": ["\n"], "max_gen_toks": 8}
OWN = ("harness", "harness_tasks")  # modules that import the harness


class Task:
    """A task as the harness has them, of one request an item."""

    def __init__(self, output_type, *settings):
        self.OUTPUT_TYPE, self.instances, self._settings = output_type, None, settings

    def set_fewshot_seed(self, seed):
        del seed

    def build_all_requests(self, *, limit, rank, world_size):
        del rank, world_size
        assert self.OUTPUT_TYPE == "generate_until", "what is scored may be scored anyway"
        self.instances = [
            types.SimpleNamespace(request_type=self.OUTPUT_TYPE, args=("Two and", own), doc={})
            for own in self._settings[:limit]
        ]


TASKS = {
    "scores": Task("multiple_choice"),
    "writes": Task("generate_until", WRITES, WRITES),
    "samples": Task("generate_until", WRITES, WRITES | {"do_sample": True, "temperature": 0.7}),
    "long": Task("generate_until", WRITES | {"max_gen_toks": 512}),
}


class TaskManager:
    def load(self, names):
        return {"tasks": {name: TASKS[name] for name in names}}


def normalised(settings):
    return {"do_sample": False, "max_gen_toks": 256, "until": []} | settings


MODULES = {
    "lm_eval": {"__version__": "0", "__path__": []},
    "lm_eval.api": {},
    "lm_eval.api.instance": {"Instance": object},
    "lm_eval.api.model": {"TemplateLM": object},
    "lm_eval.defaults": {"DEFAULT_OTHER_SEED": 1234},
    "lm_eval.models": {},
    "lm_eval.models.utils": {"normalize_gen_kwargs": normalised},
    "lm_eval.tasks": {"TaskManager": TaskManager},
    "lm_eval.utils": dict.fromkeys(("get_rolling_token_windows", "make_disjoint_window")),
}


@pytest.fixture
def plan(tiny, command, fixed_version, monkeypatch, tmp_path):
    """Plans the experiment with a harness of the tasks above; gives what the command said."""
    for name, fields in MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(fields)
        monkeypatch.setitem(sys.modules, name, module)
    for name in OWN:  # imported anew, and forgotten after the test
        monkeypatch.setitem(sys.modules, f"jaxanatomy.{name}", None)
        monkeypatch.setattr(jaxanatomy, name, None, raising=False)
        del sys.modules[f"jaxanatomy.{name}"]
        delattr(jaxanatomy, name)

    def plan(tasks, variants, *more):
        given = (f"--config.tasks={tasks}", f"--config.variants={variants}", *more)
        given += (f"--config.model={tiny.model}", f"--workdir={tmp_path / 'run'}")
        done = command("evaluate", *given)
        assert not (tmp_path / "run" / "rows.jsonl").exists()
        return done

    yield plan
    for name in OWN:
        vars(jaxanatomy).setdefault(name, None)  # which `monkeypatch` removes


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("tasks", "variants", "message"),
    [
        (
            "lm_eval:scores,lm_eval:writes",
            "cut/span/0-1,repeat_damped_0.5/span/1-2,repeat_damped_0.25/span/0-1",
            "the task 'writes' of lm-eval has text written (generate_until), which a variant does "
            "as a model of its own; repeat_damped_0.5/span/1-2, repeat_damped_0.25/span/0-1 cannot "
            "be one (weights express layers one after another; got a linear combination",
        ),
        (
            "lm_eval:writes",
            "zero/layer/0,zero/layer@first/1",
            "zero/layer@first/1 cannot be one (weights act at every token position alike;",
        ),
        (
            "lm_eval:samples",
            "cut/span/0-1",
            "the task 'samples' of lm-eval draws them "
            '({"do_sample": true, "max_gen_toks": 8, "temperature": 0.7, "until": ["\\n"]})',
        ),
        ("lm_eval:long", "cut/span/0-1", "the task 'long' of lm-eval asks for 512 tokens, and the"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(plan, dry_run, tasks, variants, message):
    done = plan(tasks, variants, *["--dry_run"] * dry_run)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_what_can_be_answered_is_planned(plan):
    """Choices are scored under any variant; of the items that are asked none is drawn."""
    damped = "zero/layer@first/1,repeat_damped_0.5/span/1-2"
    assert plan("lm_eval:scores", damped, "--dry_run").out == "scores\n"
    done = plan(
        "lm_eval:writes,lm_eval:samples", "zero/layer/1", "--config.questions=1", "--dry_run"
    )
    assert (done.status, done.out) == (0, "writes\n\nsamples\n")

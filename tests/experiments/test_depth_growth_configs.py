"""The shipped configs of depth growth: the paper's numbers, and what a pod would be asked for."""

import ast
import dataclasses
from pathlib import Path

import pytest

from jaxanatomy import config_files
from jaxanatomy.growth.depth_arms import MEAN_DEPTH, SHALLOW
from jaxanatomy.growth.smollm import MODELS
from jaxanatomy.model import parameter_count
from jaxanatomy.train.depth_plan import depth_plan, mixtures
from jaxanatomy.train.lowering import export_run
from jaxanatomy.train.memory import step_memory

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PARAMETERS = {
    "depth_growth": 2_886_784,
    "growth_small": 2_886_784,
    "growth_tiny": 2_099_328,
    "growth_gpu": 20_456_832,
    "smollm_360m": 361_821_120,
    "smollm_1p7b": 1_711_376_384,
}
PAPER = ("smollm_360m", "smollm_1p7b")


def load(name, variant=""):
    return config_files.load(CONFIGS / f"{name}.py", variant)


def plan(name, variant=""):
    return depth_plan(load(name, variant), dry_run=True)


def test_every_config_of_the_experiment_is_here():
    commands = {
        path.stem: "experiments.depth_growth " in ast.get_docstring(ast.parse(path.read_text()))
        for path in CONFIGS.glob("[a-z]*.py")
    }
    assert {name for name, is_one in commands.items() if is_one} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_arm_ends_at_the_full_depth_after_its_steps(name):
    made = plan(name)
    assert parameter_count(made.model) == PARAMETERS[name]
    for arm, stages in made.arms.items():
        expected = dataclasses.replace(made.model, ln_scaling="ln_" in arm)
        if arm.startswith(SHALLOW) or arm == MEAN_DEPTH:
            expected = expected.with_layers(expected.layers[: stages[0].config.num_layers])
            assert expected.num_layers < made.model.num_layers
        assert stages[-1].config == expected, arm
        steps = sum(stage.steps for stage in stages)
        assert (steps == made.config.steps) != arm.endswith("_equal_flops")
        if len(stages) > 1:
            assert stages[0].config.num_layers == made.config.block
    # What evaluates and saves comes round before the run is over.
    assert made.config.eval_every < made.config.steps
    assert made.config.train.checkpoint_every < made.config.steps


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings(name):
    config, made = load(name), plan(name)
    assert made.model == MODELS[name].config
    assert config.batch_size == MODELS[name].batch_size
    assert (config.block, config.alpha, config.optimiser.weight_decay) == (4, 1.0, 0.01)
    assert config.learning_rates == {"smollm_360m": (3e-3,), "smollm_1p7b": (5e-4,)}[name]
    assert made.tuning == []
    rates = made.setup("midas", made.main(config.learning_rates[0])).rates()[:, 0]
    assert len(rates) == 200_000
    peak = rates.max()
    assert rates[1998] < rates[1999] == peak == rates[170_000] > rates[170_001]
    for arm in ("midas", "lidas"):
        stages = made.arms[arm]
        assert sum(stage.steps for stage in stages) - 30_000 == 170_000
        assert stages[-1].steps - 30_000 == pytest.approx(170_000 * 2 / (len(stages) + 1), abs=1)


def test_the_stages_of_proportional_growth():
    found = [(stage.config.num_layers, stage.steps) for stage in plan("smollm_1p7b").arms["lidas"]]
    # 170,000 i / 21 by largest remainder, then 30,000 steps more.
    assert found == [
        (4, 8095),
        (8, 16_191),
        (12, 24_286),
        (16, 32_381),
        (20, 40_476),
        (24, 48_571 + 30_000),
    ]


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_mixtures(name):
    whole = mixtures(load(name), 200_000)
    ((first, mixture),) = whole.mixtures
    assert first == 0
    named = dict(zip(mixture.sources, mixture.weights, strict=True))
    words = {"fineweb-edu-dedup": 0.7, "cosmopedia-v2": 0.15, "python-edu": 0.09, "open-web": 0.06}
    for word, weight in words.items():
        assert [share for source, share in named.items() if word in source] == [weight]
    _, (first, mathematics) = mixtures(load(name, "math_cooldown"), 200_000).mixtures
    assert first == 170_000
    assert mathematics.sources == (mixture.sources[-1],)


def test_memory_of_a_pod():
    made = plan("smollm_360m")
    memory = step_memory(made.setup("midas", made.main(1e-3)), made.arms["midas"][-1], 512, 2048)
    assert memory.parameters == 4 * 361_821_120
    assert memory.moments == 8 * 361_821_120 + 4
    assert memory.gradients == 8 * 361_821_120
    assert memory.gathered == 0
    assert memory.batches == 20 * 5 * 4 * 8 * 2048  # steps, arrays, bytes, rows, tokens
    stream = 4 * 2048 * 960  # one row at a time
    assert 33 * stream <= memory.layers < 40 * stream
    assert memory.head < 3 * 4 * 2048 * 49_152
    assert memory.total < 16e9


def test_memory_where_parameters_are_cut():
    made = plan("smollm_1p7b")
    memory = step_memory(made.setup("midas", made.main(1e-3)), made.arms["midas"][-1], 1024, 2048)
    matrices = 24 * (4 * 2048 * 2048 + 3 * 2048 * 8192) + 49_152 * 2048
    norms, final = 24 * 2 * 2048, 2048
    # A stack of norms has 49,152 elements, below the smallest that is cut.
    assert memory.parameters == 4 * (matrices // 8 + norms + final)
    assert memory.moments == 2 * memory.parameters + 4
    assert memory.total < 32e9


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_are_lowered_for_pods(name):
    made = plan(name)
    found = export_run(
        made.setup("midas", made.main(1e-3)),
        made.config.batch_size,
        made.config.model.context_length,
    )
    middle = {"smollm_360m": 20, "smollm_1p7b": 16}[name]
    assert list(found) == [
        "step, 4 layers",
        "evaluation, 4 layers",
        f"step, {middle} layers",
        f"evaluation, {middle} layers",
        f"growth to {middle} layers",
        *(
            f"{part} {made.model.num_layers} layers"
            for part in ("step,", "evaluation,", "scoring,", "growth to")
        ),
    ]
    for program in found.values():
        assert program.platforms == ("tpu", "cuda")
        assert program.nr_devices == made.config.train.devices

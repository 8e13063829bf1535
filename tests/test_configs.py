"""Every shipped config loads, says its command, and agrees with its experiment."""

import ast
import re
from pathlib import Path

import pytest

from jaxanatomy import config_files

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("[a-z]*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").glob("[a-z]*.py"))
COMMAND = re.compile(r"python -m experiments\.(\w+) (?:\S+ )*--workdir=")
# Modules that an experiment gives its whole config to.
ARMS = ("jaxanatomy/train/arm_plan.py", "jaxanatomy/train/arm_fields.py")
DEPTH_ARMS = (*ARMS, "jaxanatomy/train/depth_arm_fields.py")
READERS = {
    "depth_growth": ("jaxanatomy/train/depth_plan.py", *DEPTH_ARMS),
    "developmental": ARMS,
    "khop_growth": ("jaxanatomy/train/hop_plan.py", *DEPTH_ARMS),
    "role_moves": (
        "jaxanatomy/train/role_plan.py",
        "jaxanatomy/train/shape_arms.py",
        *ARMS,
    ),
}
METHODS = ("to_dict", "items", "keys", "values", "get")


def name_of(path):
    return path.stem


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def constant(path, name):
    """The literal that a module gives to `name`, without running the module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [
            name
        ]:
            return ast.literal_eval(node.value)
    return None


def fields_read(text):
    """The chains `config.a.b` that a source reads, without "config."."""
    chains = set()
    inner = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node not in inner:
            inner |= {child for child in ast.walk(node) if isinstance(child, ast.Attribute)}
            chain = ast.unparse(node)
            if re.fullmatch(r"config(\.\w+)+", chain):
                chains.add(chain.removeprefix("config."))
    return chains


def disagreements(fields, text):
    """Fields of a config that its experiment does not read, and the reverse."""
    groups = {name.rpartition(".")[0] for name in fields} - {""}
    read, unknown = set(), []
    for chain in sorted(fields_read(text)):
        if chain in METHODS:  # config.to_dict()
            continue
        group, _, last = chain.rpartition(".")
        whole = group if last in METHODS and group in groups else chain
        found = {
            name
            for name in fields
            if name.startswith(f"{whole}.") or name == whole or whole.startswith(f"{name}.")
        }
        read |= found
        unknown += [] if found else [chain]
    return [name for name in fields if name not in read], unknown


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_every_variant_loads_and_has_the_same_fields(path):
    variants = constant(path, "VARIANTS")
    assert variants is not None, "declare VARIANTS"
    assert variants[0] == ""
    default = config_files.load(path)
    for variant in variants[1:]:
        config_files.require_same_fields(config_files.load(path, variant), default)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_the_docstring_holds_the_command(path):
    command = COMMAND.search(docstring(path))
    assert command, "the docstring needs: python -m experiments.NAME ... --workdir=DIR"
    assert (ROOT / "experiments" / f"{command[1]}.py").exists()


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_it_has_the_fields_of_the_config_of_its_experiment(path):
    own = config_files.load(ROOT / "configs" / f"{COMMAND.search(docstring(path))[1]}.py")
    config_files.require_same_fields(config_files.load(path), own)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_the_experiment_reads_every_field_and_no_other(path):
    experiment = COMMAND.search(docstring(path))[1]
    paths = [f"experiments/{experiment}.py", *READERS.get(experiment, ())]
    text = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in paths)
    assert disagreements(config_files.fields(config_files.load(path)), text) == ([], [])


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_every_experiment_has_a_run_a_docstring_and_a_config(path):
    functions = {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert functions.get("run") == ["config", "workdir"]
    assert docstring(path)
    assert (ROOT / "configs" / path.name).exists()


def test_disagreements_are_found():
    fields = {"model": "", "sweep.width": 9, "sweep.backend": "", "seed": 0}
    good = "f(config.model, config.sweep.width, seed=config.seed, **config.sweep.to_dict())"
    assert disagreements(fields, good + "; config.sweep.backend.lower(); config.to_dict()") == (
        [],
        [],
    )
    assert disagreements(fields, "g(config.sweep); config.model.upper(); config.seed") == ([], [])
    assert disagreements(fields, "config.model; config.sweep.width; config.modle") == (
        ["sweep.backend", "seed"],
        ["modle"],
    )


def test_commands_are_found():
    assert COMMAND.search("  python -m experiments.demo --config=configs/demo.py --workdir=runs/x")
    assert COMMAND.search("  timeout 9 python -m experiments.demo --config=x --workdir=runs/x")
    assert not COMMAND.search("python -m experiments.demo")

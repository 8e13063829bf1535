"""Data flows one way: a package imports only from those above it."""

import ast
import configparser
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FOUNDATION = (
    "axes",
    "errors",
    "config",
    "tree",
    "version",
    "papers",
    "plain_json",
    "checksums",
    "storage",
    "locks",
    "provenance",
    "progress",
    "ranges",
    "records",
    "runs",
    "host",
    "interrupts",
    "peers",
    "experiment",
    "words",
    "reprs",
)
PACKAGES = (
    "model",
    "weights",
    "data",
    "forensics",
    "interventions",
    "growth",
    "sweep",
    "measures",
    "train",
    "claims",
    "report",
)
SURFACE = (
    "__init__",
    "__main__",
    "study",
    "checkpoints",
    "api",
    "changed",
    "config_fields",
    "config_files",
    "cli",
    "harness",
    "harness_tasks",
)
LAYERS = (
    dict.fromkeys(FOUNDATION, 0)
    | {name: layer for layer, name in enumerate(PACKAGES, start=1)}
    | dict.fromkeys(SURFACE, len(PACKAGES) + 1)
)
HEAVY = (
    "transformers",
    "matplotlib",
    "tensorflow",
    "tensorflow_datasets",
    "grain",
    "gguf",
    "scipy",
    "jinja2",
    "torch",
)


def sources(*folders):
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def imports(text):
    """Every module that a source names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level
            elif node.module == "jaxanatomy":  # from jaxanatomy import tree
                yield from (f"jaxanatomy.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layering_faults(files):
    """What is wrong with the imports of the package's files, one line each."""
    faults = []
    for path, text in files.items():
        owner = path.removeprefix("jaxanatomy/").removesuffix(".py").partition("/")[0]
        if owner not in LAYERS:
            faults.append(f"{path}: give {owner} a layer in tests/test_layering.py")
            continue
        for name in imports(text):
            top, _, rest = name.partition(".")
            part = rest.partition(".")[0]
            if not top:
                faults.append(f"{path}: relative import")
            elif top in ("experiments", "configs") or part in ("experiments", "configs"):
                faults.append(f"{path}: imports {name}")
            elif top == "jaxanatomy" and part and part not in LAYERS:
                faults.append(f"{path}: {name} has no layer")
            elif top == "jaxanatomy" and LAYERS[part or "__init__"] > LAYERS[owner]:
                faults.append(f"{path}: {name} lies below {owner}")
    return faults


def import_cycle(files):
    """A cycle of modules that import each other, or None; packages' own files aside."""
    names = {
        path.removesuffix(".py").replace("/", "."): text
        for path, text in files.items()
        if not path.endswith("__init__.py")
    }
    graph = {name: set(imports(text)) & names.keys() - {name} for name, text in names.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def importers(files, forbidden):
    return [
        f"{path}: {name}"
        for path, text in files.items()
        for name in imports(text)
        if name.partition(".")[0] in forbidden
    ]


def test_packages_import_only_from_those_above():
    files = sources("jaxanatomy")
    assert len(files) > 10
    assert layering_faults(files) == []


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("jaxanatomy/model/head.py", "from jaxanatomy import sweep", "lies below model"),
        ("jaxanatomy/tree.py", "import jaxanatomy.model.head", "lies below tree"),
        ("jaxanatomy/data/text.py", "def f():\n    from jaxanatomy.train import x", "lies below"),
        ("jaxanatomy/data/text.py", "from . import packing", "relative"),
        ("jaxanatomy/cli.py", "import experiments.importance", "imports experiments"),
        ("jaxanatomy/cli.py", "from jaxanatomy.configs import importance", "imports jaxanatomy.co"),
        ("jaxanatomy/tree.py", "import jaxanatomy", "lies below tree"),
        ("jaxanatomy/novel/part.py", "", "give novel a layer"),
    ],
)
def test_layering_faults_are_found(path, text, fault):
    (found,) = layering_faults({path: text})
    assert fault in found


def test_all_packages_are_installed():
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "jaxanatomy").rglob("__init__.py")
    }
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = setup["options"]["packages"].split()
    assert sorted(named) == sorted(found | {"jaxanatomy.configs", "jaxanatomy.experiments"})


def test_no_modules_import_each_other():
    assert import_cycle(sources("jaxanatomy")) is None


def test_import_cycles_are_found():
    files = {
        "jaxanatomy/a.py": "from jaxanatomy import b",
        "jaxanatomy/b.py": "def later():\n    import jaxanatomy.a",
    }
    assert set(import_cycle(files)) == {"jaxanatomy.a", "jaxanatomy.b"}


def test_torch_is_imported_in_tests_and_tools_only():
    torch = ("torch", "transformer_lens")
    assert importers(sources("jaxanatomy", "experiments", "configs"), torch) == []
    assert importers({"a.py": "def f():\n    from torch import nn"}, torch) == ["a.py: torch"]


def test_configs_import_only_what_makes_configs():
    names = {name for text in sources("configs").values() for name in imports(text)}
    assert names <= {"ml_collections", "jaxanatomy.config_fields", "jaxanatomy.config_files"}


def test_experiments_import_the_package_absolutely_and_not_each_other():
    names = {name for text in sources("experiments").values() for name in imports(text)}
    assert not {name for name in names if name.startswith((".", "experiments", "configs"))}
    assert not {name for name in names if name.startswith("jaxanatomy.experiments")}


def test_the_command_line_imports_neither_jax_nor_anything_heavy(run_python):
    code = "import sys, jaxanatomy, jaxanatomy.cli, jaxanatomy.runs; print(*sys.modules)"
    loaded = set(run_python(code).split())
    assert "ml_collections" in loaded
    assert loaded & {"jax", "flax", *HEAVY} == set()


def test_packages_load_nothing_heavy(run_python):
    present = [name for name in PACKAGES if (ROOT / "jaxanatomy" / name).is_dir()]
    code = f"import sys, {', '.join(f'jaxanatomy.{name}' for name in present)}\nprint(*sys.modules)"
    loaded = set(run_python(code).split())
    assert "jaxanatomy.model" in loaded
    assert loaded & set(HEAVY) == set()

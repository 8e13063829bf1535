"""Hashes that determine rows, and the version of the code."""

import hashlib
import platform
import shutil
from pathlib import Path

import jax
import numpy as np

import jaxanatomy
from jaxanatomy import provenance
from jaxanatomy.version import __version__

PACKAGE = Path(jaxanatomy.__file__).parent
EXPERIMENTS = PACKAGE.parent / "experiments"


def test_row_hash_is_the_sha256_of_canonical_json():
    canonical = b'{"dtype":"float32","layers":[1,2],"nested":{"a":null,"b":0.5}}'
    expected = hashlib.sha256(canonical).hexdigest()[:16]
    nested = {"b": np.float64(0.5), "a": None}
    assert provenance.row_hash(nested=nested, layers=(1, 2), dtype="float32") == expected
    assert provenance.row_hash(dtype="float32", layers=np.array([1, 2]), nested=nested) == expected


def test_row_hash_tells_values_and_names_apart():
    parts = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, {"a": 1, "b": None}, {"a": [1]}]
    assert len({provenance.row_hash(**part) for part in parts}) == len(parts)


def test_code_version_is_stable_between_processes(run_python):
    code = "from jaxanatomy.runs import code_version; print(code_version())"
    version, _, digest = run_python(code).strip().partition("+")
    assert version == __version__
    assert digest == provenance.code_version().partition("+")[2]
    assert len(digest) == 12
    assert set(digest) <= set("0123456789abcdef")


def copied(tmp_path):
    return shutil.copytree(PACKAGE, tmp_path / "jaxanatomy", ignore=shutil.ignore_patterns("*.pyc"))


def digest(folder, experiment="structure"):
    closure = provenance.import_closure(EXPERIMENTS / f"{experiment}.py", folder)
    return provenance._digest(closure, folder)


def test_code_version_is_that_of_what_the_experiment_imports(tmp_path):
    folder = copied(tmp_path)
    before = digest(folder)
    assert provenance.code_version("structure").endswith(f"+{before[:12]}")
    elsewhere = ("train/loop.py", "data/packing.py", "report/style.py", "cli.py", "papers/new.py")
    for name in elsewhere:
        path = folder / name
        path.write_text((path.read_text() if path.exists() else "") + "changed = 1\n")
        assert digest(folder) == before
    seen = {before}
    for name in ("forensics/gram.py", "tree.py", "weights/tensors.py", "weights/extra.py"):
        path = folder / name  # weights imports by name when first used
        path.write_text((path.read_text() if path.exists() else "") + "changed = 1\n")
        seen.add(digest(folder))
    assert len(seen) == 5


def test_tables_and_texts_count_where_the_code_that_reads_them_does(tmp_path):
    folder = copied(tmp_path)
    before = {name: digest(folder, name) for name in ("flops", "structure")}
    (table,) = (folder / "papers").glob("*.json")
    table.write_text(table.read_text() + " ")
    assert digest(folder, "flops") != before["flops"]
    assert digest(folder, "structure") == before["structure"]


def test_experiments_share_no_version_unless_they_share_their_code():
    names = sorted(path.stem for path in EXPERIMENTS.glob("[a-z]*.py"))
    assert len(names) > 8
    assert provenance.code_version("depth_growth") != provenance.code_version("structure")
    whole = provenance.code_version()
    assert provenance.code_version("no_such_experiment") == whole
    assert whole not in map(provenance.code_version, names)


def test_provenance_says_where_and_by_what():
    made = provenance.provenance("importance", model="random:tiny", seed=4)
    assert made["experiment"] == "importance"
    assert made["model"] == "random:tiny"
    assert made["seed"] == 4
    assert made["code_version"] == provenance.code_version("importance")
    assert made["jax_version"] == jax.__version__
    assert made["device"] == jax.devices()[0].device_kind
    assert made["device_count"] == 1
    assert made["python"] == platform.python_version()
    assert made["time"].endswith("+00:00")

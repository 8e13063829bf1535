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


def test_code_version_follows_sources_that_measure_and_no_others(tmp_path):
    folder = shutil.copytree(PACKAGE, tmp_path / "copy", ignore=shutil.ignore_patterns("*.pyc"))
    digest = provenance._sources_digest(folder)
    assert digest[:12] == provenance.code_version().partition("+")[2]
    for name in ("report/new.py", "experiments/new.py", "configs/new.py", "cli.py", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("changed = 1\n")
        assert provenance._sources_digest(folder) == digest
    seen = {digest}
    (folder / "model" / "extra.py").write_text("")
    seen.add(provenance._sources_digest(folder))
    (folder / "model" / "extra.py").rename(folder / "model" / "extra2.py")
    seen.add(provenance._sources_digest(folder))
    (folder / "tree.py").write_text((folder / "tree.py").read_text() + "\n")
    seen.add(provenance._sources_digest(folder))
    assert len(seen) == 4


def test_provenance_says_where_and_by_what():
    made = provenance.provenance("importance", model="random:tiny", seed=4)
    assert made["experiment"] == "importance"
    assert made["model"] == "random:tiny"
    assert made["seed"] == 4
    assert made["code_version"] == provenance.code_version()
    assert made["jax_version"] == jax.__version__
    assert made["device"] == jax.devices()[0].device_kind
    assert made["device_count"] == 1
    assert made["python"] == platform.python_version()
    assert made["time"].endswith("+00:00")

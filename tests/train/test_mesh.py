"""Where arrays lie: shapes of the parts, and refusals; the results are in test_devices.py."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.train.mesh import Placement, training_devices


def fake_mesh(data, shard):
    """A mesh of the wanted shape without the devices: only shapes are asked for."""
    return jax.sharding.AbstractMesh((data, shard), ("data", "shard"))


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((6, 64, 256), (None, None, "shard")),
        ((6, 256, 64), (None, "shard", None)),
        ((6, 64, 250), (None, "shard", None)),  # 4 does not divide 250
        ((63, 250), (None, None)),
        ((8,), ("shard",)),
        ((6,), (None,)),
        ((), ()),
    ],
)
def test_parameters_are_cut_along_the_longest_axis_that_divides(shape, spec):
    placement = Placement(fake_mesh(2, 4), min_sharded_size=1)
    assert tuple(placement.sharding(np.zeros(shape)).spec) == spec


def test_small_arrays_are_whole():
    placement = Placement(fake_mesh(1, 4), min_sharded_size=65)
    assert tuple(placement.sharding(np.zeros((8, 8))).spec) == (None, None)
    assert tuple(placement.sharding(np.zeros((8, 12))).spec) == (None, "shard")


def test_one_device_holds_everything():
    placement = Placement.over(jax.devices()[:1])
    made = placement.make(lambda key: {"a": jax.random.normal(key, (4, 3))}, jax.random.key(0))
    np.testing.assert_array_equal(made["a"], jax.random.normal(jax.random.key(0), (4, 3)))
    put = placement.put({"a": np.arange(6.0, dtype=np.float32).reshape(2, 3)})
    np.testing.assert_array_equal(put["a"], np.arange(6).reshape(2, 3))
    rows = placement.rows(np.arange(6).reshape(2, 3), axis=1)
    np.testing.assert_array_equal(rows, np.arange(6).reshape(2, 3))


def test_devices_of_a_run(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: ["a", "b", "c"])
    assert training_devices() == training_devices(3) == ["a", "b", "c"]
    assert training_devices(2) == ["a", "b"]
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    assert training_devices(3) == ["a", "b", "c"]
    with pytest.raises(InputError, match="2 devices; there are 3"):
        training_devices(2)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_devices_exchange_parameters_and_never_rows(run_python, remat):
    """Left alone, the compiler gathers the streams of all rows where a matrix is cut."""
    printed = run_python(Path(__file__).parent / "exchange_script.py", remat, devices=4)
    shapes = [tuple(shape) for shape in json.loads(printed)]
    assert (1, 16, 32) in shapes  # one layer's gate, whole
    assert (61, 16) in shapes  # the embedding
    tokens = {12, 8 * 12}  # of a row, and of all rows
    assert not [shape for shape in shapes if tokens & set(shape)]


def test_refusals():
    with pytest.raises(InputError, match=r"fsdp_shards must divide .* got 2 and 1 devices"):
        Placement.over(jax.devices()[:1], fsdp_shards=2)
    with pytest.raises(InputError, match=r"fsdp_shards must divide .* got 3 and 8 devices"):
        Placement.abstract(8, fsdp_shards=3)
    with pytest.raises(InputError, match=f"9 devices; there are {len(jax.devices())}; start"):
        training_devices(9)
    with pytest.raises(InputError, match="0 devices"):
        training_devices(0)
    with pytest.raises(InputError, match="got 6 rows and 8 devices"):
        Placement(fake_mesh(2, 4)).check_rows(6)


def test_what_is_fetched_is_compiled_once(count_traces):
    placement = Placement.over(jax.devices()[:1])
    found = {"a": jax.device_put(np.arange(6.0, dtype=np.float32).reshape(2, 3))}
    jax.clear_caches()
    with count_traces() as traces:
        for _ in range(2):
            np.testing.assert_array_equal(placement.fetch(found)["a"], [[0, 1, 2], [3, 4, 5]])
    assert traces["_together"] == 1

"""The shared fixtures do what their users rely on."""

import warnings

import jax
import jax.numpy as jnp
import pytest


def test_count_traces_counts_each_new_shape_once(count_traces):
    @jax.jit
    def doubled(x):
        return 2 * x

    small, large = jnp.ones(3), jnp.ones(4)
    with count_traces() as traces:
        doubled(small), doubled(small), doubled(large)
    assert traces["doubled"] == 2
    with count_traces() as traces:
        doubled(small), doubled(large)
    assert "doubled" not in traces


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_run_python_gives_devices_and_output(run_python):
    assert run_python("import jax; print(jax.device_count())", devices=3) == "3\n"


def test_run_python_numbers_its_processes(run_python):
    code = "import os; print(os.environ['PROCESS_INDEX'], os.environ['PROCESS_COUNT'])"
    assert run_python(code, processes=2) == ["0 2\n", "1 2\n"]


def test_run_python_fails_with_the_stderr(run_python):
    with pytest.raises(pytest.fail.Exception, match=r"ended with 1(.|\n)*ZeroDivisionError"):
        run_python("1 / 0")


def test_run_python_treats_warnings_as_errors(run_python):
    result = run_python("import warnings; warnings.warn('mind')", check=False)
    assert result.returncode == 1
    assert "UserWarning: mind" in result.stderr


COMPILE = """
import sys
import jax
from jax.experimental.compilation_cache import compilation_cache
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
compilation_cache.set_cache_dir(sys.argv[1])
print(int(jax.jit(lambda x: 3 * x)(14)))
"""


def test_half_an_entry_of_the_compilation_cache_is_compiled_again(run_python, tmp_path):
    assert run_python(COMPILE, tmp_path / "cache") == "42\n"
    entries = [*(tmp_path / "cache").glob("*-cache")]
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-20])
    result = run_python(COMPILE, tmp_path / "cache", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")


def test_half_an_entry_of_the_compilation_cache_fails_no_test():
    warnings.warn("Error reading persistent compilation cache entry for 'f': cut off", stacklevel=1)

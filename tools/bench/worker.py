"""One contender in a process of its own: its own threads, its own memory.

    python tools/bench/worker.py CONTENDER FOLDER THREADS

Reads the name of a command from each line of standard input, runs it, and answers with a
line of JSON: `value`, `seconds`, `peak_bytes`. The first line is written when it is ready.
"""

import functools
import importlib
import json
import os
import pathlib
import sys
import time

CONTENDERS = {
    "jaxanatomy": ("jax_sweep", "open_sweep", {}),
    "transformers": ("torch_loops", "open_loop", {"layout": "padded"}),
    "transformers_packed": ("torch_loops", "open_loop", {"layout": "packed"}),
    "transformers_cached": ("torch_loops", "open_cached_loop", {"layout": "padded"}),
    "transformers_cached_packed": ("torch_loops", "open_cached_loop", {"layout": "packed"}),
    "transformer_lens": ("lens_loop", "open_loop", {"layout": "padded"}),
    "transformer_lens_packed": ("lens_loop", "open_loop", {"layout": "packed"}),
}
# Of tools/bench_sweep.py --inside.
READERS = {"inside": ("jax_sweep", "open_inside", {})}
# Contenders of tools/bench_recovery.py.
TRAINERS = {
    "recovery": ("jax_recovery", "open_trainer", {}),
    "recovery_torch": ("torch_recovery", "open_loop", {}),
}
# Contenders of tools/bench_train.py.
PRETRAINERS = {
    "train": ("jax_training", "open_trainer", {}),
    "train_torch": ("torch_training", "open_plain", {}),
    "train_torch_careful": ("torch_training", "open_careful", {}),
}
# Contenders of tools/bench_eval.py.
EVALUATORS = {
    "evaluate": ("jax_evaluation", "open_harness", {}),
    "evaluate_hf": ("hf_evaluation", "open_hf", {"batch_size": 1}),
    "evaluate_hf_16": ("hf_evaluation", "open_hf", {"batch_size": 16}),
}
EXPORT = "export"


def main():
    """Serves commands until standard input ends."""
    contender, folder, threads = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    use_cores(threads)
    # Libraries may print; only answers go to the pipe.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    commands = _open(contender, folder, threads)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        start = time.perf_counter()
        value = commands[name](*arguments)
        seconds = time.perf_counter() - start
        answer = {"value": value, "seconds": seconds, "peak_bytes": peak_bytes()}
        answers.write(json.dumps(answer) + "\n")


def use_cores(threads):
    """Keeps this process on as many cores as it may have threads; call before imports."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def peak_bytes():
    """Most memory that this process has had resident."""
    try:
        # Not getrusage, which on Linux also counts the parent before the exec.
        status = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _open(contender, folder, threads):
    # The helpers import each other as `bench.NAME`, from wherever this file is run.
    tools = pathlib.Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(tools), str(tools.parent)]
    if contender == EXPORT:
        makers = {
            "export": "jax_sweep",
            "export_training": "jax_recovery",
            "export_pretraining": "jax_training",
            "export_questions": "jax_evaluation",
        }
        return {
            command: functools.partial(_export, name, folder) for command, name in makers.items()
        }
    # The model lies in the folder: nothing may reach for the network from here on.
    os.environ["HF_HUB_OFFLINE"] = "1"
    known = CONTENDERS | READERS | TRAINERS | PRETRAINERS | EVALUATORS
    name, function, arguments = known[contender]
    if not name.startswith("jax_"):
        import torch

        torch.set_num_threads(threads)
    module = importlib.import_module(f"bench.{name}")
    return getattr(module, function)(folder, **arguments)


def _export(name, folder, *arguments):
    # Imported when asked: what one benchmark needs is not asked of another.
    return importlib.import_module(f"bench.{name}").export(folder, *arguments)


if __name__ == "__main__":
    main()

"""What an accelerator does with this package, in one call and a given time.

    python tools/bench_accelerator.py --minutes 9 --out runs/accelerator

Needs JAX with a driver for the device, and no network. Parts, each in a process of its own, so
that the failure of one is a line of the table and not the end:

| part | what |
| --- | --- |
| product | the measured peak of large products, float32 at the highest precision and bfloat16 |
| training | a step at 360M parameters in bfloat16: tokens a second, MFU |
| cpu_map | the map on this machine's CPU, where the weights have no reference values |
| exactness | the importance map in float32 against independent reference values, or that CPU |
| map_float32, map_bfloat16 | the warm map of forty paragraphs: seconds, share of the product peak |
| growth | `configs/growth_gpu.py`, a leg for each of its arms, as far as the minutes go |

The weights of the map are `--model`, else the default model where it is in the cache, else
random ones in its shape; the table says which. A part that does not fit into what is left is
skipped. `--out` holds `results.json` and `table.txt`; started again with the same `--out`, only
what is missing runs, and growth goes on where it was: within a leg from its last checkpoint in
growth/checkpoints, between legs from the rows alone, so that growth/*.json* is all that a bare
machine needs of the legs before.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

# Seconds that a part is expected to need on an accelerator, most of them to compile, and at most.
# On an H200 the maps took 25 to 50 without JAX's compilation cache and 70 to 140 with it.
PARTS = {
    "product": (25, 60),
    "training": (45, 180),
    "cpu_map": (30, 120),
    "exactness": (60, 180),
    "map_float32": (70, 240),
    "map_bfloat16": (40, 150),
}
TINY_SECONDS = 5
LEAST_LEG = 60  # seconds: a shorter leg of growth would only compile
GRACE = 5  # seconds for a process to end
RESULT = ("final", "main")  # kind and purpose of the rows that end an arm


def main(argv=None):
    """Runs what is missing as far as the time goes; prints the table."""
    options = parse(argv)
    if options.part:
        from bench import accelerator

        found = accelerator.run(options.part, options)
        _write(options.out / f"{options.part}.json", json.dumps(found))
        return 0
    end = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    failed = [part for part in PARTS if "error" in results.get(part, {})]
    missing = [part for part in PARTS if part not in results or "skipped" in results[part]]
    # What failed in an earlier call comes last, or it would take the time of growth in each.
    for part in (*missing, "growth", *failed):
        found = grow(options, end) if part == "growth" else measure(part, options, end)
        if part not in failed or "skipped" not in found:
            results[part] = found
        _write(path, json.dumps(results, indent=1) + "\n")
    text = table(results)
    _write(options.out / "table.txt", text + "\n")
    print(text)
    return 0


def parse(argv):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="of all parts (%(default)s)")
    out = pathlib.Path("runs/accelerator")
    parser.add_argument("--out", type=pathlib.Path, default=out, help="folder (%(default)s)")
    parser.add_argument("--model", default="", help="id of the map's weights, file:PATH")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: a try without a device")
    parser.add_argument("--part", choices=PARTS, help="run this part alone, here")
    options = parser.parse_args(argv)
    if not 0 < options.minutes < float("inf"):
        parser.error("--minutes must be above 0")
    return options


def measure(part, options, end):
    """The numbers of a part; `skipped` or `error` with the reason, where there are none."""
    expected, longest = PARTS[part]
    expected = TINY_SECONDS if options.tiny else expected
    left = end - time.monotonic() - GRACE
    if left < expected:
        return {"skipped": f"needs about {expected} s, {max(left, 0):.0f} s were left"}
    command = [__file__, "--part", part, "--out", str(options.out), "--model", options.model]
    command += ["--tiny"] if options.tiny else []
    extra = {"JAX_PLATFORMS": "cpu"} if part == "cpu_map" else {}
    log = options.out / f"{part}.log"
    say(f"{part}: at most {min(left, longest):.0f} s, {left:.0f} s left")
    status = start([str(each) for each in command], min(left, longest), log, extra)
    found = options.out / f"{part}.json"
    if status == 0:
        return json.loads(found.read_text())
    if status is None:
        return {"error": f"did not end within {min(left, longest):.0f} s; see {log}"}
    lines = log.read_text(errors="replace").strip().splitlines()
    return {"error": f"status {status}: {(lines or ['no message'])[-1][:200]}; see {log}"}


def grow(options, end):
    """Legs of growth in what is left; the last one goes on in the next call."""
    workdir, compiled = options.out / "growth", options.out / "compiled"
    left = end - time.monotonic() - 2 * GRACE
    least = TINY_SECONDS if options.tiny else LEAST_LEG
    if (workdir / "report.html").exists():  # the last that a run writes
        return {"done": True, **_legs(workdir)}
    if left < least:
        reason = f"needs {least} s or more, {max(left, 0):.0f} s were left"
        return {"skipped": reason, **_legs(workdir)}
    command = ["-m", "experiments.depth_growth", "--config=configs/growth_gpu.py"]
    command += [f"--workdir={workdir.resolve()}", *(TINY_GROWTH if options.tiny else ())]
    say(f"growth: at most {left:.0f} s")
    log, began = options.out / "growth.log", time.monotonic()
    # What a leg has compiled the next one finds. With XLA's own caches on, the maps took two to
    # three times as long to compile on an H200.
    extra = {"JAX_COMPILATION_CACHE_DIR": str(compiled.resolve())}
    status = start(command, left, log, extra | {"JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none"})
    if status not in (0, None):
        lines = log.read_text(errors="replace").strip().splitlines()
        error = f"status {status}: {(lines or ['no message'])[-1][:200]}; see {log}"
        return {"error": error, **_legs(workdir)}
    return {"done": status == 0, "seconds": round(time.monotonic() - began), **_legs(workdir)}


TINY_GROWTH = (
    "--config.arms=baseline,lidas",
    "--config.seeds=0",
    "--config.steps=8",
    "--config.batch_size=2",
    "--config.learning_rates=1e-3",
    "--config.model.num_layers=6",
    "--config.model.hidden_size=32",
    "--config.model.num_heads=2",
    "--config.model.num_kv_heads=1",
    "--config.model.ffn_width=64",
    "--config.eval_every=4",
    "--config.train.steps_per_call=4",
    "--config.train.checkpoint_every=4",
    "--config.data.held_out_sequences=2",
    "--config.data.questions=2",
    "--config.depth_sequences=2",
    "--config.save_models=false",
)


def start(command, seconds, log, extra=None):
    """Runs Python with a log file; the status, or None where it had to be ended."""
    import os

    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **(extra or {})}
    with (
        open(log, "w") as file,
        subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=file, stderr=file
        ) as process,
    ):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            return None


def table(results):
    """The figures as text, a line for each part."""
    peaks = results.get("product", {}).get("product", {})
    lines = [f"device: {_device(results)}"]
    for part, found in results.items():
        reason = found.get("error") or found.get("skipped")
        if reason:
            state = "failed" if "error" in found else "skipped"
            lines.append(f"{part:13} {state}: {reason}")
        elif part != "cpu_map":
            memory = found.get("peak_bytes")
            more = f"; peak memory {memory / 2**30:.1f} GiB" if memory else ""
            lines.append(f"{part:13} {_words(part, found, peaks)}{more}")
    return "\n".join(lines)


def _words(part, found, peaks):
    if part == "product":
        return ", ".join(f"{name} {rate / 1e12:,.2f} TFLOP/s" for name, rate in peaks.items())
    if part == "exactness":
        return (
            f"{found['perplexities']} perplexities within {found['worst']:.1e} of "
            f"{found['against']}; {found['weights']}"
        )
    if part == "growth":
        ended, left = found["ended"], found["left"]
        legs = f"{len(ended)} of {len(ended + left)} legs done" if ended + left else "not begun"
        return legs if found["done"] else f"{legs}; left: {', '.join([*left, 'report'])}: run again"
    rate = found["flops_per_second"]
    dtype = "float32" if part == "map_float32" else "bfloat16"
    share = f", {rate / peaks[dtype]:.0%} of the product peak" if dtype in peaks else ""
    if part == "training":
        mfu = found["mfu"]
        utilised = f", MFU {mfu:.0%}" if mfu is not None else ", MFU unknown: no published peak"
        return (
            f"{found['parameters'] / 1e6:,.1f}M parameters, {found['step_seconds']:.3f} s a step, "
            f"{found['tokens_per_second']:,.0f} tokens/s, {rate / 1e12:,.2f} TFLOP/s{share}"
            f"{utilised}"
        )
    moved = found["median_change_of_perplexity"]
    change = f"; perplexities move by {moved:.1e} (median)" if moved is not None else ""
    return (
        f"{found['variants']} variants in {found['map_seconds']:.3f} s, {rate / 1e12:,.2f} "
        f"TFLOP/s{share}{change}; {found['weights']}"
    )


def _device(results):
    return next((each["device"] for name, each in results.items() if "device" in each), "unknown")


def _legs(workdir):
    """The arms of growth that have all their results, and those that are left."""
    config, path = workdir / "config.json", workdir / "rows.jsonl"
    if not config.exists():
        return {"ended": [], "left": []}
    config = json.loads(config.read_text())["config"]
    # A process that was killed may have left part of a line.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [row for row in map(json.loads, lines) if (row["kind"], row["purpose"]) == RESULT]
    seeds = [{row["seed"] for row in rows if row["arm"] == arm} for arm in config["arms"]]
    ended = [
        arm for arm, own in zip(config["arms"], seeds, strict=True) if own == {*config["seeds"]}
    ]
    return {"ended": ended, "left": [arm for arm in config["arms"] if arm not in ended]}


def _write(path, text):
    """Whole or not at all."""
    temporary = path.with_suffix(".writing")
    temporary.write_text(text)
    temporary.replace(path)


def say(text):
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The command line: flags, errors in one line, exit statuses, where experiments are found."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import jaxanatomy
from jaxanatomy import cli, config_files

EXPERIMENT = '''"""Counts layers.

More about it.
"""

import errno
import json
import os
import signal

from jaxanatomy import cli
from jaxanatomy.errors import InputError


def run(config, workdir):
    if config.mode == "refuse":
        raise InputError("expected\\n  a mode; got 'refuse'")
    if config.mode == "fail":
        raise ZeroDivisionError("broken")
    if config.mode == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "runs/rows.jsonl")
    if config.mode == "memory":
        raise MemoryError
    if config.mode == "array":
        raise MemoryError("Unable to allocate 745. GiB")
    if config.mode == "device":
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\\nBuffers: ...")
    if config.mode == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    workdir.mkdir()
    (workdir / "summary.json").write_text(json.dumps(config.to_dict()))


def dry_run(config):
    return f"{config.layers} layers of {config.model}"


if __name__ == "__main__":
    cli.run_experiment("demo", run)
'''

CONFIG = '''"""Counts.

    python -m experiments.demo --workdir=DIR
"""

from ml_collections import config_dict

VARIANTS = ("", "quick")


def get_config(variant=""):
    config = config_dict.ConfigDict()
    config.model = "random:tiny"
    config.layers = 2 if variant == "quick" else 30
    config.mode = "count"
    config.sweep = {"backend": "shard_map"}
    return config
'''


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one experiment, in which the command line works in-process."""
    folder = make_clone(tmp_path / "clone")
    monkeypatch.setattr(config_files, "PACKAGE", folder / "jaxanatomy")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        del sys.modules[name]


def make_clone(folder, inside=False):
    """The package's own top modules, and an experiment beside (or inside, as installed)."""
    (folder / "jaxanatomy").mkdir(parents=True)
    for path in Path(jaxanatomy.__file__).parent.glob("*.py"):
        shutil.copy(path, folder / "jaxanatomy")
    for name, text in (("experiments", EXPERIMENT), ("configs", CONFIG)):
        place = (folder / "jaxanatomy" if inside else folder) / name
        place.mkdir()
        (place / "__init__.py").write_text("")
        (place / "demo.py").write_text(text)
    return folder


def ends_with_error(capsys, *argv):
    """Runs a command that must be refused; returns its one line."""
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def written(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_runs_with_the_shipped_config_its_variants_and_overrides(clone, tmp_path):
    assert cli.main(["demo", f"--workdir={tmp_path / 'a'}"]) == 0
    full = {"model": "random:tiny", "layers": 30, "mode": "count"}
    assert written(tmp_path / "a") == full | {"sweep": {"backend": "shard_map"}}
    quick = ["--config=:quick", "--config.sweep.backend=pmap", "--config.mode", "fast"]
    assert cli.main(["demo", "--workdir", str(tmp_path / "b"), *quick]) == 0
    assert written(tmp_path / "b") == full | {
        "layers": 2,
        "mode": "fast",
        "sweep": {"backend": "pmap"},
    }


def test_a_config_file_is_found_by_path_and_by_its_shipped_name(clone, tmp_path, monkeypatch):
    own = tmp_path / "own.py"
    own.write_text(CONFIG.replace("else 30", "else 12"))
    assert cli.main(["demo", f"--config={own}", f"--workdir={tmp_path / 'a'}"]) == 0
    assert written(tmp_path / "a")["layers"] == 12
    monkeypatch.chdir(tmp_path)  # no configs/ here
    assert cli.main(["demo", "--config=configs/demo.py:quick", f"--workdir={tmp_path / 'b'}"]) == 0
    assert written(tmp_path / "b")["layers"] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["dmo"], "unknown experiment 'dmo'; did you mean 'demo'?"),
        (["demo"], "expected --workdir=DIR, the folder for the results; got none; add it"),
        (["demo", "--workdri=x"], "unknown flag '--workdri'; did you mean '--workdir'?"),
        (["demo", "--dry"], "unknown flag '--dry'; did you mean '--dry_run'?"),
        (["demo", "--config"], "argument --config: expected one argument; --help shows the flags"),
        (["demo", "--config.layer=3"], "unknown config field 'layer'; close: layers"),
        (["demo", "--config.sweep=3"], "config field 'sweep' is a group; set one of: sweep."),
        (["demo", "--config.layers=x"], "config field 'layers' expects an integer; got 'x'"),
        (["demo", "--config.layers"], "config field 'layers' needs a value; type --config.layers="),
        (["demo", "--noconfig.layers"], "config field 'layers' expects an integer; got 'false'"),
        (["demo", "--config=:quik"], "did you mean 'quick'?"),
        (["demo", "--config=absent.py"], "expected a Python config file; got 'absent.py'"),
        (["demo", "--config=configs/absent.py"], "expected a Python config file; got 'configs/abs"),
        (["demo", "--texts=x"], "a field of the config is written --config.texts=VALUE"),
        (["demo", "extra"], "unknown flag 'extra'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(clone, tmp_path, capsys, argv, message):
    before = sorted(tmp_path.rglob("*"))
    extra = [] if len(argv) == 1 else ["--workdir=never"]
    assert message in ends_with_error(capsys, *argv, *extra)
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)) == before
    assert "experiments.demo" not in sys.modules


def test_an_own_config_must_have_the_shipped_fields(clone, tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text(CONFIG.replace("config.mode =", "config.mood ="))
    line = ends_with_error(capsys, "demo", f"--config={own}", "--workdir=never")
    assert line == "unknown config field 'mood'; close: mode"
    own.write_text(CONFIG.replace('    config.mode = "count"\n', ""))
    line = ends_with_error(capsys, "demo", f"--config={own}", "--workdir=never")
    assert line.startswith("missing config field 'mode'")


def test_refusal_by_the_experiment_is_one_line_and_debug_adds_the_traceback(clone, capsys):
    refuse = ["demo", "--workdir=never", "--config.mode=refuse"]
    assert ends_with_error(capsys, *refuse) == "expected a mode; got 'refuse'"
    assert cli.main([*refuse, "--debug"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1] == "error: expected a mode; got 'refuse'"


def test_other_failures_end_with_one_and_a_traceback(clone, capsys):
    assert cli.main(["demo", "--workdir=never", "--config.mode=fail"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "ZeroDivisionError: broken" in error


def test_a_full_disk_is_one_line_that_says_how_to_go_on(clone, capsys):
    assert ends_with_error(capsys, "demo", "--workdir=never", "--config.mode=full") == (
        "expected room on the disk for runs/rows.jsonl; No space left on device; make room and "
        "start again with the same --workdir, and the run goes on"
    )


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        ("memory", "there is too little"),
        ("array", "Unable to allocate 745. GiB"),
        ("device", "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_to_lower(clone, capsys, mode, what):
    assert ends_with_error(capsys, "demo", "--workdir=never", f"--config.mode={mode}") == (
        f"expected room in memory; {what}; ask for less in the config, such as smaller batches or "
        "fewer layers, or take a machine with more"
    )


@pytest.fixture
def interruptible():
    """Python's own handler, which a shell's background job does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_with_130_and_one_line(clone, capsys):
    assert cli.main(["demo", "--workdir=never", "--config.mode=interrupt"]) == 130
    expected = "interrupted; start it again with the same --workdir to continue\n"
    assert capsys.readouterr().err == expected


def test_dry_run_and_list_and_version(clone, capsys):
    assert cli.main(["demo", "--dry_run", "--config.layers=4"]) == 0
    assert capsys.readouterr().out == "4 layers of random:tiny\n"
    assert cli.main(["demo", "--list"]) == 0
    assert capsys.readouterr().out.startswith("Counts layers.\n")
    path = clone / "experiments" / "demo.py"
    path.write_text(path.read_text() + '\n\ndef describe():\n    return "three modes"\n')
    sys.modules.pop("experiments.demo")
    assert cli.main(["demo", "--list"]) == 0
    assert capsys.readouterr().out == "three modes\n"
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxanatomy {cli.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_the_overview_lists_experiments_with_their_first_line(clone, capsys, argv):
    assert cli.main(argv) == 0
    assert "\n  demo  Counts layers.\n" in capsys.readouterr().out


def test_help_of_an_experiment_shows_flags_and_fields_that_can_be_pasted(clone, tmp_path, capsys):
    assert cli.main(["demo", "--help"]) == 0
    out = capsys.readouterr().out
    assert "More about it." in out
    assert "--workdir=DIR" in out
    fields = [
        line.strip() for line in out.splitlines() if line.startswith("  --config.") and "=" in line
    ]
    fields = [field for field in fields if "FIELD" not in field]
    assert "--config.sweep.backend=shard_map" in fields
    assert cli.main(["demo", f"--workdir={tmp_path / 'a'}", *fields]) == 0
    assert written(tmp_path / "a")["layers"] == 30


def start(folder, *command, cwd=None, path=None):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd or folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_reader_that_stops_reading_is_no_failure(tmp_path):
    make_clone(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.demo", "--list"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_experiment_is_its_own_main_in_a_clone(tmp_path):
    clone = make_clone(tmp_path / "clone")
    run = ("-m", "experiments.demo")
    done = start(clone, *run, "--config=configs/demo.py:quick", "--workdir=out")
    assert (done.returncode, done.stderr) == (0, "")
    assert written(clone / "out")["layers"] == 2
    assert start(clone, *run, "--list").stdout.startswith("Counts layers.\n")
    assert start(clone, *run, "--dry_run").stdout == "30 layers of random:tiny\n"
    bad = start(clone, *run, "--config.layer=2")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "error: unknown config field 'layer'; close: layers\n"
    assert start(clone, *run, "--config.mode=fail", "--workdir=never").returncode == 1


@pytest.mark.parametrize("inside", [False, True], ids=["clone", "installed"])
def test_the_command_works_from_any_folder(tmp_path, inside):
    folder = make_clone(tmp_path / "somewhere", inside=inside)
    (tmp_path / "elsewhere").mkdir()
    command = ("-c", "import sys; from jaxanatomy.cli import main; sys.exit(main())", "demo")
    flags = ("--config=configs/demo.py:quick", "--workdir=out")
    done = start(folder, *command, *flags, cwd=tmp_path / "elsewhere", path=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert written(tmp_path / "elsewhere" / "out")["layers"] == 2


@pytest.mark.parametrize("argv", [["--help"], ["demo", "--help"], ["demo", "--config.layer=3"]])
def test_help_and_config_errors_come_before_jax(tmp_path, argv):
    clone = make_clone(tmp_path / "clone")
    code = f"import sys; from jaxanatomy.cli import main; main({argv}); print(*sys.modules)"
    loaded = start(clone, "-c", code, path=clone).stdout.split()
    assert "ml_collections" in loaded
    assert "jax" not in loaded

"""The command line: `jaxanatomy NAME [flags]`, or `python -m experiments.NAME [flags]`.

`jaxanatomy report RUN ...` draws the page of runs that are there.

An experiment is a module with `run(config, workdir)`, and if it likes
`dry_run(config) -> str` and `describe() -> str` for `--dry_run` and `--list`. Nothing
heavy is imported before the flags and the config are known to be good, and an experiment's
module only then; `python -m experiments.NAME` imports it first.

Exit status: 0 done; 2 bad input, a full disk or memory, one line on stderr; 130 interrupted, by
Ctrl-C or SIGTERM; 1 anything else, a lost peer of a run of several processes among it.
"""

import argparse
import ast
import contextlib
import difflib
import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from jaxanatomy import config_files, host, interrupts, peers, progress
from jaxanatomy.errors import InputError, choose
from jaxanatomy.version import __version__

_FLAGS = ("config", "workdir", "dry_run", "list", "debug", "help")
_REPORT_USAGE = """usage: jaxanatomy report RUN [RUN ...] [--workdir=DIR]

The page of a run, drawn again into its folder, or one page of several runs of one experiment
(two models, two texts), on which panels and tables name the run that they are of.

flags:
  --workdir=DIR  folder for the page and its figures; of one run by default its own"""
_NO_MEMORY = "RESOURCE_EXHAUSTED"  # as XLA's errors begin
_INTERRUPTED = "interrupted; start it again with the same --workdir to continue"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script: the first argument names the experiment.

    Args:
      argv: Arguments after the program's name; those of the process by default.

    Returns:
      The exit status.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"jaxanatomy {__version__}")
        return 0

    def command() -> None:
        if argv[0] == "report":
            return _report(argv[1:])
        name = choose("experiment", argv[0], experiments())
        _execute(name, argv[1:], lambda: _import_experiment(name))

    return _guarded(command, argv)


def run_experiment(name: str, run: Callable[[Any, Path], Any]) -> NoReturn:
    """The main of an experiment's own module; ends the process with the exit status.

    if __name__ == "__main__":
        cli.run_experiment("importance", run)

    Args:
      name: The experiment: its default config is `configs/NAME.py`.
      run: `run(config, workdir)`; `dry_run` and `describe` are found in its module.
    """
    interrupts.listen()
    argv, module = sys.argv[1:], sys.modules[run.__module__]
    sys.exit(_guarded(lambda: _execute(name, argv, lambda: module), argv))


def experiments() -> dict[str, str]:
    """The experiments that are here, each with the first line of its docstring."""
    paths = sorted(config_files.folder("experiments").glob("[a-z]*.py"))
    return {path.stem: _docstring(path).partition("\n")[0] for path in paths}


def format_sections(sections: Mapping[str, Mapping[str, str]]) -> str:
    """What an experiment's `describe` returns: names under titles, each with a line of help."""
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"  {name:28} {line}".rstrip() for name, line in lines.items())])
        for title, lines in sections.items()
    )


def _guarded(command: Callable[[], None], argv: Sequence[str]) -> int:
    """Runs a command, and ends the process where an ordinary end would wait for others."""
    writes = any(argument.startswith("--workdir") for argument in argv)
    line = _INTERRUPTED if writes else "interrupted; nothing was written"
    interrupts.say(line)
    status = _status(command, line, debug="--debug" in argv)
    if peers.several():
        peers.leave(status)
    else:
        interrupts.done()
    return status


def _status(command: Callable[[], None], interrupted: str, debug: bool) -> int:
    """Runs a command and turns what it raises into one line and an exit status."""
    try:
        with _told_when_full(), progress.logging_to_stderr():
            command()
            sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except InputError as error:
        if debug:
            traceback.print_exc()
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # called from Python: a program of our own is ended by `interrupts`
        print(interrupted, file=sys.stderr)
        return interrupts.STATUS
    except Exception as error:
        lost, problem = peers.is_loss(error), host.unusable_platform()
        if debug or not (lost or problem):
            traceback.print_exc()
            print(peers.foreign_messages(), end="", file=sys.stderr)
        if lost:
            print(peers.LINE, file=sys.stderr)
        elif problem:
            print("error:", problem, file=sys.stderr)
        return 2 if problem and not lost else 1


@contextlib.contextmanager
def _told_when_full() -> Iterator[None]:
    """A full disk or memory, wherever it is met, is for the user to mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" for {error.filename}" if error.filename else ""
        raise InputError(
            f"expected room on the disk{where}; {error.strerror}; make room and start again with "
            "the same --workdir, and the run goes on"
        ) from error
    except (MemoryError, RuntimeError) as error:  # of Python and NumPy; of a device
        what = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and not what.startswith(_NO_MEMORY):
            raise
        raise InputError(
            f"expected room in memory; {what or 'there is too little'}; ask for less in the "
            "config, such as smaller batches or fewer layers, or take a machine with more"
        ) from error


def _execute(name: str, argv: Sequence[str], import_experiment: Callable[[], ModuleType]) -> None:
    """One command for one experiment: help, list, dry run or run."""
    flags, overrides = _parse_flags(argv)
    if flags.help:
        print(_usage(name))
        return
    if flags.list:
        module = import_experiment()
        describe = getattr(module, "describe", None)
        print(describe() if describe else module.__doc__ or name)
        return
    config = _load_config(name, flags.config)
    config_files.apply_overrides(config, overrides)
    if flags.dry_run:
        dry_run = getattr(import_experiment(), "dry_run", None)
        print(dry_run(config) if dry_run else _format_fields(config))
        return
    if not flags.workdir:
        raise InputError("expected --workdir=DIR, the folder for the results; got none; add it")
    host.keep_freed_memory()
    import_experiment().run(config, Path(flags.workdir))


def _report(argv: Sequence[str]) -> None:
    """The page of runs that are there; of several where `--workdir` says."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--workdir")
    for flag in ("--debug", "--help", "-h"):
        parser.add_argument(flag, action="store_true")
    flags = parser.parse_args(argv)
    if flags.help or flags.h or not flags.runs:
        print(_REPORT_USAGE)
        return
    from jaxanatomy.report import write_report

    print(f"report: {write_report(*flags.runs, to=flags.workdir)}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help shows the flags")


def _parse_flags(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str | None]]]:
    """Splits the arguments into flags and overrides of config fields."""
    overrides, others = [], []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith(("--config.", "--noconfig.")):
            others.append(argument)
            continue
        left, equals, text = argument.partition("=")
        name = left.partition(".")[2]
        if left.startswith("--no"):
            if equals:
                raise InputError(f"expected {left} without a value; got {argument!r}")
            text = "false"
        elif not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else None
        overrides.append((name, text))
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in _FLAGS:
        takes_value = flag in ("config", "workdir")
        parser.add_argument(f"--{flag}", action="store" if takes_value else "store_true")
    parser.add_argument("-h", action="store_true", dest="help")
    flags, unknown = parser.parse_known_args(others)
    if unknown:
        raise _unknown_flag(unknown[0].partition("=")[0])
    return flags, overrides


def _unknown_flag(name: str) -> InputError:
    """What to type instead: a flag of a similar name, else a field of the config."""
    known = [f"--{flag}" for flag in _FLAGS]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    field = name.lstrip("-") or "FIELD"
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return InputError(
        f"unknown flag {name!r}; {hint} (a field of the config is written --config.{field}=VALUE)"
    )


def _load_config(name: str, argument: str | None) -> Any:
    """The config that `--config` names: `FILE[:variant]`, `:variant`, or the shipped one."""
    text, _, variant = (argument or "").partition(":")
    shipped = config_files.folder("configs") / f"{name}.py"
    if not text:
        return config_files.load(shipped, variant)
    path = Path(text)
    if not path.exists() and path.parent.name == "configs":  # an installed copy, or elsewhere
        path = config_files.folder("configs") / path.name
        path = path if path.exists() else Path(text)
    config = config_files.load(path, variant)
    if shipped.exists():
        _require_config_of(name, config, path)
    return config


def _require_config_of(name: str, config: Any, path: Path) -> None:
    """Refuses a config that has not the fields of an experiment's own."""
    folder = config_files.folder("configs")
    try:
        config_files.require_same_fields(config, config_files.load(folder / f"{name}.py"))
    except InputError as error:
        given = config_files.fields(config).keys()
        for other in experiments():
            shipped = folder / f"{other}.py"
            if shipped.exists() and config_files.fields(config_files.load(shipped)).keys() == given:
                raise InputError(
                    f"{path} is a config of {other}, not of {name}; run {other} with it, or give "
                    f"--config=configs/{name}.py"
                ) from error
        raise


def _import_experiment(name: str) -> ModuleType:
    folder = config_files.folder("experiments")
    if folder.parent == config_files.PACKAGE:
        return importlib.import_module(f"jaxanatomy.experiments.{name}")
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    return importlib.import_module(f"experiments.{name}")


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_bytes())) or ""


def _overview() -> str:
    known = experiments()
    width = max(map(len, known), default=0)
    lines = [
        "usage: jaxanatomy NAME --workdir=DIR [--config=FILE[:variant]] [--config.FIELD=VALUE ...]",
        "       jaxanatomy NAME --help | --list | --dry_run",
        "       jaxanatomy report RUN [RUN ...] [--workdir=DIR]",
        "",
        "experiments:",
        *(f"  {name:{width}}  {line}" for name, line in known.items()),
    ]
    return "\n".join(lines)


def _usage(name: str) -> str:
    shipped = config_files.folder("configs") / f"{name}.py"
    lines = [
        f"usage: jaxanatomy {name} --workdir=DIR [flags]",
        "",
        _docstring(config_files.folder("experiments") / f"{name}.py"),
        "",
        "flags:",
        f"  --config=FILE[:variant]    config file, by default configs/{name}.py, and one of its",
        "                             variants",
        "  --config.FIELD=VALUE       changes a field of the config",
        "  --workdir=DIR              folder for the results; a stopped run continues in its own",
        "  --dry_run                  print what would be done and what it would cost",
        "  --list                     print what can be chosen",
        "  --debug                    print a traceback when the input is bad",
    ]
    if shipped.exists():
        lines += ["", "fields of the config:", _format_fields(config_files.load(shipped))]
        lines += ["", f"configs/{name}.py:", _docstring(shipped)]
    return "\n".join(lines)


def _format_fields(config: Any) -> str:
    known = config_files.fields(config)
    lines = [f"  --config.{name}={_format_value(value)}" for name, value in known.items()]
    return "\n".join(lines)


def _format_value(value: Any) -> str:
    """As `--config.FIELD=` takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, default=str)

"""What a result depends on: hashes of rows, the version of the code, the machine."""

import ast
import datetime
import functools
import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxanatomy.plain_json import to_json
from jaxanatomy.version import __version__

# Pages, verdicts and the command line decide no row: a changed figure must not make hours of
# measurement stale. What only they import does not count either.
_NOT_MEASURING = ("report", "claims", "cli", "config_fields", "config_files", "experiment", "api")
_PACKAGE = Path(__file__).parent


def row_hash(**parts: Any) -> str:
    """The hash of everything that determines a row: 16 hexadecimal digits.

    The same parts give the same hash in every process, in whatever order they come;
    tuples equal lists and NumPy numbers equal plain ones.

    Args:
      **parts: Plain values, for example weights="ab12..", data="..", variant="zero/layer/3",
        code=code_version("importance"), dtype="float32".
    """
    text = to_json(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_version(experiment: str = "") -> str:
    """The package's version, "+", and a hash of the sources that an experiment imports.

    A change of what it does not import strands none of its unfinished runs. The experiment's own
    file is left out: it says which rows to measure, and each row's hash says what it is.

    Args:
      experiment: Its name; empty, or one that is no file, for all sources that measure.
    """
    found = (_find(f"{place}experiments.{experiment}") for place in ("", "jaxanatomy."))
    path = next(filter(None, found), None) if experiment else None
    files = _measuring(_PACKAGE.rglob("*.py"), _PACKAGE) if path is None else import_closure(path)
    return f"{__version__}+{_digest(files, _PACKAGE)[:12]}"


def import_closure(path: Path, package: Path = _PACKAGE) -> set[Path]:
    """The sources of the package that a file imports, wherever the import stands, and theirs.

    A package whose `__init__` imports by name when it is first used stands for all of its files.
    Files that a source reads from its own folder (tables, texts) count as the source does.

    Args:
      path: The file; it is not among what is returned.
      package: The folder of `jaxanatomy`.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        text = (file := waiting.pop()).read_text(encoding="utf-8")
        names = _imports(text) if file.suffix == ".py" else ()
        new = {each for name in names for each in _sources(name, package)}
        if file.name == "__init__.py" and "import_module" in text and file.parent != package:
            new |= set(file.parent.glob("*.py"))
        if file.suffix == ".py" and file != path and file.parent != package:
            new |= {each for each in file.parent.iterdir() if each.suffix in (".json", ".txt")}
        new = _measuring(new, package) - found
        found |= new
        waiting += [each for each in new if each.suffix == ".py"]
    return found


def _find(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


@functools.cache
def _imports(text: str) -> frozenset[str]:
    """The modules of the package that a source names, and what may be modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.startswith("jaxanatomy."))


def _sources(name: str, package: Path) -> Iterator[Path]:
    """The files that importing a module runs: its own, and the `__init__` of its packages."""
    top, *parts = name.split(".")
    if top != "jaxanatomy" or not parts:
        return
    place = package
    for part in parts:
        place = place / part
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.exists():
                yield path


def _measuring(files: Iterable[Path], package: Path) -> set[Path]:
    """Those that may decide a row."""
    tops = {path: path.relative_to(package).parts[0].removesuffix(".py") for path in files}
    left_out = (*_NOT_MEASURING, "experiments", "configs")
    return {path for path, top in tops.items() if top not in left_out}


def _digest(files: Iterable[Path], package: Path) -> str:
    """The sha256 over names and contents."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.relative_to(package).parts):
        content = path.read_bytes()
        name = path.relative_to(package).as_posix()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def provenance(experiment: str, **fields: Any) -> dict[str, Any]:
    """A record of where and by what a run was made, for `config.json`.

    Starts JAX.

    Args:
      experiment: The name of the experiment; readers of the run look it up by that name.
      **fields: More of it: model="pypi:..", weights_sha256="..", data_sha256="..", seed=0.
    """
    import jax

    devices = jax.devices()
    return {
        "experiment": experiment,
        **fields,
        "code_version": code_version(experiment),
        "jax_version": importlib.metadata.version("jax"),
        "device": devices[0].device_kind,
        "device_count": len(devices),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }

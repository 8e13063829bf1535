"""What a result depends on: hashes of rows, the version of the code, the machine."""

import datetime
import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from jaxanatomy.plain_json import to_json
from jaxanatomy.version import __version__

# Figures, the command line, experiments and configs do not decide what a measurement
# gives for a hash, and the last two lie outside the package in a clone: a changed
# figure must not make hours of rows stale.
_NOT_MEASURING = (
    *("report", "experiments", "configs"),
    *("cli.py", "config_fields.py", "config_files.py"),
)


def row_hash(**parts: Any) -> str:
    """The hash of everything that determines a row: 16 hexadecimal digits.

    The same parts give the same hash in every process, in whatever order they come;
    tuples equal lists and NumPy numbers equal plain ones.

    Args:
      **parts: Plain values, for example weights="ab12..", data="..", variant="zero/layer/3",
        code=code_version(), dtype="float32".
    """
    text = to_json(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """The package's version, "+", and a hash of its own sources that measure."""
    return f"{__version__}+{_sources_digest(Path(__file__).parent)[:12]}"


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
        "code_version": code_version(),
        "jax_version": importlib.metadata.version("jax"),
        "device": devices[0].device_kind,
        "device_count": len(devices),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _sources_digest(folder: Path) -> str:
    """The sha256 over names and contents of the folder's sources that measure."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).parts):
        name = path.relative_to(folder)
        if name.parts[0] in _NOT_MEASURING:
            continue
        content = path.read_bytes()
        digest.update(f"{name.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()

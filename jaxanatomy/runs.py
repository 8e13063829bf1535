"""The contract of a run: one folder, one config, rows that survive a kill.

    with Run.open(workdir, config, provenance("importance", model=...)) as run:
        for chunk in chunks:
            todo = [unit for unit in chunk if not run.done(unit.hash)]
            ...
            run.append(rows)                     # each a dict with "hash"
        run.write_summary({...})

    record = read_run(workdir)
    record.select(scope="layer").column("ppl")

| in the folder | what |
| --- | --- |
| config.json | {"config": resolved config, "provenance": what made it, "checksum"} |
| rows.jsonl | one JSON object per measured unit, with its `hash` and a `checksum` |
| rows.K.jsonl | the same from process K > 0, until `merge_parts` |
| summary.json, arrays.npz, figures/ | what the experiment writes at its end |

Everything but the rows is replaced as a whole; rows are appended and synced. A checksum is over
the rest of its object; readers here compare it and leave it out.
"""

import contextlib
import fnmatch
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy.checksums import CHECKSUM, arrays_checksum, seal, sealed_line, unseal
from jaxanatomy.errors import InputError
from jaxanatomy.locks import exclusive, unwritable
from jaxanatomy.plain_json import parse_json, to_json
from jaxanatomy.progress import Progress, format_duration
from jaxanatomy.provenance import code_version, provenance, row_hash
from jaxanatomy.records import (
    ROW_COUNT,
    RunRecord,
    is_run_config,
    known_rows,
    read_config,
    read_run,
)
from jaxanatomy.storage import (
    TEMPORARY_PREFIX,
    append_bytes,
    drop_torn_line,
    replacing,
)

__all__ = [
    "Progress",
    "Run",
    "RunRecord",
    "code_version",
    "format_duration",
    "provenance",
    "read_run",
    "row_hash",
]

# Provenance that may differ when a run goes on: it says where, not what.
_CIRCUMSTANCES = ("jax_version", "device", "device_count", "python", "platform", "time")


class Run:
    """A run that is being written; made by `Run.open`."""

    def __init__(self, folder: Path, process_index: int):
        self._folder = folder
        self._process_index = process_index
        self._rows_path = folder / _rows_name(process_index)
        self._rows: list[dict[str, Any]] = []
        self._hashes: set[str] = set()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        workdir: str | os.PathLike,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        ignore: Sequence[str] = (),
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator["Run"]:
        """Opens a folder for a run, new or to be continued, and locks it.

        Args:
          workdir: The folder; it is made if it is absent.
          config: The resolved config, JSON-ready, may be nested.
          provenance: See `jaxanatomy.runs.provenance`. Its hashes and code version must
            be those that the folder's rows were measured with. Where it takes long to
            find out, a function that gives it: called when folder and config are good.
          ignore: Fields of the config that decide no result and may differ when the run
            goes on, with dots: "distributed", "sweep.backend".
          process_index: Which of the processes this is. Process 0 holds the lock and the
            config; the others write their rows beside its own.
          process_count: How many processes write to this folder.

        Raises:
          InputError: The folder cannot be written, is in use, is occupied by something
            else or by a run of another config, or holds a corrupt row. If the block raises
            one before a new run has rows, config.json is taken away again.
        """
        if not 0 <= process_index < process_count:
            raise ValueError(f"process_index {process_index} of {process_count} processes")
        run = cls(_make_folder(Path(workdir)), process_index)
        if process_index == 0:
            _refuse_foreign(run._folder)
        with exclusive(run._folder, process_index):
            is_new = process_index == 0 and not run.path("config.json").exists()
            if process_index == 0:
                _remove_temporaries(run._folder)
            if process_index == 0 or run.path("config.json").exists():
                run._write_or_compare_config(config, provenance, ignore)
            drop_torn_line(run._rows_path)
            run._remember(known_rows(run._folder))
            try:
                yield run
            except InputError:
                if is_new and not known_rows(run._folder):
                    # The command, once corrected, may go into the same folder.
                    run.path("config.json").unlink(missing_ok=True)
                raise

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self._folder

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that are known so far, from earlier starts too."""
        return list(self._rows)

    def done(self, hash: str) -> bool:
        """Whether the row with this hash has been measured."""
        return hash in self._hashes

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes rows in one system call and syncs; a hash that is there is skipped.

        Args:
          rows: Each with `hash`; values as JSON has them, NumPy and JAX values are
            converted.

        Raises:
          ValueError: A row without a hash, or with a number that is not finite.
        """
        lines = {}
        for row in rows:
            if not isinstance(row.get("hash"), str):
                raise ValueError(f"expected a 'hash' (text) in every row; got {dict(row)!r}")
            if row["hash"] not in self._hashes:
                lines.setdefault(row["hash"], sealed_line(row))
        if lines:
            append_bytes(self._rows_path, "".join(lines.values()).encode())
            self._remember(unseal(parse_json(line)) for line in lines.values())

    def merge_parts(self, order: Sequence[str] = ()) -> None:
        """Moves the rows of the other processes into `rows.jsonl`; process 0 only.

        Call it when the others have appended their last row.

        Args:
          order: Hashes of the rows to take, in the order that they are to have; all if empty.

        Raises:
          InputError: A row of the order is in no file: a process has not done its share, or
            has written it elsewhere. What was found is kept.
        """
        if self._process_index:
            raise ValueError("merge_parts is for process 0")
        place = {hash: index for index, hash in enumerate(order)}
        present = {row["hash"] for row in known_rows(self._folder, parts=False)}
        rows = [
            row
            for row in known_rows(self._folder)
            if row["hash"] not in present and (not order or row["hash"] in place)
        ]
        rows.sort(key=lambda row: place.get(row["hash"], len(place)))
        if rows:
            append_bytes(self._rows_path, "".join(map(sealed_line, rows)).encode())
        for part in self._folder.glob("rows.*.jsonl"):
            part.unlink()
        self._rows, self._hashes = [], set()
        self._remember(known_rows(self._folder))
        missing = sum(not self.done(hash) for hash in place)
        if missing:
            raise InputError(
                f"expected {len(place)} rows of all processes in {self._folder}; {missing} are "
                "missing; start all processes again with one workdir that all of them see"
            )

    def replace(
        self,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any],
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        """Writes config and rows in the place of those that are there.

        For runs that measure nothing and are made anew each time.
        """
        self._write_config(config, provenance)
        lines = [sealed_line(row) for row in rows]
        self.write_text("rows.jsonl", "".join(lines))
        self._rows, self._hashes = [], set()
        self._remember(unseal(parse_json(line)) for line in lines)

    def path(self, name: str) -> Path:
        """The path of a file of the run; write it through `replacing`."""
        return self._folder / name

    def replacing(self, path: str | os.PathLike) -> contextlib.AbstractContextManager[Path]:
        """A temporary path that replaces `path` (or a name in the folder) when all went well.

        with run.replacing("report.html") as path:
            path.write_text(page)
        """
        return replacing(self._folder / path)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, such as `report.html`, whole or not at all."""
        with replacing(self.path(name)) as path:
            path.write_text(text, encoding="utf-8")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes `summary.json`, the figures that the experiment is about.

        Raises:
          ValueError: A number is not finite.
        """
        sealed = seal({**summary, ROW_COUNT: len(self._rows)})
        self.write_text("summary.json", to_json(sealed, indent=1) + "\n")

    def write_arrays(self, **arrays: Any) -> None:
        """Writes `arrays.npz`, with these arrays and no others."""
        plain = {name: np.asarray(array) for name, array in arrays.items()}
        for name, array in plain.items():
            if array.dtype.hasobject:
                raise ValueError(f"expected numbers or text in array {name!r}; got objects")
        with replacing(self.path("arrays.npz")) as path:
            np.savez(path, **plain, **{CHECKSUM: np.array(arrays_checksum(plain))})

    def _remember(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            if row["hash"] not in self._hashes:
                self._hashes.add(row["hash"])
                self._rows.append(row)

    def _write_or_compare_config(
        self,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        ignore: Sequence[str],
    ) -> None:
        old = read_config(self._folder) if self.path("config.json").exists() else None
        config = _as_read("config", config)
        if old is not None:
            _refuse_difference(self._folder, old["config"], config, "config.", ignore)
        provenance = _as_read("provenance", provenance() if callable(provenance) else provenance)
        if old is None:
            self._write_config(config, provenance)
        else:
            _refuse_difference(
                self._folder, old["provenance"], provenance, "provenance.", _CIRCUMSTANCES
            )

    def _write_config(self, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        sealed = seal({"config": config, "provenance": provenance})
        self.write_text("config.json", to_json(sealed, indent=1) + "\n")


def _rows_name(process_index: int) -> str:
    return f"rows.{process_index}.jsonl" if process_index else "rows.jsonl"


def _as_read(what: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as a reader will see them, for instance with lists for tuples.

    Raises:
      InputError: They cannot be written so that everybody reads the same.
    """
    try:
        return unseal(seal(fields))
    except ValueError as error:
        raise InputError(
            f"expected a {what} of finite numbers and plain text; {error}; change it, or rename "
            "the file that it names"
        ) from error


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Refuses a folder with something in it that is no run; hidden files do not count."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if all(fnmatch.fnmatch(name, "rows*.jsonl") for name in names):
        return  # empty, or another process was quicker than the one that writes the config
    config = folder / "config.json"
    if config.exists() and is_run_config(config):
        return
    raise InputError(
        f"expected an empty folder or one of a run; {folder} is occupied "
        f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}); choose another workdir"
    )


def _remove_temporaries(folder: Path) -> None:
    """Removes what a killed run was writing; the lock says that nobody writes now."""
    for place in (folder, folder / "figures", folder / "models"):
        for path in place.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)
        for path in place.glob(".*.part-*"):  # of a model's folder
            shutil.rmtree(path, ignore_errors=True)


def _refuse_difference(
    folder: Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    prefix: str,
    ignore: Sequence[str],
) -> None:
    """Compares two configs field by field, apart from the ignored fields and their insides."""
    old, new = _flat(old), _flat(new)
    for name in [*new, *(name for name in old if name not in new)]:
        if any(name == other or name.startswith(f"{other}.") for other in ignore):
            continue
        if name not in old or name not in new or old[name] != new[name]:
            was = repr(old[name]) if name in old else "absent"
            now = repr(new[name]) if name in new else "absent"
            raise InputError(
                f"expected to continue the run in {folder}; its {prefix}{name} is {was}, "
                f"now it is {now}; choose another workdir"
            )


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields under names with dots."""
    flat = {}
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat

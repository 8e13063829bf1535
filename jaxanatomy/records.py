"""What a run has left in its folder, read back as a table."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy.errors import InputError, choose
from jaxanatomy.storage import read_json_object, read_rows


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The files of a run. Iterates over its rows; `pandas.DataFrame(record.rows)` works.

    Attributes:
      folder: Where it was read from.
      rows: One dict for each measured unit, in the order of measurement.
      config: The resolved config.
      provenance: What made it: hashes, versions, device.
      summary: `summary.json`; empty while the run is unfinished.
    """

    folder: Path
    rows: list[dict[str, Any]]
    config: dict[str, Any]
    provenance: dict[str, Any]
    summary: dict[str, Any]

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """`arrays.npz`, read at the first use; empty if the run has none."""
        path = self.folder / "arrays.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields that a row has, in the order of their first use."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.rows)))

    def column(self, name: str) -> list[Any]:
        """One field of every row; None where a row lacks it.

        Raises:
          InputError: There are rows, and none has the field.
        """
        self._require_fields(name)
        return [row.get(name) for row in self.rows]

    def select(self, **values: Any) -> "RunRecord":
        """The rows whose fields have these values; of a list, tuple or set, any of them.

        record.select(scope="layer", intervention=["zero", "neighbour_mean"])

        Raises:
          InputError: There are rows, and none has a field of that name.
        """
        self._require_fields(*values)
        wanted = {
            name: list(value) if isinstance(value, list | tuple | set | range) else [value]
            for name, value in values.items()
        }
        rows = [
            row
            for row in self.rows
            if all(name in row and row[name] in options for name, options in wanted.items())
        ]
        return dataclasses.replace(self, rows=rows)

    def to_columns(self) -> dict[str, list[Any]]:
        """Every field as a list over the rows; None where a row lacks it."""
        return {name: self.column(name) for name in self.fields}

    def _require_fields(self, *names: str) -> None:
        if self.rows:
            for name in names:
                choose("field", name, self.fields)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def read_run(folder: str | os.PathLike) -> RunRecord:
    """Reads the folder of a run, finished or not.

    Raises:
      InputError: There is no run in the folder, or one of its files is corrupt.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        what = "it has no config.json" if folder.is_dir() else "there is no such folder"
        raise InputError(f"expected the folder of a run; got {folder}; {what}")
    made = read_json_object(folder / "config.json")
    if not made.keys() >= {"config", "provenance"}:
        raise InputError(f"expected the folder of a run; got {folder}; its config.json is no run's")
    summary = folder / "summary.json"
    return RunRecord(
        folder=folder,
        rows=known_rows(folder),
        config=made["config"],
        provenance=made["provenance"],
        summary=read_json_object(summary) if summary.exists() else {},
    )


def known_rows(folder: Path, parts: bool = True) -> list[dict[str, Any]]:
    """The rows of a folder, each hash once.

    Args:
      folder: The folder of a run.
      parts: Whether to add the rows that other processes have written beside.

    Raises:
      InputError: A corrupt line, apart from a torn last one.
    """
    paths = [folder / "rows.jsonl"]
    if parts:
        paths += sorted(folder.glob("rows.*.jsonl"), key=lambda path: (len(path.name), path.name))
    rows = {}
    for row in itertools.chain.from_iterable(map(read_rows, paths)):
        rows.setdefault(row["hash"], row)
    return list(rows.values())

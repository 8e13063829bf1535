"""What a run has left in its folder, read back as a table."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxanatomy.checksums import CHECKSUM, arrays_checksum
from jaxanatomy.errors import InputError, choose
from jaxanatomy.provenance import code_version
from jaxanatomy.storage import read_file, read_json_object, read_rows, read_sealed

Row = dict[str, Any]

# In `summary.json`: how many rows it was made from.
ROW_COUNT = "row_count"

_REMEDY = (
    "restore it, or move rows.jsonl to an empty folder and start the run there with the same "
    "command: its rows are kept"
)


@contextlib.contextmanager
def as_written_now(records: Iterable["RunRecord"]) -> Iterator[None]:
    """Where a field is missing from a run that other code has written, that is what is told.

    Raises:
      InputError: Instead of a KeyError that comes from within.
    """
    try:
        yield
    except KeyError as error:
        for record in records:
            written = record.provenance.get("code_version")
            if record.experiment and written != code_version(record.experiment):
                raise InputError(
                    f"{record.folder} must have what this version writes; another one wrote it, "
                    f"without {error}; run {record.experiment} again in another folder"
                ) from error
        raise


@dataclasses.dataclass(frozen=True, eq=False)
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

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> "RunRecord":
        """Rows that are in no folder, such as those of `ja.sweep`; a data frame's NaN is null."""
        if hasattr(rows, "to_dict"):
            rows = [
                {name: None if value != value else value for name, value in row.items()}
                for row in rows.to_dict("records")
            ]
        return cls(Path(), [dict(row) for row in rows], {}, {}, {})

    def __repr__(self) -> str:
        state = "finished" if self.summary else "unfinished"
        made = f"{self.experiment or 'no experiment'}, {len(self.rows):,} rows"
        return f"RunRecord({str(self.folder)!r}, {made}, {state})"

    @property
    def experiment(self) -> str:
        """The name of the experiment that the run is of; empty if the run names none."""
        return str(self.provenance.get("experiment") or "")

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """`arrays.npz`, read at the first use; empty if the run has none."""
        return read_arrays(self.folder / "arrays.npz")

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
    made, rows = read_config(folder), known_rows(folder)
    return RunRecord(
        folder=folder,
        rows=rows,
        config=made["config"],
        provenance=made["provenance"],
        summary=_read_summary(folder, len(rows)),
    )


def is_run_config(path: Path) -> bool:
    """Whether a `config.json` is that of a run; other tools write files of that name, too.

    Raises:
      InputError: It is no JSON object.
    """
    found = read_json_object(path, _REMEDY)
    return all(isinstance(found.get(name), dict) for name in ("config", "provenance"))


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a run: its `config` and its `provenance`.

    Raises:
      InputError: It is damaged, or no run's.
    """
    path = folder / "config.json"
    if not is_run_config(path):
        raise InputError(
            f"expected the folder of a run; got {folder}; its config.json is no run's; choose "
            "another folder"
        )
    return read_sealed(path, _REMEDY)


def _read_summary(folder: Path, rows: int) -> dict[str, Any]:
    """`summary.json`; empty if there is none.

    Raises:
      InputError: It is damaged, or was made from more rows than there are.
    """
    path = folder / "summary.json"
    if not path.exists():
        return {}
    summary = read_sealed(path, "delete it and start the run again: it is made from the rows")
    made_from = summary.pop(ROW_COUNT, None)
    if not isinstance(made_from, int) or made_from > rows:
        raise InputError(
            f"expected the {made_from} rows that summary.json was made from in {folder}; there are "
            f"{rows}; start the run again with the same command: it measures what is missing"
        )
    return summary


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, whose parts carry checksums; empty if it is absent.

    Raises:
      InputError: It is damaged.
    """
    if not path.exists():
        return {}
    try:
        # Not by its path: NumPy would leave the file open where it is no .npz.
        with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as stored:
            arrays = dict(stored)
        # Beside those of the parts: a name may be damaged, or a part lost.
        if str(arrays.pop(CHECKSUM, None)) != arrays_checksum(arrays):
            raise ValueError("its checksum is not that of its arrays")
        return arrays
    except Exception as error:  # zipfile and NumPy raise what they meet
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"expected arrays as they were written in {path}; it is damaged: {reason}; delete it "
            "and start the run again: it is made anew"
        ) from error


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

"""The files of a run, as an experiment leaves them, from literal rows."""

from pathlib import Path

from jaxanatomy.checksums import seal, sealed_line, unseal
from jaxanatomy.plain_json import parse_json, to_json
from jaxanatomy.records import ROW_COUNT, known_rows


def write_rows(folder: Path, rows) -> None:
    (folder / "rows.jsonl").write_text("".join(map(sealed_line, rows)))


def write_config(folder: Path, config, provenance) -> None:
    made = {"config": config, "provenance": provenance}
    (folder / "config.json").write_text(to_json(seal(made)))


def write_summary(folder: Path, summary) -> None:
    """Call it when the rows are there."""
    count = {ROW_COUNT: len(known_rows(folder))}
    (folder / "summary.json").write_text(to_json(seal({**summary, **count})))


def read_rows(folder: Path) -> list[dict]:
    """The rows in the order of the file, each time that they stand there."""
    lines = (folder / "rows.jsonl").read_text().splitlines()
    return [unseal(parse_json(line)) for line in lines]


def read_summary(folder: Path) -> dict:
    summary = unseal(parse_json((folder / "summary.json").read_text()))
    del summary[ROW_COUNT]
    return summary

"""Damaged and hostile text files: their documents, or a refusal in one line."""

import io
import json
import tempfile
from pathlib import Path

import fuzz
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxanatomy.data.text import Text, load_text

ROWS = ["One river.", "", None, "Zwei Flüsse 🙂\n"]
JSONL = "".join(json.dumps({"text": row, "id": 5, "more": [1.5, {}]}) + "\n" for row in ROWS)


def parquet(compression):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is optional")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is optional")
    table = pyarrow.table(
        {"text": ROWS * 20, "id": list(range(80)), "odd": [[1], [], None, [2]] * 20}
    )
    file = io.BytesIO()
    parquet.write_table(table, file, compression=compression)
    return file.getvalue()


def read(content, ending, part=""):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{ending}"
        path.write_bytes(content)
        text = fuzz.reads_or_refuses(load_text, f"{path}{part}")
    if text is not None:
        assert all(document.strip() for document in text.documents)
        assert len(text.documents) + text.left_out.total == text.left_out.documents


@pytest.mark.slow
@fuzz.bounded(400)
@given(fuzz.damaged_bytes(JSONL.encode()), st.sampled_from(["", "#text", "#id", "#more", "#zz"]))
def test_any_jsonl_is_read_or_refused(content, part):
    read(content, "jsonl", part)


@pytest.mark.slow
@fuzz.bounded(400)
@given(st.lists(st.sampled_from(fuzz.HOSTILE) | fuzz.json_values().map(json.dumps), max_size=4))
def test_any_lines_of_a_jsonl_are_read_or_refused(lines):
    inside = [line if len(line) % 2 else f'{{"text": {line}}}' for line in lines]
    read("\n".join(inside).encode("utf-8", "surrogatepass"), "jsonl")


@pytest.mark.slow
@fuzz.bounded(300)
@given(
    st.binary(max_size=40),
    st.sampled_from(["", "#lines", "#blank_lines", "#pieces", "#articles", "#odd"]),
)
def test_any_txt_is_read_or_refused(content, part):
    read(content, "txt", part)


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_any_parquet_is_read_or_refused(compression):
    content = parquet(compression)

    @fuzz.bounded(400)
    @given(fuzz.damaged_bytes(content), st.sampled_from(["", "#id", "#odd", "#zz"]))
    def check(damaged, part):
        read(damaged, "parquet", part)

    check()


@fuzz.bounded(200)
@given(st.lists(st.none() | st.text(max_size=3) | st.integers() | st.just("\ud800"), max_size=5))
def test_any_list_of_strings_is_a_text_or_refused(documents):
    text = fuzz.reads_or_refuses(Text, "mine", documents)
    if text is not None:
        assert list(text.documents) == [each for each in documents if each and each.strip()]

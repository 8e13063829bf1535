import json

import numpy as np
import pytest

from jaxanatomy.data import tfds_builder
from jaxanatomy.data.bpe import train
from jaxanatomy.data.corpora import is_held_out, open_corpus
from jaxanatomy.data.tfds_builder import blocks, prepare
from jaxanatomy.errors import InputError

DOCUMENTS = tuple(f"document {index} says {'word ' * (index % 7)}" for index in range(300))


@pytest.fixture(autouse=True)
def small_blocks(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds_builder, "BLOCK", 64)


@pytest.fixture(scope="module")
def tokenizer():
    return train(DOCUMENTS, 270)


def write(path, documents):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": one}) + "\n" for one in documents))
    elif path.suffix == ".txt":
        path.write_text("\n".join(documents))
        return f"{path}#lines"
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"text": list(documents)}), path)
    return str(path)


def naive_stream(documents, tokenizer):
    tokens = [
        (id_, place == 0)
        for text in documents
        for place, id_ in enumerate([*tokenizer.encode(text), tokenizer.eos_id])
    ]
    return np.array([token for token, _ in tokens]), np.array([first for _, first in tokens])


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".parquet"])
def test_a_stream_holds_every_document_and_its_end(tmp_path, tokenizer, suffix):
    documents = [text.strip() for text in DOCUMENTS]
    streams = prepare(open_corpus(write(tmp_path / f"a{suffix}", documents)), tokenizer)
    for split, stream in streams.items():
        own = [text for text in documents if is_held_out(text) == (split == "validation")]
        tokens, begins = naive_stream(own, tokenizer)
        assert (stream.num_documents, stream.num_tokens) == (len(own), len(tokens))
        found = stream.span(0, stream.num_tokens)
        np.testing.assert_array_equal(found[0], tokens)
        np.testing.assert_array_equal(found[1], begins)
        assert found[0].dtype == np.int32


def test_any_span_can_be_read(tmp_path, tokenizer):
    stream = prepare(open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS)), tokenizer)["train"]
    whole = stream.span(0, stream.num_tokens)
    for start, stop in ((0, 1), (63, 64), (63, 65), (64, 128), (100, 400), (5, 6)):
        for part, all_of_it in zip(stream.span(start, stop), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[start:stop])


def test_the_files_are_an_ordinary_data_set_and_need_no_tensorflow(tmp_path, tokenizer, run_python):
    prepare(open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS)), tokenizer)
    (folder,) = (tmp_path / "cache").glob("streams/*/token_stream/1.0.0")
    assert list(folder.glob("*.array_record*"))
    code = f"""
import sys
import tensorflow_datasets as tfds
records = tfds.builder_from_directory({str(folder)!r}).as_data_source(split="train")
print(len(records), records[0]["tokens"].shape, "tensorflow" in sys.modules)
"""
    # Not as code.py: Python's debugger, which absl imports, imports a module of that name.
    path = tmp_path / "read_back.py"
    path.write_text(code)
    count, shape, has_tensorflow = run_python(path).split()
    assert int(count) > 10
    assert (shape, has_tensorflow) == ("(64,)", "False")


def test_a_corpus_is_tokenised_once_for_each_tokenizer(tmp_path, tokenizer, monkeypatch):
    source = write(tmp_path / "a.jsonl", DOCUMENTS)
    prepare(open_corpus(source), tokenizer)
    with monkeypatch.context() as patched:
        patched.setattr(tfds_builder, "_encoded", lambda *given: pytest.fail("tokenised again"))
        prepare(open_corpus(source), tokenizer)
    other = prepare(open_corpus(source), train(DOCUMENTS, 260))["train"]
    assert other.num_tokens > prepare(open_corpus(source), tokenizer)["train"].num_tokens


def test_an_empty_source_is_refused_and_leaves_nothing(tmp_path, tokenizer):
    source = write(tmp_path / "a.jsonl", ("", " \n"))
    with pytest.raises(InputError) as error:
        prepare(open_corpus(source), tokenizer)
    assert str(error.value) == (
        f"source {source!r} is empty; it must hold at least one document with text"
    )
    assert not list((tmp_path / "cache").glob("streams/[0-9a-f]*"))


@pytest.mark.parametrize("lengths", [(), (3,), (8,), (16,), (5, 3), (5, 4, 20, 1, 7), (1,) * 17])
def test_blocks_are_the_documents_cut(lengths):
    documents = [
        100 * (n + 1) + np.arange(length, dtype=np.int32) for n, length in enumerate(lengths)
    ]
    found = list(blocks(iter(documents), 8))
    whole = np.concatenate([np.zeros(0, int), *documents])
    sizes = [len(tokens) for tokens, _ in found]
    assert sizes == [8] * (len(whole) // 8) + (
        [len(whole) % 8] if len(whole) % 8 or not len(whole) else []
    )
    for number, (tokens, begins) in enumerate(found):
        part = whole[8 * number : 8 * number + 8]
        np.testing.assert_array_equal(tokens, part)
        np.testing.assert_array_equal(begins, np.flatnonzero(part % 100 == 0))
        assert tokens.dtype == begins.dtype == np.int32

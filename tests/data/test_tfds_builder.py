import dataclasses
import itertools
import json

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from jaxanatomy.data import tfds_builder
from jaxanatomy.data.bpe import END, train
from jaxanatomy.data.corpora import is_held_out, open_corpus
from jaxanatomy.data.tfds_builder import Cutter, prepare
from jaxanatomy.errors import InputError
from jaxanatomy.weights.tokenizer import Tokenizer

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


def test_a_stream_of_several_shards_is_read_in_order(tmp_path, tokenizer, monkeypatch):
    # What TFDS would hold in memory, before it asks for TensorFlow.
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    monkeypatch.setattr(tfds_builder, "RECORDS_PER_SHARD", 3)
    monkeypatch.setattr(tfds_builder, "_WRITTEN_TOGETHER", 2)
    stream = prepare(open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS)), tokenizer)["train"]
    expected = naive_stream([text for text in DOCUMENTS if not is_held_out(text)], tokenizer)
    for part, whole in zip(stream.span(0, stream.num_tokens), expected, strict=True):
        np.testing.assert_array_equal(part, whole)
    shards = list((tmp_path / "cache").glob("streams/*/token_stream/*/*train.array_record*"))
    assert len(shards) == -(-stream.num_tokens // (3 * 64)) > 5


def test_a_corpus_is_read_once(tmp_path, tokenizer):
    readings = []
    corpus = open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS))
    read = corpus.read
    corpus = dataclasses.replace(corpus, read=lambda: readings.append(1) or read())
    assert prepare(corpus, tokenizer)["validation"].num_documents > 0
    assert readings == [1]


def test_what_was_not_finished_is_not_taken_for_whole(tmp_path, tokenizer, monkeypatch):
    corpus = open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS))
    expected = prepare(corpus, tokenizer)["train"]

    def read():
        yield from itertools.islice(corpus.read(), 250)
        raise KeyboardInterrupt

    monkeypatch.setenv("JAXANATOMY_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(tfds_builder, "_ENCODED_TOGETHER", 10)
    monkeypatch.setattr(tfds_builder, "_WRITTEN_TOGETHER", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataclasses.replace(corpus, read=read), tokenizer)
    assert not list((tmp_path / "other").glob("streams/[0-9a-f]*"))
    stream = prepare(corpus, tokenizer)["train"]
    assert stream.num_tokens == expected.num_tokens
    np.testing.assert_array_equal(
        stream.span(0, stream.num_tokens), expected.span(0, expected.num_tokens)
    )


def test_the_end_token_spelled_in_a_document_is_text(tmp_path, tokenizer):
    texts = [f"{text} {END} and {END}" for text in DOCUMENTS]
    before = tokenizer.encode(END)
    for stream in prepare(open_corpus(write(tmp_path / "a.jsonl", texts)), tokenizer).values():
        tokens, begins = stream.span(0, stream.num_tokens)
        assert (tokens == tokenizer.eos_id).sum() == begins.sum() == stream.num_documents > 0
        (first, *_) = np.split(tokens, np.flatnonzero(tokens == tokenizer.eos_id))
        assert tokenizer.decode(first) in texts
    assert tokenizer.encode(END) == before == [tokenizer.eos_id]


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path, tokenizer):
    endless = Tokenizer(tokenizer.backend)
    with pytest.raises(InputError, match="must have a token that ends a document; this one has no"):
        prepare(open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS)), endless)


def test_the_stream_follows_the_recipe(tmp_path, tokenizer, monkeypatch):
    corpus = open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS))
    prepare(corpus, tokenizer)
    monkeypatch.setattr(tfds_builder, "RECIPE", "other")
    prepare(corpus, tokenizer)
    assert len(list((tmp_path / "cache").glob("streams/[0-9a-f]*"))) == 2


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
    cutter = Cutter(8)
    found = [block for document in documents for block in cutter.add(document)]
    found += [block] if (block := cutter.rest()) else []
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


def test_blank_and_null_documents_are_left_out_and_counted(tmp_path, tokenizer, capsys):
    documents = ["", *DOCUMENTS[:20], None, " \n", *DOCUMENTS[20:40]]
    clean = prepare(open_corpus(write(tmp_path / "a.jsonl", DOCUMENTS[:40])), tokenizer)
    assert capsys.readouterr().err == ""
    source = write(tmp_path / "b.jsonl", documents)
    for _ in range(2):  # tokenised, and from the cache
        streams = prepare(open_corpus(source), tokenizer)
        said = capsys.readouterr().err
        assert said == f"source {source!r}: 3 of 43 documents left out, blank or null\n"
    for split, stream in streams.items():
        assert stream.num_documents == clean[split].num_documents
        both = (each.span(0, each.num_tokens)[0] for each in (stream, clean[split]))
        np.testing.assert_array_equal(*both)

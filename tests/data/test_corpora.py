import json

import pytest

from jaxanatomy.data import corpora, library_text, sources
from jaxanatomy.data.corpora import hf_parts, is_held_out, open_corpus
from jaxanatomy.errors import InputError

DOCUMENTS = tuple(f"document {index} of many\n\nwith two paragraphs" for index in range(500))


def write_jsonl(path, documents, field="text"):
    path.write_text("".join(json.dumps({field: one}) + "\n" for one in documents))
    return path


def test_a_file_is_split_by_the_content_of_its_documents(tmp_path):
    corpus = open_corpus(str(write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)))
    held_out = [text for text in DOCUMENTS if is_held_out(text)]
    assert 0 < len(held_out) < 20  # one in a hundred
    assert list(corpus.documents("validation")) == held_out
    assert list(corpus.documents("train")) == [t for t in DOCUMENTS if not is_held_out(t)]
    # Where and in which file a document stands does not matter.
    write_jsonl(tmp_path / "b.jsonl", reversed(DOCUMENTS))
    other = open_corpus(str(tmp_path / "b.jsonl"))
    assert set(other.documents("validation")) == set(held_out)


def test_several_files_come_in_the_order_of_their_names(tmp_path):
    for name, part in (("b", DOCUMENTS[2:4]), ("a", DOCUMENTS[:2]), ("c", DOCUMENTS[4:5])):
        write_jsonl(tmp_path / f"{name}.jsonl", part, field="body")
    corpus = open_corpus(f"{tmp_path}/*.jsonl#body")
    assert [text for text, _ in corpus.read()] == list(DOCUMENTS[:5])


def test_parts_of_a_txt_and_blank_documents(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\nthree\n")
    documents = {
        part: [text for text, _ in open_corpus(f"{path}{part}").read()]
        for part in ("", "#lines", "#blank_lines")
    }
    assert documents == {
        "": ["one\ntwo\n\nthree"],
        "#lines": ["one", "two", "three"],
        "#blank_lines": ["one\ntwo", "three"],
    }
    write_jsonl(tmp_path / "a.jsonl", ("x", " ", "", "y"))
    corpus = open_corpus(str(tmp_path / "a.jsonl"))
    assert [*corpus.documents("train"), *corpus.documents("validation")] == ["x", "y"]


def test_the_identity_follows_the_content_and_the_part(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    found = {open_corpus(str(path)).identity, open_corpus(f"{path}#text").identity}
    write_jsonl(path, DOCUMENTS[1:])
    found.add(open_corpus(str(path)).identity)
    found |= {open_corpus(kind).identity for kind in library_text.KINDS}
    assert len(found) == 5


def test_library_documents_are_split_by_file(monkeypatch):
    pairs = [(f"{index}.py", f"text {index}") for index in range(100)]
    monkeypatch.setattr(library_text, "documents", lambda kind: iter(pairs))
    corpus = open_corpus("library_code")
    expected = [text for name, text in pairs if library_text.held_out(name)]
    assert list(corpus.documents("validation")) == expected != []
    assert len(list(corpus.documents("train"))) == 100 - len(expected)


def test_tfds_sources_name_their_split(monkeypatch):
    monkeypatch.setattr(sources, "load_tfds", lambda source: (source, "x"))
    corpus = open_corpus("tfds:lm1b:train[:10]#text")
    assert [text for text, _ in corpus.read()] == ["tfds:lm1b:train[:10]#text", "x"]
    with pytest.raises(InputError, match="must name the split to train on, as in tfds:NAME:train"):
        open_corpus("tfds:lm1b")


def test_a_pattern_of_a_hub_source_becomes_its_files(monkeypatch):
    asked = []

    def list_files(name, **where):
        asked.append((name, where))
        return ["data/b.parquet", "README.md", "data/a.parquet", "other/c.parquet"]

    monkeypatch.setattr(sources, "load_hf", lambda source: (source,))
    parts = hf_parts("hf:me/set@v1:data/*.parquet#body", list_files)
    assert [part() for part in parts] == [
        ("hf:me/set@v1:data/a.parquet#body",),
        ("hf:me/set@v1:data/b.parquet#body",),
    ]
    assert asked == [("me/set", {"repo_type": "dataset", "revision": "v1"})]
    (part,) = hf_parts("hf:me/set:data/a.parquet", list_files)
    assert part() == ("hf:me/set:data/a.parquet",)
    with pytest.raises(InputError, match=r"no file of 'hf:me/set:no/.' matches; there are data/b"):
        hf_parts("hf:me/set:no/*", list_files)


def test_a_hub_that_cannot_be_reached_is_named():
    def list_files(name, **where):
        raise ConnectionError("no route\nto host")

    with pytest.raises(
        InputError, match=r"cannot list the files of 'hf:me/set:.': no route; check"
    ):
        hf_parts("hf:me/set:*", list_files)


def test_nothing_is_fetched_before_it_is_read(monkeypatch):
    monkeypatch.setattr(corpora, "hf_parts", lambda source: pytest.fail("read too early"))
    assert open_corpus("hf:me/set:*").source == "hf:me/set:*"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("library_cod", "unknown source 'library_cod'; did you mean 'library_code'?"),
        ("primitves", "unknown source 'primitves'; did you mean 'primitives'?"),
        ("missing.jsonl", "there is no text file 'missing.jsonl'; check the path"),
        ("missing/*.jsonl", "there is no text file 'missing/*.jsonl'; check the path"),
    ],
)
def test_unknown_sources_are_refused(source, message):
    with pytest.raises(InputError) as error:
        open_corpus(source)
    assert str(error.value) == message


def test_a_lone_surrogate_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('"\\ud800 x"\n' * 2)
    corpus = open_corpus(str(tmp_path / "a.jsonl"))
    with pytest.raises(InputError, match="holds a lone surrogate, which is no character"):
        [*corpus.documents("train"), *corpus.documents("validation")]

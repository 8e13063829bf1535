import errno
import hashlib
import itertools
import json
from types import SimpleNamespace
from typing import get_args

import huggingface_hub
import pytest
import tensorflow_datasets as tfds

from jaxanatomy.data import corpora, files, library_text, sources
from jaxanatomy.data.corpora import hf_parts, is_held_out, open_corpus, split_by_hash
from jaxanatomy.data.questions import Split
from jaxanatomy.errors import InputError

DOCUMENTS = tuple(f"document {index} of many\n\nwith two paragraphs" for index in range(500))


def documents(corpus, split):
    return [text for text, own in corpus.documents() if own == split and text is not None]


def write_jsonl(path, documents, field="text"):
    path.write_text("".join(json.dumps({field: one}) + "\n" for one in documents))
    return path


def test_a_file_is_split_by_the_content_of_its_documents(tmp_path):
    corpus = open_corpus(str(write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)))
    held_out = [text for text in DOCUMENTS if is_held_out(text)]
    assert 0 < len(held_out) < 20  # one in a hundred
    assert documents(corpus, "validation") == held_out
    assert documents(corpus, "train") == [t for t in DOCUMENTS if not is_held_out(t)]
    # Where and in which file a document stands does not matter.
    write_jsonl(tmp_path / "b.jsonl", reversed(DOCUMENTS))
    other = open_corpus(str(tmp_path / "b.jsonl"))
    assert set(documents(other, "validation")) == set(held_out)


def test_of_a_few_documents_the_one_with_the_smallest_hash_is_held_out(tmp_path):
    few = [text for text in DOCUMENTS if not is_held_out(text)][:30]
    smallest = min(
        few,
        key=lambda text: hashlib.blake2b(
            text.replace("\n\n", " ").encode(), digest_size=8
        ).digest(),
    )
    given = [*few, " ", smallest]
    corpus = open_corpus(str(write_jsonl(tmp_path / "a.jsonl", given)))
    assert documents(corpus, "validation") == [smallest, smallest]
    assert documents(corpus, "train") == [text for text in few if text != smallest]
    # Something must be left to train on.
    write_jsonl(tmp_path / "a.jsonl", [few[0], few[0], f"{few[0]}\n"])
    assert documents(open_corpus(str(tmp_path / "a.jsonl")), "validation") == []


def test_documents_that_differ_in_white_space_alone_are_on_one_side(tmp_path):
    documents = [f"line {index} of\n  many" for index in range(600)]
    changed = [f"{text}\n" for text in documents], [text.replace("  ", "\t") for text in documents]
    copies = (documents, *changed)
    for count in (10, 600):  # a few, and enough for a hundredth
        given = [text for kind in copies for text in kind[:count]]
        corpus = open_corpus(str(write_jsonl(tmp_path / "a.jsonl", given)))
        pairs = list(corpus.documents())
        assert [text for text, _ in pairs] == given
        sides = [
            {" ".join(text.split()) for text, own in pairs if own == each}
            for each in get_args(Split)
        ]
        assert not sides[0] & sides[1]
        assert len(sides[0] | sides[1]) == count
        assert sides[0]
        assert sides[1]


def test_documents_wait_only_for_the_first_that_is_held_out():
    read = []

    def texts():
        for text in itertools.cycle(DOCUMENTS):
            read.append(text)
            yield text

    (first,) = itertools.islice(split_by_hash(texts()), 1)
    assert first == (DOCUMENTS[0], False)
    assert len(read) == 1 + next(i for i, text in enumerate(DOCUMENTS) if is_held_out(text))


def test_a_book_in_one_txt_can_be_trained_on(tmp_path):
    paragraphs = [f"Paragraph {index}. " + "Some words. " * 20 for index in range(100)]
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(paragraphs))
    corpus = open_corpus(str(path))
    pieces = files.read_documents(path, "pieces")
    assert [text for text, _ in corpus.documents()] == list(pieces)
    assert len(documents(corpus, "validation")) == 1
    assert len(documents(corpus, "train")) == len(pieces) - 1 > 3


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
    *documents, one, other = corpus.documents()
    assert sorted(text for text, _ in documents) == ["x", "y"]
    assert one == other == (None, "train")


def test_the_identity_follows_the_content_and_the_part(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    found = {open_corpus(str(path)).identity, open_corpus(f"{path}#text").identity}
    write_jsonl(path, DOCUMENTS[1:])
    found.add(open_corpus(str(path)).identity)
    found |= {open_corpus(kind).identity for kind in library_text.KINDS}
    assert len(found) == 5


def test_the_identity_follows_the_kind_of_file_and_the_way_of_reading(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    (tmp_path / "a.txt").write_bytes(path.read_bytes())
    found = {open_corpus(str(path)).identity, open_corpus(f"{tmp_path}/a.txt").identity}
    for name in ("RECIPE", "HELD_OUT"):
        with monkeypatch.context() as patched:
            patched.setattr(corpora, name, 7)
            found.add(open_corpus(str(path)).identity)
    assert len(found) == 4


def test_a_pattern_that_is_the_name_of_a_file_is_that_file(tmp_path):
    for name, text in (("c[1]", "the file"), ("c1", "what the pattern matches")):
        write_jsonl(tmp_path / f"{name}.jsonl", [text], field="body")
    (document,) = open_corpus(f"{tmp_path}/c[1].jsonl#body").read()
    assert document == ("the file", False)
    (tmp_path / "c[1].jsonl").unlink()
    (document,) = open_corpus(f"{tmp_path}/c[1].jsonl#body").read()
    assert document == ("what the pattern matches", False)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = write_jsonl(tmp_path / "a.jsonl", DOCUMENTS)
    monkeypatch.setattr(corpora.cache, "hash_file", refuse)
    with pytest.raises(InputError) as error:
        open_corpus(str(path))
    assert str(error.value) == (
        f"a text file must be readable; {str(path)!r} is not (Permission denied); check its "
        "permissions, or give a copy"
    )


def test_library_documents_are_split_by_file(monkeypatch):
    pairs = [(f"{index}.py", f"text {index}") for index in range(100)]
    monkeypatch.setattr(library_text, "documents", lambda kind: iter(pairs))
    corpus = open_corpus("library_code")
    expected = [text for name, text in pairs if library_text.held_out(name)]
    assert documents(corpus, "validation") == expected != []
    assert len(documents(corpus, "train")) == 100 - len(expected)


@pytest.fixture
def tfds_version(monkeypatch):
    """Sets the version of every data set of TFDS, each of which may be opened once."""

    def set_to(version):
        opened = []

        def builder(name, file_format):
            assert name not in opened
            opened.append(name)
            info = SimpleNamespace(full_name=f"{name}/{version}")
            return SimpleNamespace(
                info=info, download_and_prepare=lambda: None, as_data_source=read
            )

        monkeypatch.setattr(tfds, "builder", builder)

    def read(split):
        return [{"text": split}, {"text": "x"}]

    set_to("1.0.0")
    return set_to


def test_a_tfds_source_is_that_of_its_version(tfds_version):
    corpus = open_corpus("tfds:lm1b/plain:train[:10]#text")
    assert [text for text, _ in corpus.read()] == ["train[:10]", "x"]
    for version, source, same in (
        ("1.0.0", "tfds:lm1b/plain:train[:10]#text", True),
        ("1.0.0", "tfds:lm1b/plain:train[:9]#text", False),
        ("1.0.1", "tfds:lm1b/plain:train[:10]#text", False),
    ):
        tfds_version(version)
        assert (open_corpus(source).identity == corpus.identity) == same


def test_tfds_sources_name_their_split_and_a_data_set(monkeypatch):
    def builder(name, file_format):
        raise ValueError(f"no {name}\nat all")

    monkeypatch.setattr(tfds, "builder", builder)
    with pytest.raises(InputError, match="cannot open 'tfds:lm2b:train': no lm2b; check the name"):
        open_corpus("tfds:lm2b:train")
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
    (part,) = hf_parts("hf:me/set:a.txt", list_files)
    assert part() == ("hf:me/set:a.txt#pieces",)
    (part,) = hf_parts("hf:me/set@v1", lambda name, **where: ["README.md", "book.txt"])
    assert part() == ("hf:me/set@v1:book.txt#pieces",)
    (part,) = hf_parts("hf:me/set:c[1].txt#lines", lambda name, **where: ["c1.txt", "c[1].txt"])
    assert part() == ("hf:me/set:c[1].txt#lines",)
    with pytest.raises(InputError, match=r"must hold one file ending in .*; it holds 3 \("):
        hf_parts("hf:me/set", list_files)
    with pytest.raises(InputError, match=r"no file of 'hf:me/set:no/.' matches; there are data/b"):
        hf_parts("hf:me/set:no/*", list_files)


def test_a_hub_that_cannot_be_reached_is_named():
    def list_files(name, **where):
        raise ConnectionError("no route\nto host")

    with pytest.raises(
        InputError, match=r"cannot list the files of 'hf:me/set:.': no route; check"
    ):
        hf_parts("hf:me/set:*", list_files)


def test_a_hub_source_is_that_of_a_commit(monkeypatch):
    commits = {("me/set", None): "a" * 40, ("me/set", "v1"): "b" * 40}
    found = [
        corpora.with_commit(source, lambda *asked: commits[asked])
        for source in ("hf:me/set:*.txt#lines", "hf:me/set@v1", f"hf:you/set@{'c' * 40}:x")
    ]
    assert found == [
        f"hf:me/set@{'a' * 40}:*.txt#lines",
        f"hf:me/set@{'b' * 40}",
        f"hf:you/set@{'c' * 40}:x",  # not asked
    ]
    with pytest.raises(InputError, match=r"^a source of this kind is written hf:OWNER/DATASET"):
        corpora.with_commit("hf:set", lambda *asked: pytest.fail("asked"))


def test_the_hub_is_asked_once_in_a_process(monkeypatch):
    commits = itertools.count()

    class Hub:
        def dataset_info(self, name, revision):
            return SimpleNamespace(sha=f"{name} {revision} {next(commits)}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    corpora._commit_on_hub.cache_clear()
    try:
        identities = [
            open_corpus(source).identity.split(":")[1]
            for source in ("hf:me/set:a*", "hf:me/set:a*", "hf:me/set:b*", "hf:me/set@v1:a*")
        ]
    finally:
        corpora._commit_on_hub.cache_clear()
    assert identities == [*["me/set@me/set None 0"] * 3, "me/set@me/set v1 1"]


def test_another_commit_is_another_corpus_and_nothing_is_fetched_before_it_is_read(monkeypatch):
    monkeypatch.setattr(corpora, "hf_parts", lambda source: pytest.fail("read too early"))
    opened = []
    for commit in ("a" * 40, "a" * 40, "b" * 40):
        monkeypatch.setattr(corpora, "_commit_on_hub", lambda name, revision, commit=commit: commit)
        opened.append(open_corpus("hf:me/set:*"))
    assert {corpus.source for corpus in opened} == {"hf:me/set:*"}
    assert opened[0].identity == opened[1].identity != opened[2].identity
    monkeypatch.setattr(corpora, "hf_parts", lambda source: [lambda: (source, "x")])
    assert next(opened[2].read())[0] == f"hf:me/set@{'b' * 40}:*"


def test_a_commit_that_cannot_be_found_is_named(monkeypatch):
    def fail(name, revision):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(corpora, "_commit_on_hub", fail)
    with pytest.raises(InputError) as error:
        open_corpus("hf:me/set@v1:*")
    assert str(error.value) == (
        "cannot find the commit of 'hf:me/set@v1:*': no route; check the name, the revision and "
        "the connection, or name the commit: hf:me/set@COMMIT"
    )


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
        list(corpus.documents())

import hashlib
import json

import pytest

from jaxanatomy.data.text import SOURCES, TEXTS, Text, load_text
from jaxanatomy.errors import InputError


@pytest.mark.parametrize("name", TEXTS)
def test_built_in_texts_hold_distinct_clean_documents(name):
    text = load_text(name)
    assert text.name == name
    assert len(set(text.documents)) == {"paragraphs": 40}.get(name, 10)
    for document in text.documents:
        assert document == document.strip()
        assert "  " not in document
        assert document[-1] in ".?!" or document.endswith("Daniel Reyes")


def test_the_ten_sentences_are_the_reference():
    sentences = load_text("sentences").documents
    assert sentences[0] == "The capital of France is Paris."
    assert sentences[5] == "The human brain contains about eighty-six billion neurons."
    assert sentences[9] == "The quick brown fox jumps over the lazy dog."
    joined = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
    assert joined == "d148bd40bcafa92b6c359f5266324ada0b3de102f1c1d3c96dc777987200dc12"


def test_recovery_training_is_the_reference_and_shares_nothing_with_the_sentences():
    training = load_text("recovery_training").documents
    joined = hashlib.sha256("\n".join(training).encode()).hexdigest()
    assert joined == "9b2ae706ce06386e1ee081ca72c359f3556a8facbdfa82a3ac874f193bd74229"
    assert not set(training) & set(load_text("sentences").documents)


def test_paragraphs_keep_the_lines_of_the_dialogue():
    (dialogue,) = [d for d in load_text("paragraphs").documents if d.startswith('"Did you lock')]
    assert len(dialogue.split("\n")) == 8


def test_sha256_depends_on_documents_and_their_ends_only():
    assert Text("a", ("x y", "z")).sha256 == Text("b", ("x y", "z")).sha256
    different = [("x y", "z"), ("x", "y z"), ("x y z",), ("z", "x y"), ('x y", "z',)]
    assert len({Text("a", documents).sha256 for documents in different}) == len(different)
    expected = hashlib.sha256(b'["\\u00e9"]').hexdigest()
    assert Text("a", ("é",)).sha256 == expected


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ((), "text 'mine' is empty"),
        (("a", " \n"), r"documents\[1\] of 'mine' is empty"),
        (("a\ud800",), r"documents\[0\] of 'mine' holds a lone surrogate"),
        ("a string", "must be a tuple of strings; got one string"),
    ],
)
def test_a_text_needs_documents(documents, message):
    with pytest.raises(InputError, match=message):
        Text("mine", documents)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sentance", "unknown text 'sentance'; did you mean 'sentences'.*\\.txt, \\.jsonl"),
        ("zzz", "unknown text 'zzz'; known: sentences, recovery_training, paragraphs"),
        ("missing.txt", "there is no text file 'missing.txt'; check the path"),
        ("missing.txt#lines", "there is no text file 'missing.txt'; check the path"),
        ("folder/missing", "there is no text file 'folder/missing'"),
        ("tfds:", r"is written tfds:NAME\[/CONFIG\]\[:SPLIT\]\[#FIELD\]; got 'tfds:'"),
        ("hf:one", r"is written hf:OWNER/DATASET.*; got 'hf:one'"),
        ("x" * 9_000, "unknown text 'xxx"),
    ],
)
def test_unknown_sources(source, message):
    with pytest.raises(InputError, match=message) as raised:
        load_text(source)
    assert "\n" not in str(raised.value)


def test_a_path_is_a_text_named_after_it(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("One.\n\nTwo.\n")
    assert load_text(str(path)) == Text(str(path), ("One.\n\nTwo.",))
    source = f"{path}#blank_lines"
    assert load_text(source) == Text(source, ("One.", "Two."))


def test_a_hash_sign_in_the_name_of_a_file_belongs_to_it(tmp_path):
    path = tmp_path / "notes#2.txt"
    path.write_text("One.")
    assert load_text(str(path)).documents == ("One.",)
    with_field = tmp_path / "notes#3.jsonl"
    with_field.write_text(json.dumps({"body": "Two."}))
    assert load_text(f"{with_field}#body").documents == ("Two.",)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text(" \n\n")
    with pytest.raises(InputError, match="is empty; it must hold at least one document"):
        load_text(str(path))


def test_every_text_and_source_has_one_line_of_help():
    for help_line in [*TEXTS.values(), *SOURCES.values()]:
        assert 10 < len(help_line) < 90
        assert "\n" not in help_line


def test_texts_load_without_the_heavy_libraries(run_python):
    heavy = ["tensorflow_datasets", "huggingface_hub", "pyarrow", "transformers"]
    code = (
        "import sys; from jaxanatomy.data.text import load_text; load_text('sentences'); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run_python(code, devices=1).strip() == "[]"

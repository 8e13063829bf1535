import hashlib
import json

import pytest

from jaxanatomy.data.text import SOURCES, TEXTS, LeftOut, Text, beginnings, hold_out, load_text
from jaxanatomy.errors import InputError


@pytest.mark.parametrize("name", TEXTS)
def test_built_in_texts_hold_distinct_clean_documents(name):
    text = load_text(name)
    assert text.name == name
    assert len(set(text.documents)) == {"paragraphs": 40, "depth_prompts": 8}.get(name, 10)
    assert all(document == document.strip() for document in text.documents)
    for document in text.documents if name != "depth_prompts" else ():
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


def test_the_depth_prompts_are_the_reference():
    prompts = load_text("depth_prompts").documents
    assert len(prompts) == 8
    joined = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    assert joined == "2721a62439115dd27d8b5ecc14beb2d973deb68d38445f26d8c8fee0a923cbf6"


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
        ((), "text 'mine' must hold at least one document with text; it is empty$"),
        (
            (" \n", None),
            r"text 'mine' .* it is empty \(2 of 2 documents left out: 1 blank, 1 null\)",
        ),
        (
            ("a", 5, []),
            r"documents\[1\] of 'mine' must be a string; got int; documents\[2\] .* list$",
        ),
        (
            ("a\ud800", "b", "\ud801"),
            r"documents\[0\] .* lone .*; documents\[2\] .* lone surrogate",
        ),
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
        (
            "zzz",
            "unknown text 'zzz'; known: sentences, recovery_training, depth_prompts, paragraphs",
        ),
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
    with pytest.raises(InputError, match="must hold at least one document with text; it is empty"):
        load_text(str(path))


def test_blank_and_null_documents_are_left_out_and_counted():
    text = Text("mine", ["", "One.", None, " \u3000\n", " Two. "])
    assert text.documents == ("One.", " Two. ")
    assert text.left_out == LeftOut(documents=5, blank=2, null=1)
    assert str(text.left_out) == "3 of 5 documents left out: 2 blank, 1 null"
    assert text.sha256 == Text("mine", ("One.", " Two. ")).sha256
    assert str(Text("mine", ("a",)).left_out) == "0 of 1 documents left out: none"


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "txt#lines"])
def test_every_kind_of_file_may_have_blank_and_null_rows(ending, tmp_path):
    rows = ["", "One.", None, " \n", "Two."]
    name, _, part = ending.partition("#")
    path = tmp_path / f"rows.{name}"
    if name == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is optional")
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is optional")
        parquet.write_table(pyarrow.table({"text": rows}), path)
    elif name == "jsonl":
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows) + "null\n")
    else:
        path.write_text("\n".join(row or "" for row in rows))
    text = load_text(f"{path}#{part}" if part else path)
    assert text.documents == ("One.", "Two.")
    # A line of a .txt is no document if it is blank.
    null = {"jsonl": 2, "parquet": 1, "txt": 0}[name]
    assert text.left_out == LeftOut(4 + null if null else 2, blank=2 if null else 0, null=null)


@pytest.mark.parametrize("source", [["sentences"], None, 5])
def test_a_source_is_a_string(source):
    with pytest.raises(InputError, match=r"a text is named by a string; got .*Text\(NAME, STRINGS"):
        load_text(source)


def test_every_text_and_source_has_one_line_of_help():
    for help_line in [*TEXTS.values(), *SOURCES.values()]:
        assert 10 < len(help_line) < 90
        assert "\n" not in help_line


def test_texts_load_without_the_heavy_libraries(run_python):
    heavy = ["tensorflow_datasets", "huggingface_hub.hf_api", "pyarrow", "transformers"]
    code = (
        "import sys; from jaxanatomy.data.text import load_text; load_text('sentences'); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run_python(code, devices=1).strip() == "[]"


def test_the_last_documents_are_held_out_and_no_other_is_like_them():
    text = Text("t", ("a", "b", "c", "a", "d"))
    train, held_out = hold_out(text, 0.4)
    assert (train.name, train.documents) == ("t", ("b", "c"))
    assert (held_out.name, held_out.documents) == ("t (held out)", ("a", "d"))
    assert hold_out(text, 0.4, "to choose on")[1].name == "t (to choose on)"
    for share, count in ((0.01, 1), (0.99, 4), (0.5, 2), (0.3, 2)):
        assert len(hold_out(Text("u", tuple("vwxyz")), share)[1].documents) == count


def test_the_beginning_of_a_document_is_its_words_within_so_many_characters():
    text = Text("t", ("one two  three", "uninterrupted", "one", "  \n a"))
    for characters, documents in (
        (3, ("one", "uni", "one", "  \n")),
        (6, ("one", "uninte", "one", "  \n a")),
        (8, ("one two", "uninterr", "one", "  \n a")),
        (99, text.documents),
    ):
        found = beginnings(text, characters)
        assert (found.name, found.documents) == ("t", Text("t", documents).documents)
    for characters in (0, 1.5, True, "3"):
        with pytest.raises(InputError, match="the characters of a document must be a whole number"):
            beginnings(text, characters)


def test_a_text_that_cannot_be_split_is_refused():
    for documents in (("a",), ("a", "a")):
        with pytest.raises(InputError, match="at least two different documents to hold some out"):
            hold_out(Text("t", documents), 0.5)
    for share in (0.0, 1.0, -1, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1; got"):
            hold_out(Text("t", ("a", "b")), share)


def test_documents_of_a_built_in_text_are_named_by_number():
    whole, part = load_text("paragraphs"), load_text("paragraphs#3,0-1")
    assert part.name == "paragraphs#3,0-1"
    assert part.documents == tuple(whole.documents[number] for number in (3, 0, 1))
    assert load_text("sentences#9").documents == load_text("sentences").documents[9:]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sentences#9-10", "documents of 'sentences#9-10' are 0 to 9; got 10"),
        ("sentences#1,1", "each of documents of 'sentences#1,1' may come once; repeated: 1"),
        ("sentences#lines", "must be whole numbers or ranges"),
    ],
)
def test_documents_that_are_not_there_are_refused(source, message):
    with pytest.raises(InputError, match=message):
        load_text(source)

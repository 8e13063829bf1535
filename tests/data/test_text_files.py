import errno
import json
import sys

import pytest

from jaxanatomy.data import files
from jaxanatomy.data.files import read_documents
from jaxanatomy.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


BOOK = "Chapter one.\nIt rained.\n \nChapter two.\n\n\nIt rained again.\n"


@pytest.mark.parametrize(
    ("part", "documents"),
    [
        ("", (BOOK.strip(),)),
        ("blank_lines", ("Chapter one.\nIt rained.", "Chapter two.", "It rained again.")),
        ("lines", ("Chapter one.", "It rained.", "Chapter two.", "It rained again.")),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_txt_is_one_document_unless_split(part, documents, newline, write):
    path = write("book.txt", "\ufeff" + BOOK.replace("\n", newline))
    assert read_documents(path, part) == documents


WIKITEXT = (
    " \n = Homarus gammarus = \n \n A lobster . \n \n = = Description = = \n \n Large . \n"
    " = No title = \n \n = a = b = c = \n \n = = = Deep = = = \n \n"
)


def test_articles_begin_with_their_titles_and_hold_their_sections(write):
    articles = (
        " = Homarus gammarus = \n \n A lobster . \n \n = = Description = = \n \n Large . \n"
        " = No title =",
        " = a = b = c = \n \n = = = Deep = = =",
    )
    assert read_documents(write("wiki.txt", WIKITEXT), "articles") == articles
    begun = write("begun.txt", f"The end of another .\n{WIKITEXT}")
    assert read_documents(begun, "articles") == ("The end of another .", *articles)
    for content in (BOOK, "\n = = Section = = \n\n", "text\n= Title =\n\n"):
        with pytest.raises(InputError, match="'= TITLE =' between blank lines; it has none; write"):
            read_documents(write("none.txt", content), "articles")


def test_jsonl_takes_objects_and_strings_to_the_letter(write):
    lines = [{"text": " a\n"}, "b\u2028c", {"other": 1, "text": "é"}]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n"
    assert read_documents(write("t.jsonl", content)) == (" a\n", "b\u2028c", "é")


def test_jsonl_with_carriage_returns(write):
    assert read_documents(write("t.jsonl", '"a"\r\n"b"\r\n')) == ("a", "b")


def test_jsonl_with_another_field(write):
    path = write("t.jsonl", '{"text": "a", "answer": "b"}')
    assert read_documents(path, "answer") == ("b",)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is optional")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is optional")
    path = tmp_path / "t.parquet"
    table = pyarrow.table({"text": ["a", "é"], "answer": ["b", None], "number": [1, 2]})
    parquet.write_table(table, path)
    assert read_documents(path) == ("a", "é")
    assert read_documents(path, "answer") == ("b", None)
    with pytest.raises(InputError, match=r"'number' of row 1 .* got int; .* row 2 of .* got int;"):
        read_documents(path, "number")
    with pytest.raises(InputError, match="no field 'body'; it has 'text', 'answer', 'number'"):
        read_documents(path, "body")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"t\.parquet' is not a readable \.parquet"):
        read_documents(path)


@pytest.mark.parametrize(
    ("name", "content", "part", "message"),
    [
        ("t.txt", b"ab\xff", "", r"t\.txt' must be UTF-8; byte 2 \(0xff\) is not"),
        ("t.txt", "a", "paragraphs", "unknown way to split a .txt 'paragraphs'; known: .*articles"),
        ("t.json", "[]", "", r"must end in \.txt, \.jsonl, \.parquet; got .*t\.json'"),
        ("t.jsonl", '"a"\n\n{"text": 1}', "", r"field 'text' of line 3 of .* got int"),
        ("t.jsonl", '"a"\n{"text": "b"', "", r"line 2 of .*t\.jsonl' is not JSON"),
        ("t.jsonl", '["a"]', "", "line 1 .* with a field 'text' or a JSON string; got list"),
        ("t.jsonl", '{"a": 1, "b": 2}', "", "line 1 .* has no field 'text'; it has 'a', 'b'; name"),
        ("t.jsonl", "{}", "", "has no field 'text'; it has none"),
        pytest.param(
            "t.jsonl",
            '"a"\n' + "[" * 10**5 + "]" * 10**5,
            "",
            r"^line 2 of .*t\.jsonl' is nested too deeply to be read; mend or remove it$",
            id="deep",
        ),
        pytest.param(
            "t.jsonl",
            '{"text": "a", "id": ' + "9" * 5000 + "}",
            "",
            r"^a whole number in line 1 of .*t\.jsonl' must have at most 4300 digits; it has more",
            id="digits",
        ),
    ],
)
def test_malformed_files(name, content, part, message, write):
    with pytest.raises(InputError, match=message) as raised:
        read_documents(write(name, content), part)
    assert "\n" not in str(raised.value)


def test_all_bad_lines_are_said_at_once(write):
    lines = ['"a"', "[1]", '{"text": 2}', '{"text": "b"', '{"body": "c"}', "5", '"d"', "6"]
    with pytest.raises(InputError) as raised:
        read_documents(write("t.jsonl", "\n".join(lines)))
    message = str(raised.value)
    assert [f"line {number} of" in message for number in range(1, 9)] == [
        False,
        True,
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert message.endswith("; and 2 more like these")
    assert "\n" not in message


def test_a_file_that_may_not_be_read_is_named(write, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = write("t.txt", "a")
    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(InputError) as error:
        read_documents(path)
    assert str(error.value) == (
        f"a text file must be readable; {str(path)!r} is not (Permission denied); check its "
        "permissions, or give a copy"
    )


def test_a_folder_is_no_file(tmp_path):
    folder = tmp_path / "t.txt"
    folder.mkdir()
    with pytest.raises(
        InputError, match=r"a text must be a file; .* is a folder; name a file in it"
    ):
        read_documents(folder)


def test_parquet_without_pyarrow(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow, .*; pip install pyarrow, or convert"):
        read_documents(write("t.parquet", b""))


@pytest.mark.parametrize("mark", ["\n\n", "\n", " ", ""])
def test_pieces_end_where_a_reader_would_pause(mark, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 40)
    text = mark.join(f"{index:02d}abcdefg" for index in range(50))
    pieces = files.split_pieces(text)
    assert mark.join(pieces) == text
    assert max(map(len, pieces)) <= 40
    assert min(map(len, pieces[:-1])) >= 20
    assert all(piece[:2].isdigit() for piece in pieces) == bool(mark)


def test_a_piece_ends_at_the_strongest_pause(monkeypatch):
    monkeypatch.setattr(files, "PIECE", 20)
    assert files.split_pieces("one two three\n\nfour\nfive six") == (
        "one two three",
        "four\nfive six",
    )
    # Not at one that would leave next to nothing.
    assert files.split_pieces("I\n\none two three four five") == ("I\n\none two three", "four five")
    assert files.split_pieces("short") == ("short",)
    assert files.split_pieces(" \n" * 50) == ()


CODE = """
    def method(self):
        first = 1

        second = 2
    \t
    def other(self):
        return 3 \n
"""


@pytest.mark.parametrize("size", [12, 20, 30, 40, 50])
def test_pieces_keep_the_indentation_of_their_first_line(size, monkeypatch):
    monkeypatch.setattr(files, "PIECE", size)
    pieces = files.split_pieces(CODE)
    lines = [line.rstrip() for line in CODE.split("\n") if line.strip()]
    begun = [line for line in lines if any(piece.split("\n")[0] == line for piece in pieces)]
    assert pieces[0].startswith("    def")
    if size >= 40:  # no line is cut
        assert [line for piece in pieces for line in piece.split("\n") if line.strip()] == lines
        assert len(begun) == len(pieces) > 1
    for piece in pieces:
        assert piece == piece.rstrip()
        assert piece.split("\n")[0].strip()
        # Of a line that is cut, the second part is not indented by the space it is cut at.
        assert not piece.startswith(" ") or piece.startswith("    ")


def test_documents_of_a_txt_keep_their_indentation(write):
    path = write("t.txt", CODE)
    whole = "    def method(self):\n        first = 1\n\n        second = 2\n"
    assert read_documents(path) == (f"{whole}    \t\n    def other(self):\n        return 3",)
    assert read_documents(path, "blank_lines") == (
        "    def method(self):\n        first = 1",
        "        second = 2",
        "    def other(self):\n        return 3",
    )
    assert read_documents(path, "lines")[1] == "first = 1"

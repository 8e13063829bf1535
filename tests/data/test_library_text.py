import ast
import hashlib
import inspect
import sysconfig
import warnings
from pathlib import Path
from pydoc_data import topics

import pytest

from jaxanatomy.data import library_text
from jaxanatomy.errors import InputError

MODULE = '''"""A module.

Text:
    indented
"""
import os


def f(x):
    """Says
    two lines."""
    return "kept"


class C:
    """Of a class."""
'''


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of a few files; `library(files)` writes them and forgets the other one."""
    caches = (library_text.library_files, library_text._split_files, library_text.sha256)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for cached in caches:
            cached.cache_clear()

    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(topics, "topics", {"b": "B" * 300, "a": "A" * 250, "c": ""})
    yield write
    for cached in caches:
        cached.cache_clear()


def long(text):
    return text + "#" * 300 + "\n"


def test_a_module_is_split_into_docstrings_and_the_rest():
    english, code = library_text.english_and_code(MODULE)
    assert english == "A module.\n\nText:\n    indented\n\nSays\ntwo lines.\n\nOf a class."
    assert code == 'import os\n\n\ndef f(x):\n    return "kept"\n\n\nclass C:'


def test_documents_come_in_the_order_of_names_without_tests_and_packages(library):
    library(
        {
            "z.py": long("z = 1\n"),
            "a/b.py": long("b = 1\n"),
            "a.py": long("a = 1\n"),
            "short.py": "s = 1\n",
            "test/t.py": long("t = 1\n"),
            "a/test/t.py": long("t = 1\n"),
            "site-packages/p.py": long("p = 1\n"),
            "template.py": long("def {name}:\n"),
            "latin.py": long("a = 1\n").encode() + b"\xff",
        }
    )
    found = list(library_text.documents("library_code"))
    assert [name for name, _ in found] == ["a/b.py", "a.py", "z.py"]
    assert found[2][1].startswith("z = 1\n#")


def test_topics_of_the_manual_follow_the_docstrings(library):
    library({"m.py": f'"""{"word " * 50}"""'})
    found = dict(library_text.documents("library_english"))
    assert list(found) == ["m.py", "pydoc_data.topics#a", "pydoc_data.topics#b"]
    assert found["m.py"] == ("word " * 50).strip()


def test_the_hash_follows_names_and_texts(library):
    hashes = []
    for files in ({"a.py": "x"}, {"a.py": "y"}, {"b.py": ""}):
        library(files)
        hashes.append(library_text.sha256())
    assert len(set(hashes)) == 3
    library({})
    assert library_text.sha256() == hashes[-1]


def test_the_hash_follows_the_way_of_reading(library, monkeypatch):
    hashes = []
    for changed in (None, "RECIPE", "HELD_OUT", "MIN_CHARACTERS"):
        with monkeypatch.context() as patched:
            if changed:
                patched.setattr(library_text, changed, 7)
            library({"a.py": "x"})
            hashes.append(library_text.sha256())
    assert len(set(hashes)) == 4


def test_a_python_without_files_is_refused(library):
    library({})
    with pytest.raises(InputError, match="library text needs the files of Python's library; "):
        library_text.library_files()


def test_old_escapes_are_read_whatever_the_settings_of_warnings(library):
    library({"a.py": long("x = '\\d'\n")})
    with warnings.catch_warnings(action="error"):
        assert [name for name, _ in library_text.documents("library_code")] == ["a.py"]


def test_files_are_held_out_by_a_hash_of_their_names():
    names = [f"{index}.py" for index in range(2000)]
    held_out = [name for name in names if library_text.held_out(name)]
    naive = [
        name
        for name in names
        if int(hashlib.blake2b(name.encode(), digest_size=8).hexdigest(), 16) % 20 == 0
    ]
    assert held_out == naive
    assert 60 < len(held_out) < 140


def test_the_running_python_has_a_library():
    files = library_text.library_files()
    assert len(files) > 200
    assert ("ast.py", Path(ast.__file__).read_text("utf-8")) in files
    assert any(library_text.held_out(name) for name, _ in files)


def test_a_module_of_the_running_python_makes_a_document_of_each_kind(monkeypatch):
    parts = library_text.english_and_code(Path(ast.__file__).read_text("utf-8"))
    monkeypatch.setattr(library_text, "_split_files", lambda: (("ast.py", *parts),))
    english, code = (dict(library_text.documents(kind))["ast.py"] for kind in library_text.KINDS)
    for docstring in (ast.__doc__, ast.NodeVisitor.__doc__, ast.literal_eval.__doc__):
        assert inspect.cleandoc(docstring) in english
        assert docstring not in code
    assert "class NodeVisitor(object):" in code
    assert "class NodeVisitor" not in english

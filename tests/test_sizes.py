"""Files of at most 400 lines and functions of at most 60: no tail."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("jaxanatomy", "experiments", "configs", "tools", "tests")
MOST_LINES_OF_FILE = 400
MOST_LINES_OF_FUNCTION = 60


def too_long(name, text):
    """The file and those of its functions that are too long, one line each."""
    lines = len(text.splitlines())
    faults = [f"{name}: {lines} lines"] if lines > MOST_LINES_OF_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MOST_LINES_OF_FUNCTION:
                faults.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    return faults


def test_files_and_functions_are_short():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 20
    faults = [
        fault
        for path in paths
        for fault in too_long(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    ]
    assert faults == []


def test_the_limits_are_exact():
    assert too_long("a.py", "x = 1\n" * 400) == []
    assert too_long("a.py", "x = 1\n" * 401) == ["a.py: 401 lines"]
    assert too_long("a.py", "def f():\n" + "    x = 1\n" * 59) == []
    assert too_long("a.py", "def f():\n" + "    x = 1\n" * 60) == ["a.py:1 f: 61 lines"]

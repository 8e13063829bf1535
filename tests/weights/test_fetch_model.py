import runpy
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fetch_model.py"


@pytest.fixture
def main():
    return runpy.run_path(str(TOOL))["main"]


def test_it_prints_where_the_model_lies(main, checkpoint, write_folder, capsys):
    folder = write_folder(checkpoint)
    assert main([f"random:file:{folder}"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)


def test_bad_input_is_one_line_and_status_2(main, capsys):
    assert main(["smollm"]) == 2
    assert main(["file:/no/such/model"]) == 2
    assert main(["a", "b"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 3

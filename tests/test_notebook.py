"""The notebook runs from top to bottom and shows what its text says."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "first_look.ipynb"
SECONDS = 300


# In a process of its own: Jupyter's sockets and event loops warn of themselves.
EXECUTE = """
import sys
import jupyter_client, nbclient, nbformat
from jupyter_client.kernelspec import KernelSpecManager

source, target, kernels, seconds = sys.argv[1:]
manager = jupyter_client.AsyncKernelManager(
    kernel_name="here", kernel_spec_manager=KernelSpecManager(kernel_dirs=[kernels])
)
notebook = nbformat.read(source, as_version=4)
nbclient.NotebookClient(notebook, km=manager, timeout=int(seconds)).execute(cwd=kernels)
nbformat.write(notebook, target)
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The code cells after a run in a fresh kernel of the running interpreter."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "here").mkdir()
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "here", "language": "python"}
    (folder / "here" / "kernel.json").write_text(json.dumps(spec))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    result = subprocess.run(
        [sys.executable, "-c", EXECUTE, NOTEBOOK, folder / "out.ipynb", folder, str(SECONDS)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    notebook = nbformat.read(folder / "out.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cells, containing):
    """What the cell with this line of code wrote."""
    (cell,) = [cell for cell in cells if containing in cell.source]
    return "".join(output.get("text", "") for output in cell.outputs)


def test_it_is_stored_without_results():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)


@pytest.mark.real
@pytest.mark.slow
def test_it_runs_and_shows_what_it_says(executed):
    streams = [output for cell in executed for output in cell.outputs if "name" in output]
    assert [output.text for output in streams if output.name == "stderr"] == []
    pictures = [cell.source for cell in executed if "image/png" in str(cell.outputs)]
    assert [source.splitlines()[-1] for source in pictures] == [
        "ja.plot.importance(rows)",
        "ja.plot.importance(halved_rows)",
    ]
    table = printed(executed, "summary_table")
    (shown,) = re.findall(r"baseline perplexity ([\d.]+), 101 predicted tokens", table)
    assert float(shown) == pytest.approx(26.53444, rel=1e-4)

    positions = printed(executed, '"others"]').replace(",", "")
    perplexity = [float(value) for value in re.findall(r"perplexity +([\d.]+)", positions)]
    baseline, everywhere, first, others = perplexity
    assert (everywhere, first, others) == pytest.approx((9092.5, 3731.8, 37.6), rel=2e-3)
    assert baseline == pytest.approx(26.5)

    entropies = [
        float(value) for value in re.findall(r"entropy +([\d.]+)", printed(executed, "C,"))
    ]
    assert len(entropies) == 4
    assert all(1 < value < math.log(49152) for value in entropies)
    assert len(set(entropies)) == 4
    assert printed(executed, "unclear").startswith("halving may or may not hurt at layers ")

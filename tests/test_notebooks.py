"""The notebooks run from their first cell to their last, on a tiny model; in a real kernel where one is installed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import house
import pytest

from swm.testing import tiny_model, tiny_tokenizer

FOLDER = house.ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STORIES = house.ROOT.parent / "shared" / "models" / "stories260K"
SHORT = "SAMPLES, LENGTH = 4, 32"
# What stands in place of the first cell with code, which says on which model and how long.
SETTINGS = {
    "depth-or-width": "MODEL = {folder!r}\n" + SHORT + "\nTOKENS = 256",
    "own-model": "MODEL = {folder!r}\n" + SHORT,
}


EXECUTE = """
import sys
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

notebook = nbformat.read("in.ipynb", as_version=4)
manager = AsyncKernelManager(kernel_name="python3")
# This very Python, whatever kernels are installed.
command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
manager._kernel_spec = KernelSpec(argv=command, display_name="Python 3", language="python")
NotebookClient(notebook, timeout=600, km=manager).execute()
nbformat.write(notebook, "out.ipynb")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny real model where it is, else one with random weights."""
    if STORIES.is_dir():
        return STORIES
    place = tmp_path_factory.mktemp("notebooks") / "tiny"
    tiny_model("llama", max_position_embeddings=512).save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return place


def cells(notebook: Path) -> list[dict[str, Any]]:
    read: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return list(read["cells"])


def code(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"]


def set_up(notebook: Path, folder: Path) -> list[str]:
    """The cells with code, the first of them for a short run on the tiny model."""
    first, *others = code(notebook)
    settings = SETTINGS[notebook.stem].format(folder=str(folder))
    names = {name for line in (first, settings) for name in re.findall(r"^([A-Z, ]+) = ", line, re.M)}
    assert names == set(re.findall(r"^([A-Z, ]+) = ", settings, re.M)), "the first cell sets what the test sets"
    return [settings, *others]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(ast.Module(tree.body[:-1] if last else tree.body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_the_cells_run_in_their_order(
    notebook: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for source in set_up(notebook, folder):
        if "IPython" in source and importlib.util.find_spec("IPython") is None:
            continue  # shows a file
        shown = run_cell(source, names)
        assert "\n" not in repr(shown)
        if type(shown).__module__.startswith("swm."):
            assert shown._repr_html_()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_kernel_shows_progress_and_tables(notebook: Path, folder: Path, tmp_path: Path) -> None:
    for package in ("nbformat", "nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    read = json.loads(notebook.read_text(encoding="utf-8"))
    runs = [cell for cell in read["cells"] if cell["cell_type"] == "code"]
    for cell, source in zip(runs, set_up(notebook, folder), strict=True):
        cell["source"], cell["outputs"] = source, []
    (tmp_path / "in.ipynb").write_text(json.dumps(read), encoding="utf-8")
    # A process of its own: the client leaves sockets to be collected.
    environment = {**os.environ, "SWM_CACHE": str(tmp_path / "cache")}
    ran = subprocess.run([sys.executable, "-c", EXECUTE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
    done = json.loads((tmp_path / "out.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in done["cells"] for output in cell.get("outputs", ())]
    shown = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert "perplexity" in shown
    assert "<table>" in shown
    assert re.search(r": [\d.]+ s", shown), "progress stays in what is saved"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_what_is_committed_was_run_from_top_to_bottom(notebook: Path) -> None:
    """Each cell with its number, tables among the outputs, and nothing of the machine that ran it."""
    runs = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in runs] == list(range(1, len(runs) + 1))
    text = notebook.read_text(encoding="utf-8")
    assert "<table>" in text
    assert not re.search(r'"output_type": "error"|"name": "stderr"|Traceback', text)
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    assert notebook.stat().st_size < 500_000

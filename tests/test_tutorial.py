"""The notebook of the docs runs from top to bottom, with a tiny model in place of the starter."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


def test_it_is_stored_without_results() -> None:
    """They would be those of one machine, and a path or a name could be in them."""
    cells = json.loads(TUTORIAL.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert [cell["outputs"] for cell in code] == [[]] * len(code)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    (tmp_path / "docs").mkdir()
    for name in ("answers.csv", "emails.csv"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs")
    (tmp_path / "results").symlink_to(ROOT / "results")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    replaced = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, found = re.subn('^MODEL = "starter"', f"MODEL = {str(tiny_model('llama'))!r}", cell.source)
            replaced += found
    assert replaced == 1
    where = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=where).execute()
    shown = {
        cell.source: json.dumps([output.get("data", output) for output in cell.outputs])
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    [verdict] = [text for source, text in shown.items() if "sentences[:4]" in source]
    assert "No single winner" in verdict
    [chart] = [text for source, text in shown.items() if "plot" in source]
    assert "vega" in chart
    [mine] = [text for source, text in shown.items() if "to.compare" in source]
    assert "<table>" in mine
    assert (tmp_path / "docs" / "runs" / "tutorial" / "report.html").exists()

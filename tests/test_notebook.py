"""The notebook runs from its top to its end, in a kernel of its own."""

import os
import sys
from pathlib import Path

import pytest

import samecast

ROOT = Path(__file__).parents[1]
nbformat = pytest.importorskip("nbformat", reason="pip install 'samecast[dev]'")
nbclient = pytest.importorskip("nbclient", reason="pip install 'samecast[dev]'")


@pytest.mark.filterwarnings("ignore")  # of the libraries that start the kernel
def test_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": "4", "LEARN": "2", "OUT": str(tmp_path), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(samecast.__file__).parents[1]), *sys.path[:0]]))
    notebook = nbformat.read(ROOT / "examples" / "first-steps.ipynb", as_version=4)
    # A kernel of this very Python, whatever is registered on the machine.
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    spec = tmp_path / "jupyter" / "kernels" / "here"
    spec.mkdir(parents=True)
    command = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (spec / "kernel.json").write_text(f'{{"argv": {command}, "display_name": "here", "language": "python"}}')
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="here", resources={"metadata": {"path": str(ROOT / "examples")}}
    )
    client.execute()
    shown = ["".join(str(output.get("data", {})) for output in cell.get("outputs", [])) for cell in notebook.cells]
    assert sum("data:image" in text or "image/png" in text for text in shown) >= 6
    assert (tmp_path / "rex" / "render.json").is_file()
    assert (tmp_path / "concept" / "concept.safetensors").is_file()
    assert "layers encoder" in next(text for text in shown if "final 0.3" in text)


def test_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(ROOT / "examples" / "first-steps.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)

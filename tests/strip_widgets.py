"Takes live widgets out of the notebooks' outputs: without a kernel they are dead, and the recording below each shows the same."

from pathlib import Path

import nbformat

WIDGET = "application/vnd.jupyter.widget-view+json"
TOP = Path(__file__).resolve().parent.parent


def strip(path: Path) -> bool:
    "Whether a notebook had widgets in its outputs; they are gone now, and the sentence that stands for each stays."
    notebook = nbformat.read(path, as_version=4)
    found = notebook.metadata.pop("widgets", None) is not None  # their state, a picture for each
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found |= output.get("data", {}).pop(WIDGET, None) is not None
    if found:
        nbformat.write(notebook, path)
    return found


if __name__ == "__main__":
    for path in sorted(TOP.glob("nbs/**/*.ipynb")):
        if strip(path):
            print(f"{path.relative_to(TOP)}: widgets taken out")

"""Takes out of the notebooks' outputs what only lives while they run: widgets, progress bars, and the names
of temporary folders.

Without a kernel a widget is dead; on the site the instrument stands in its place."""

import re
from pathlib import Path

import nbformat

WIDGET = "application/vnd.jupyter.widget-view+json"
TOP = Path(__file__).resolve().parent.parent
# bars of tqdm and of a study; what PyTorch's profiler and compiler report of themselves
PROGRESS = re.compile(r".*?: +\d+%\||cells: \d+/\d+ done|(USDT|ERROR):|[WI]\d{4} [\d:.]+ ")
TEMPORARY = re.compile(r"/tmp/tmp\w+(?=/|\b)")


def without_progress(text: str) -> str:
    "What is left of the words of cells that show progress: all lines that are not that."
    lines = (
        line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
        for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).split("\n")
    )
    return "".join(f"{line}\n" for line in lines if line and not PROGRESS.match(line))


def tidy(notebook: nbformat.NotebookNode) -> bool:
    "Whether there was something to take out; it is gone now, and the words that stand for each widget stay."
    found = notebook.metadata.pop("widgets", None) is not None  # their state, a picture for each
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found |= output.get("data", {}).pop(WIDGET, None) is not None
            texts = output if output.output_type == "stream" else output.get("data", {})
            for kind in {"text", "text/plain", "text/html", "text/markdown"} & texts.keys():
                text = without_progress(texts[kind]) if output.get("name") == "stderr" else texts[kind]
                text = TEMPORARY.sub("scratch", text)
                found |= text != texts[kind]
                texts[kind] = text
        if "outputs" in cell:
            cell.outputs = [
                output for output in cell.outputs if output.output_type != "stream" or output.text
            ]
    return found


if __name__ == "__main__":
    for path in sorted(TOP.glob("nbs/**/*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if tidy(notebook):
            nbformat.write(notebook, path)
            print(f"{path.relative_to(TOP)}: tidied")

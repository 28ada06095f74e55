"""Takes out of the notebooks' outputs what only lives while they run: widgets, and every state of a progress bar but the last.

Without a kernel a widget is dead, and the recording below each shows the same."""

import re
from pathlib import Path

import nbformat

WIDGET = "application/vnd.jupyter.widget-view+json"
TOP = Path(__file__).resolve().parent.parent


BAR = re.compile(r"(?P<name>.*?): +\d+%\|")


def last_states(text: str) -> str:
    "What is left of the words of progress bars: the last state of each, and all other lines."
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).split("\n"))
    shown: dict[str, str] = {}
    for line in filter(None, lines):
        bar = BAR.match(line)
        shown[bar["name"] if bar else line] = line
    return "".join(f"{line}\n" for line in shown.values())


def tidy(notebook: nbformat.NotebookNode) -> bool:
    "Whether there was something to take out; it is gone now, and the sentence that stands for each widget stays."
    found = notebook.metadata.pop("widgets", None) is not None  # their state, a picture for each
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for output in outputs:
            found |= output.get("data", {}).pop(WIDGET, None) is not None
        bars = [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]
        text = "".join(bar.text for bar in bars)
        if "\r" in text:
            found, bars[0].text = True, last_states(text)
            cell.outputs = [o for o in outputs if o is bars[0] and o.text or all(o is not bar for bar in bars)]
    return found


if __name__ == "__main__":
    for path in sorted(TOP.glob("nbs/**/*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if tidy(notebook):
            nbformat.write(notebook, path)
            print(f"{path.relative_to(TOP)}: tidied")

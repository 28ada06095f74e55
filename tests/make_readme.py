"""README.md from nbs/index.ipynb. Without an argument it writes the file; with `--check` it says whether it
is current."""

import re
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from traitlets.config import Config

TOP = Path(__file__).resolve().parent.parent


def site() -> str:
    "Where the site is."
    settings = ConfigParser(delimiters=["="])
    settings.read(TOP / "settings.ini", encoding="utf-8")
    return settings["DEFAULT"]["doc_host"] + settings["DEFAULT"]["doc_baseurl"]


def readme() -> str:
    "The home page as Markdown: cells marked `#| hide` left out, links and pictures seen from the top folder."
    notebook = nbformat.read(TOP / "nbs" / "index.ipynb", as_version=4)
    for number, cell in enumerate(notebook.cells):
        # there is nothing to move on a code host: a picture of it, which leads to the site
        if "data-instrument" in str(cell.get("outputs")):
            notebook.cells[number] = nbformat.v4.new_markdown_cell(
                "[![The instrument: sliders and a sprite, its code as a map of groups and symbols, and the "
                f"picture decoded from it](images/instrument.png)]({site()})"
            )
        elif cell.source.startswith("#| hide"):
            cell.metadata["tags"] = ["hidden"]
        elif cell.source.startswith("#| echo: false"):
            cell.metadata["tags"] = ["output_only"]
    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_cell_tags = {"hidden"}
    config.TagRemovePreprocessor.remove_input_tags = {"output_only"}
    exporter = MarkdownExporter(config=config)
    exporter.register_preprocessor(TagRemovePreprocessor(config=config), enabled=True)
    text, _ = exporter.from_notebook_node(notebook)
    text = re.sub(r"\]\((?!https?:|nbs/)", "](nbs/", text)
    return "<!-- made from nbs/index.ipynb by `make readme` -->\n" + text.strip() + "\n"


if __name__ == "__main__":
    path = TOP / "README.md"
    if "--check" in sys.argv:
        current = path.read_text(encoding="utf-8") == readme()
        print(
            "README.md is current"
            if current
            else "README.md is not what nbs/index.ipynb says: run `make readme`"
        )
        sys.exit(not current)
    path.write_text(readme(), encoding="utf-8")

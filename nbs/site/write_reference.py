"""Before Quarto or smalldocs: writes reference.md, every exported function and class with a link and what it
is."""

import ast
import re
from pathlib import Path

HEAD = """---
title: Reference
description: Every exported function and class, module by module
---

Each name leads to its place in the notebook that builds it: the signature with its parameters, an example, a
test.
"""


def table(module: ast.Module, notebook: str) -> str:
    "A row for each function and class that the module exports."
    (exported,) = (
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__"
    )
    said = {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0].replace("|", r"\|")
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    rows = [f"| [`{name}`]({notebook}#{name.lower()}) | {said[name]} |" for name in exported if name in said]
    return "\n".join(["| name | what it is |", "|:--|:--|", *rows])


def reference(package: Path) -> str:
    "The page: a heading and a table for each module, in the order of the notebooks."
    sections = []
    for path in package.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if source := re.search(r"File to edit: \.\./nbs/(\S+\.ipynb)", text):
            module = ast.parse(text)
            title = f"## [{path.stem}]({source[1]})"
            sections.append(
                (source[1], f"{title}\n\n{ast.get_docstring(module)}.\n\n{table(module, source[1])}\n")
            )
    return "\n".join([HEAD, *(text for _, text in sorted(sections))])


if __name__ == "__main__":
    Path("reference.md").write_text(reference(Path("../soft_ssl")), encoding="utf-8")

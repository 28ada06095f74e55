"The repository itself: notebooks and package in step, README current, notebooks clean, small and executed."

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from tidy_outputs import tidy

TOP = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(TOP.glob("nbs/**/*.ipynb"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "What nbdev reads and writes, in a folder of its own."
    folder = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "soft_ssl"):
        shutil.copytree(
            TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        )
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md"):
        shutil.copy(TOP / name, folder)
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
    return folder


def test_package_is_what_the_notebooks_export(copy):
    shutil.rmtree(copy / "soft_ssl")
    (copy / "soft_ssl").mkdir()
    shutil.copy(TOP / "soft_ssl" / "__init__.py", copy / "soft_ssl")
    subprocess.run(["nbdev_export"], cwd=copy, check=True)
    exported, here = ({p.name: p.read_text() for p in (top / "soft_ssl").glob("*.py")} for top in (copy, TOP))
    assert exported == here


def test_a_package_inside_of_another_repository_has_no_commit(copy, tmp_path):
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    (tmp_path / "mine.py").touch()
    subprocess.run(["git", "add", "mine.py"], cwd=tmp_path, check=True)
    author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, "commit", "-qm", "mine"], cwd=tmp_path, check=True)
    shutil.copytree(copy / "soft_ssl", tmp_path / "environment" / "soft_ssl")
    asked = subprocess.run(
        [sys.executable, "-c", "from soft_ssl.runs import provenance; print(provenance()['git_commit'])"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "environment")}, capture_output=True,
        text=True, check=True
    )
    assert asked.stdout.strip() == "not a git checkout"


def test_notebooks_are_clean(copy):
    before = {p: p.read_text() for p in copy.glob("nbs/**/*.ipynb")}
    subprocess.run(["nbdev_clean"], cwd=copy, check=True)
    assert [p.name for p, text in before.items() if p.read_text() != text] == []


def test_readme_is_current():
    command = [sys.executable, TOP / "tests" / "make_readme.py", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small_executed_and_without_errors(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert path.stat().st_size < 1_000_000
    assert outputs
    assert [output for output in outputs if output.output_type == "error"] == []
    assert not tidy(notebook), "run tests/tidy_outputs.py"


def prose(path):
    "The markdown of a notebook or page."
    if path.suffix == ".md":
        return path.read_text()
    return "\n\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    )


def anchors(path):
    "What the headings of a page are called in links: small letters, hyphens, no other signs."
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ +(.+)$", prose(path), re.MULTILINE)
    }


# a link's text, and where it leads
NAMED = {
    "the study": "04a_study", "the benchmark": "94_benchmark", "probes": "03_probes", "metrics": "03a_metrics"
}


@pytest.mark.parametrize("path", [*NOTEBOOKS, TOP / "README.md"], ids=lambda path: path.stem)
def test_links_lead_to_a_page_and_to_a_heading_of_it(path):
    wrong = []
    for text, target in re.findall(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?:|mailto:", target):
            continue
        page, _, anchor = target.partition("#")
        page = path.parent / page if page else path
        if (
            not page.exists() or (anchor and anchor not in anchors(page))
            or NAMED.get(text, page.stem) != page.stem
        ):
            wrong.append(f"[{text}]({target})")
        # the site makes links of names in backticks itself, and one in another breaks both
        if "`" in text and path.suffix == ".ipynb":
            wrong.append(f"[{text}]({target}): no backticks")
    assert wrong == []


# code, formulas, addresses, numbers of papers
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|\d{4}\.\d{5}", re.DOTALL)
IN_PROSE = re.compile(r"(?<![\w.,/:-])\d+\.\d+(?![\w.])")
# facts that no computation of ours gives: sizes of archives and data sets, versions of Python, a constant of
# a paper
FACTS = {
    "01b_mpi3d": {"5.7", "12.7"}, "03c_transfer": {"1.3"}, "05_scale": {"0.0051"}, "index": {"3.10", "3.11"}
}


def numbers_in(text: str) -> set[float]:
    return {abs(float(number)) for number in re.findall(r"\d+\.?\d*(?:e[-+]?\d+)?", text.replace(",", ""))}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_in_prose_stand_in_an_output_or_in_code(path):
    cells, there = nbformat.read(path, as_version=4).cells, set()
    for cell in cells:
        if cell.cell_type == "code":
            kinds = ("text/plain", "text/html", "text/markdown")
            texts = [cell.source, *(output.get("text", "") for output in cell.outputs)]
            texts += [output.get("data", {}).get(kind, "") for output in cell.outputs for kind in kinds]
            there |= numbers_in(" ".join(texts))
    missing = []
    for number in IN_PROSE.findall(
        " ".join(NOT_PROSE.sub("", cell.source) for cell in cells if cell.cell_type == "markdown")
    ):
        half = 0.5000001 * 10 ** -len(number.split(".")[1])
        # a share may be said in percent
        if (
            number not in FACTS.get(path.stem, ())
            and not any(abs(float(number) - scale * value) <= half for value in there for scale in (1, 100))
        ):
            missing.append(number)
    assert missing == [], "these numbers in prose stand in no output: show or check them"


def test_style():
    for command in (["ruff", "check", "tests", "setup.py"], ["nbqa", "ruff", "nbs"]):
        checked = subprocess.run(
            [sys.executable, "-m", *command], cwd=TOP, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_types():
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "soft_ssl"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

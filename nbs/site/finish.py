"""After Quarto or smalldocs: makes the site whole without a network. What Quarto has done already is left as
it is.

- smalldocs writes formulas as TeX for a script from a CDN: they become MathML here, and nothing is loaded
  from other hosts.
- nbdev names a page after its module (`byol.html`), and links to it on the published site; smalldocs names it
  after its notebook (`02_byol.html`). Pages get nbdev's names, and links to them stay on the site. nbdev also
  links to methods that have no heading of their own: those lead to their class.
- A picture without a description gets the paragraph before it.
- nbdev shows a class as `def Name(*args, **kwargs)` where its fields are its signature, and leaves links of
  docstrings raw in signatures: here a class is a class, with its fields, and names are names.
- Every page leads to its notebook; cells that only test, and long ones, are folded.
- Charts are told from pictures of data, so that the dark theme can turn the former and leave the latter.
- Where a notebook shows the instrument, the page loads it, from the folder `instrument`, with the networks
  and what computes them.
"""

import ast
import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import yaml
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from PIL import Image

WEB_IMPORT = re.compile(r"""@import\s*(url\(["']?https?://[^)]*\)|["']https?://[^"']*["'])[^;]*;""")
FULL_STOP = re.compile(r"(?<=[.:?!])\s")
RAW_LINK = re.compile(r"\[`([^`\]]+)`\]\(http[^)]*\)")
NO_SIGNATURE = re.compile(r"\(\s*\*args(:Any)?, \*\*kwargs(:Any)?\s*\)")
LONG = 25  # lines of code that are shown without being unfolded


def page_names(project: Path) -> dict[str, str]:
    "Where smalldocs writes a page, and where `output-file` in the notebook's front matter wants it."
    names = {}
    for notebook in project.glob("**/*.ipynb"):
        first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]
        front = yaml.safe_load("".join(first["source"]).strip("-\n ")) if first["cell_type"] == "raw" else {}
        page = notebook.relative_to(project).with_suffix(".html")
        names[page.as_posix()] = page.with_name(front.get("output-file", page.name)).as_posix()
    return names


def rename(link: str, page: str, names: dict[str, str], published: str) -> str:
    "The link as it stands on the page (its new name) when pages have their new names."
    path, hash_mark, anchor = link.partition("#")
    folder = os.path.dirname(page)
    if path.startswith(published):
        target = path.removeprefix(published).lstrip("/")
    elif not path or ":" in path:
        return link
    else:
        target = os.path.normpath(os.path.join(folder, path))
    if target not in names and target not in names.values():
        return link
    return os.path.relpath(names.get(target, target), folder or ".") + hash_mark + anchor


def text_before(image: Tag) -> str:
    "The first sentence of the paragraph or heading before a picture."
    before = image.find_previous(["p", "h1", "h2", "h3"])
    return FULL_STOP.split(" ".join(before.get_text().split()))[0] if before else "figure"


def field_of(lines: list[str], part: ast.AnnAssign) -> str:
    "A field as a line of a signature, with what stands behind it or above it."
    field, above = (lines[part.lineno - n].strip() for n in (1, 2))
    return f"{field}  {above}" if above.startswith("#") else field


def classes_of(package: Path) -> dict[str, list[str] | None]:
    "Fields of each class, as lines of its signature; None where the class is no tuple of fields."
    found: dict[str, list[str] | None] = {}
    for path in package.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                fields = [field_of(lines, part) for part in node.body if isinstance(part, ast.AnnAssign)]
                made = any(
                    isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body
                )
                found[node.name] = None if made else fields
    return found


def tidy_signatures(soup: BeautifulSoup, classes: dict[str, list[str] | None]) -> None:
    "Classes as classes, fields where nbdev found no signature, names without links."
    for code in soup.select("main pre code"):
        for words in code.find_all(string=RAW_LINK):
            words.replace_with(RAW_LINK.sub(r"\1", words))
    for heading in soup.select("main .cell-output-markdown h3[id]"):
        code, name = heading.find_next("code", class_="sourceCode"), heading.get_text().strip()
        if code is None or name not in classes or not code.get_text().startswith("def "):
            continue
        fields = classes[name]
        if fields is not None and NO_SIGNATURE.search(code.get_text()):
            code.clear()
            code.append(
                "class "
                + (f"{name}(\n" + "\n".join(f"    {field}" for field in fields) + "\n)" if fields else name)
            )
        else:
            code.find(string=re.compile("^def$")).replace_with("class")
    for words in soup.find_all(string=re.compile("__main__")):
        following = words.find_next(string=True)
        # the dot is marked as an operator
        if words.endswith("__main__") and following is not None and following.startswith("."):
            following.replace_with(following[1:])
        words.replace_with(words.replace("__main__.", "").removesuffix("__main__"))


def only_tests(source: str) -> bool:
    "Whether a cell checks something, and shows nothing."
    try:
        nodes = [node for part in ast.parse(source).body for node in ast.walk(part)]
    except SyntaxError:
        return False
    return any(
        isinstance(node, ast.Assert) or (
            isinstance(node, ast.Name) and node.id in ("test_eq", "test_close", "test_fail", "test_ne")
        )
        for node in nodes
    )


def fold(soup: BeautifulSoup) -> int:
    "Puts cells that only test, and long ones, behind a line to unfold them; how many."
    folded = 0
    for cell in soup.select("main div.cell"):
        code = (
            cell.select_one("div.sourceCode.cell-code")
            or cell.select_one(":scope > .code-copy-outer-scaffold")
        )
        shows = cell.select_one(".cell-output")
        if code is None or (shows is not None and code in shows.descendants):
            continue
        source = code.get_text().strip()
        lines = source.count("\n") + 1
        words = "test" if not shows and only_tests(source) else "code" if lines > LONG else ""
        if words and code.find_parent("details") is None:
            details, summary = soup.new_tag("details", attrs={"class": "folded"}), soup.new_tag("summary")
            summary.string = f"{words}, {lines} lines"
            code.wrap(details).insert(0, summary)
            folded += 1
    return folded


def add_links(soup: BeautifulSoup, notebook: str, repository: str) -> None:
    "Says under the title where the page's notebook is, and begins the page with a link past the sidebar."
    main, header = soup.select_one("main"), soup.select_one("#title-block-header")
    if main is None or header is None:
        return
    path = f"{repository.removeprefix('https://github.com/')}/blob/main/nbs/{notebook}"
    links = [
        ("download", Path(notebook).name),
        ("open in Colab", f"https://colab.research.google.com/github/{path}"),
        ("source", f"https://github.com/{path}")
    ]
    line = BeautifulSoup(
        '<p class="notebook-links">This page is a notebook: '
        + " · ".join(f'<a href="{to}">{words}</a>' for words, to in links) + "</p>",
        "html.parser"
    )
    header.insert_after(line)
    skip = soup.new_tag("a", href="#quarto-document-content", attrs={"class": "skip-link"})
    skip.string = "Skip to the text"
    soup.body.insert(0, skip)


MATHS_FONT = "@fontsource/stix-two-math/files/stix-two-math-latin-400-normal.woff2"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def put_instrument(top: Path, site: Path) -> None:
    """The instrument's module, the committed networks as ONNX, ONNX Runtime Web, and the font of formulas,
    beside the pages."""
    folder = site / "instrument"
    networks = top / "nbs" / "results" / "networks"
    fetched = top / "build" / "site" / "node_modules"
    (folder / "runtime").mkdir(parents=True, exist_ok=True)
    shutil.copy(top / "soft_ssl" / "instrument.js", folder)
    for file in [
        *networks.glob("*.json"), *networks.glob("*/*.onnx"), *networks.glob("*/sample.safetensors")
    ]:
        (folder / file.relative_to(networks)).parent.mkdir(exist_ok=True)
        shutil.copy(file, folder / file.relative_to(networks))
    for name in RUNTIME:
        shutil.copy(fetched / "onnxruntime-web" / "dist" / name, folder / "runtime")
    (site / "fonts").mkdir(exist_ok=True)
    shutil.copy(fetched / MATHS_FONT, site / "fonts" / "stix-two-math.woff2")


def load_instrument(soup: BeautifulSoup, page: str) -> None:
    "A page that has a place for the instrument loads it."
    if soup.select_one("[data-instrument]"):
        soup.body.append(
            soup.new_tag(
                "script", type="module",
                src=os.path.relpath("instrument/instrument.js", os.path.dirname(page) or ".")
            )
        )


INVERTED = 0.45, 0.04  # a figure is a chart if more than this share of it is white, and less than that black


def is_chart(image: Tag, folder: Path) -> bool:
    """Whether a picture is lines and letters on white, which in the dark can be light on dark; images of a
    data set stay as they are."""
    source = image.get("src", "")
    data = (
        base64.b64decode(source.partition(",")[2]) if source.startswith("data:image/png")
        else (folder / source).read_bytes() if source.endswith(".png") else b""
    )
    if not data:
        return source.endswith("idea.svg")
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    shades = np.asarray(Image.alpha_composite(white, picture).convert("L"))
    return bool((shades > 240).mean() > INVERTED[0] and (shades < 25).mean() < INVERTED[1])


def finish_page(
    text: str, page: str, folder: Path, names: dict[str, str], published: str,
    classes: dict[str, list[str] | None]
) -> tuple[BeautifulSoup, dict[str, int]]:
    "The page made whole, and how many formulas, pictures, and pictures without a description it has."
    soup = BeautifulSoup(text, "html.parser")
    tidy_signatures(soup, classes)
    for element in soup.select("link[rel=stylesheet][href^=http], script[src^=http]"):
        element.decompose()
    for span in soup.select("span.math"):
        tex = span.get_text()
        if tex.startswith(("\\(", "\\[")):
            mathml = convert(tex[2:-2], display="block" if tex.startswith("\\[") else "inline")
            formula = BeautifulSoup(mathml, "html.parser").math
            formula["alttext"] = tex[2:-2]
            span.clear()
            span.append(formula)
    for link in soup.select("a[href]"):
        to_method = link["href"].startswith(published) and "." in link["href"].partition("#")[2]
        target = link["href"].rpartition(".")[0] if to_method else link["href"]
        link["href"] = rename(target, page, names, published)
    pictures = soup.select("img")
    undescribed = [image for image in pictures if not image.get("alt")]
    for image in undescribed:
        image["alt"] = text_before(image)
    for image in pictures:
        if is_chart(image, folder):
            image["class"] = [*image.get("class", []), "chart"]
    counts = dict(
        formulas=len(soup.select("math")), pictures=len(pictures), undescribed=len(undescribed),
        folded=fold(soup)
    )
    return soup, counts


def finish(project: Path, site: Path) -> str:
    "Makes every page, the search index and the style sheets whole; says what the site holds."
    settings = yaml.safe_load((project / "nbdev.yml").read_text(encoding="utf-8"))
    published, names = settings["website"]["site-url"], page_names(project)
    repository, top = settings["website"]["repo-url"], project.parent
    classes = classes_of(top / "soft_ssl")
    notebooks = {page: Path(old).with_suffix(".ipynb").as_posix() for old, page in names.items()}
    put_instrument(top, site)
    total = dict(pages=0, formulas=0, pictures=0, undescribed=0, folded=0)
    for path in sorted(site.glob("**/*.html")):
        old = path.relative_to(site).as_posix()
        page = names.get(old, old)
        soup, counts = finish_page(
            path.read_text(encoding="utf-8"), page, path.parent, names, published, classes
        )
        if (notebook := notebooks.get(page)) and (top / "nbs" / notebook).exists():
            add_links(soup, notebook, repository)
            shutil.copy(top / "nbs" / notebook, (site / page).parent)
        load_instrument(soup, page)
        path.unlink()
        (site / page).write_text(str(soup), encoding="utf-8")
        total = {name: total[name] + counts.get(name, 1) for name in total}
    for path in site.glob("**/*.css"):
        path.write_text(WEB_IMPORT.sub("", path.read_text(encoding="utf-8")), encoding="utf-8")
    index = json.loads((site / "search.json").read_text(encoding="utf-8"))
    for entry in index:
        entry["href"] = rename(entry["href"], "", names, published)
    (site / "search.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    if (sitemap := site / "sitemap.xml").exists():
        text = sitemap.read_text(encoding="utf-8")
        for old, page in names.items():
            text = text.replace(f"/{old}</loc>", f"/{page}</loc>")
        sitemap.write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in site.glob("**/*") if path.is_file()) / 1e6
    return ", ".join(
        f"{number} {name}" for name, number in total.items()
    ) + f" (pictures that were undescribed have the text before), {size:.1f} MB"


if __name__ == "__main__":
    project = Path.cwd()
    print(finish(project, project / os.environ["QUARTO_PROJECT_OUTPUT_DIR"]))

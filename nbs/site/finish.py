"""After Quarto or smalldocs: makes the site whole without a network. What Quarto has done already is left as it is.

- smalldocs writes formulas as TeX for a script from a CDN: they become MathML here, and nothing is loaded from other hosts.
- nbdev names a page after its module (`byol.html`), and links to it on the published site; smalldocs names it after
  its notebook (`02_byol.html`). Pages get nbdev's names, and links to them stay on the site. nbdev also links to methods
  that have no heading of their own: those lead to their class.
- A picture without a description gets the paragraph before it.
"""

import json
import os
import re
from pathlib import Path

import yaml
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert

WEB_IMPORT = re.compile(r"""@import\s*(url\(["']?https?://[^)]*\)|["']https?://[^"']*["'])[^;]*;""")
FULL_STOP = re.compile(r"(?<=[.:?!])\s")


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


def finish_page(text: str, page: str, names: dict[str, str], published: str) -> tuple[str, dict[str, int]]:
    "The page made whole, and how many formulas, pictures, and pictures without a description it has."
    soup = BeautifulSoup(text, "html.parser")
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
    counts = dict(formulas=len(soup.select("math")), pictures=len(pictures), undescribed=len(undescribed))
    return str(soup), counts


def finish(project: Path, site: Path) -> str:
    "Makes every page, the search index and the style sheets whole; says what the site holds."
    settings = yaml.safe_load((project / "nbdev.yml").read_text(encoding="utf-8"))
    published, names = settings["website"]["site-url"], page_names(project)
    total = dict(pages=0, formulas=0, pictures=0, undescribed=0)
    for path in sorted(site.glob("**/*.html")):
        old = path.relative_to(site).as_posix()
        page = names.get(old, old)
        text, counts = finish_page(path.read_text(encoding="utf-8"), page, names, published)
        path.unlink()
        (site / page).write_text(text, encoding="utf-8")
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
    return ", ".join(f"{number} {name}" for name, number in total.items()) + f" (described by the text before), {size:.1f} MB"


if __name__ == "__main__":
    project = Path.cwd()
    print(finish(project, project / os.environ["QUARTO_PROJECT_OUTPUT_DIR"]))

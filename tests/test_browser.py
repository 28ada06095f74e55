"The site and the notebooks in a browser: Debian's Chromium, driven by Playwright, on this machine alone."

import base64
import functools
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup

TOP = Path(__file__).resolve().parent.parent
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"
]
# with every widget
IN_LAB = [TOP / "nbs" / name for name in ("02_byol.ipynb", "tutorials/latent_inspection.ipynb")]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
READABLE = 4.5  # contrast of text and background, WCAG 2.2, level AA

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(),
    reason="no /usr/bin/chromium: the site and JupyterLab were not tried in a browser (apt-get install "
    "chromium)",
)


@pytest.fixture
def say(capsys):
    "Prints although pytest keeps the output of tests that pass."

    def say(text):
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return say


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright  # missing is an error: it comes with the requirements

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


def copy_of_checkout(folder):
    "What `make docs` and the notebooks read, in a repository of its own."
    for name in ("nbs", "soft_ssl"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "nbdev.yml")
        shutil.copytree(TOP / name, folder / name, ignore=ignored)
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md", "Makefile", ".gitignore"):
        shutil.copy(TOP / name, folder)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "copy"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


class Site(NamedTuple):
    folder: Path
    address: str
    seconds: float  # that `make docs` took
    changed: str  # what it changed in the repository


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    copy = copy_of_checkout(tmp_path_factory.mktemp("site"))
    start = time.perf_counter()
    (copy / ".venv").mkdir()
    # these packages, and not once more with the copy in the place of the checkout
    (copy / ".venv" / ".installed").touch()
    command = ["make", "docs", f"BIN={Path(sys.executable).parent}"]
    made = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    seconds = time.perf_counter() - start
    status = ["git", "status", "--porcelain"]
    changed = subprocess.run(status, cwd=copy, capture_output=True, text=True, check=True).stdout

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=copy / "_docs"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(copy / "_docs", f"http://127.0.0.1:{server.server_port}/", seconds, changed)
    server.shutdown()


def watched(context, address):
    "A page, and a list that grows by everything that goes wrong on it."
    page, wrong = context.new_page(), []

    def asked(request):
        if not request.url.startswith((address, address.replace("http", "ws"), "data:", "blob:")):
            wrong.append(f"asks another host: {request.url}")

    page.on("request", asked)
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on(
        "response",
        lambda response: response.status >= 400 and wrong.append(f"{response.status}: {response.url}")
    )
    page.on("console", lambda message: message.type == "error" and wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    return page, wrong


FACTS = """() => ({
    links: [...document.querySelectorAll('a[href]')].map(link => link.href),
    ids: [...document.querySelectorAll('[id]')].map(element => element.id),
    broken: [...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src.slice(0, 90)),
    images: document.images.length,
    mute: [...document.images].filter(image => !(image.alt || '').trim()).map(image => image.src.slice(0, 90)),
    formulas: [...document.querySelectorAll('math')].filter(formula => formula.getBoundingClientRect().width > 0).length,
    tex: (() => { const page = document.querySelector('main').cloneNode(true);
                  page.querySelectorAll('pre, code, script, style, math').forEach(element => element.remove());
                  return page.textContent.match(/\\$\\$|\\\\\\(|\\\\\\[|\\\\frac|\\\\sum/g) || []; })(),
})"""  # noqa: E501


CUT_OFF = """() => {
    const scrolls = element => /auto|scroll/.test(getComputedStyle(element).overflowX);
    const inside = element => { for (let e = element.parentElement; e; e = e.parentElement) if (e != document.body && scrolls(e)) return true; };
    const wide = [...document.querySelectorAll('main *, header *')].filter(e => {
        const box = e.getBoundingClientRect();
        return box.width && box.right > innerWidth + 1 && !inside(e);
    }).map(e => `${e.tagName} ${e.className}`);
    return document.documentElement.scrollWidth > innerWidth ? ['the page', ...wide] : wide;
}"""  # noqa: E501


@pytest.fixture(scope="module")
def visits(browser, site):
    "Facts of every page that can be reached from the home page, each seen wide and at a phone's width."
    context, found, to_do = browser.new_context(viewport=WIDE), {}, [site.address + "index.html"]
    while to_do:
        address = to_do.pop()
        page, wrong = watched(context, site.address)
        page.goto(address, wait_until="load")
        facts = page.evaluate(FACTS)
        page.set_viewport_size(PHONE)
        facts["cut off"] = page.evaluate(CUT_OFF)
        found[address] = facts | {"wrong": wrong}
        page.close()
        for link in facts["links"]:
            link = urldefrag(link).url
            is_page = link.startswith(site.address) and link.endswith((".html", "/"))
            link += "index.html" if link.endswith("/") else ""
            if (
                is_page and link not in found and link not in to_do
                and (site.folder / link.removeprefix(site.address)).exists()
            ):
                to_do.append(link)
    context.close()
    return found


def test_docs_leave_the_repository_as_it_was(site, say):
    size = sum(path.stat().st_size for path in site.folder.glob("**/*") if path.is_file()) / 1e6
    say(f"make docs: {site.seconds:.0f} s, {size:.1f} MB")
    assert site.changed == ""


def test_every_page_is_reached_and_loads_without_an_error_or_another_host(site, visits, say):
    pages = {
        site.address + path.relative_to(site.folder).as_posix() for path in site.folder.glob("**/*.html")
    }
    assert set(visits) == pages
    assert {page: facts["wrong"] for page, facts in visits.items() if facts["wrong"]} == {}
    say(f"{len(pages)} pages load from 127.0.0.1 alone")


def test_every_internal_link_and_picture_is_there(site, visits, say):
    broken, checked = [], 0
    for page, facts in visits.items():
        for link in facts["links"]:
            if link.startswith(site.address):
                target, anchor = urldefrag(link)
                target += "index.html" if target.endswith("/") else ""
                checked += 1
                if target in visits:
                    fine = anchor in ("", "top") or unquote(anchor) in visits[target]["ids"]
                else:
                    fine = (site.folder / unquote(target.removeprefix(site.address))).is_file()
                if not fine:
                    broken.append(f"{page} -> {link}")
        broken += [f"{page}: picture {source}" for source in facts["broken"]]
    images = sum(facts["images"] for facts in visits.values())
    say(f"{checked} internal links and {images} pictures checked")
    assert broken == []
    assert checked > 10 * len(visits)
    assert images > 0


def test_every_picture_has_words(visits):
    assert {page: facts["mute"] for page, facts in visits.items() if facts["mute"]} == {}


def test_mathematics_is_drawn_and_none_is_left_as_tex(visits, say):
    assert {page: facts["tex"] for page, facts in visits.items() if facts["tex"]} == {}
    formulas = sum(facts["formulas"] for facts in visits.values())
    written = sum(
        cell.source.count("$") // 2
        for path in TOP.glob("nbs/*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    )
    say(f"{formulas} formulas")
    assert 0.8 * written < formulas


def test_a_phone_is_wide_enough(visits, site, browser):
    assert {page: facts["cut off"] for page, facts in visits.items() if facts["cut off"]} == {}
    page, wrong = watched(browser.new_context(viewport=PHONE), site.address)
    page.goto(site.address + "probes.html", wait_until="networkidle")
    link = page.locator("#quarto-sidebar a", has_text="Results").first
    on_screen = "link => { const box = link.getBoundingClientRect(); return box.width > 0 && box.right > 0; }"
    assert not link.evaluate(on_screen)
    page.locator(".quarto-btn-toggle:visible, .quarto-btn-toggle-sidebar:visible").first.click()
    link.click()
    page.wait_for_url("**/results.html")
    assert wrong == []


def test_search_finds_a_function_without_a_network(site, browser):
    page, wrong = watched(browser.new_context(viewport=WIDE), site.address)
    page.goto(site.address + "index.html", wait_until="networkidle")
    page.locator(
        "input[type=text]:visible, input[type=search]:visible, .aa-Input:visible"
    ).first.fill("linear_probe")
    result = page.locator("a[href$='probes.html#linear_probe']:visible").first
    result.wait_for()
    assert page.evaluate(CONTRASTS, READABLE)["low"] == {}
    result.click()
    page.wait_for_url("**/probes.html#linear_probe")
    assert page.locator("[id='linear_probe']").count() == 1
    assert wrong == []


def test_a_page_leads_to_its_notebook_folds_what_only_tests_and_shows_classes_with_their_fields(site, say):
    tests = 0
    for path in TOP.glob("nbs/*.ipynb"):
        first = json.loads(path.read_text())["cells"][0]
        module = next(
            (
                line.split()[-1] for cell in json.loads(path.read_text())["cells"] for line in cell["source"]
                if line.startswith("#| default_exp")
            ),
            ""
        )
        page = site.folder / f"{module or path.stem}.html"
        page = page if page.exists() else site.folder / f"{path.stem.partition('_')[2]}.html"
        if first["cell_type"] == "raw" or not page.exists():
            continue
        soup = BeautifulSoup(page.read_text(), "html.parser")
        download, colab, source = soup.select(".notebook-links a")
        assert (site.folder / download["href"]).read_bytes() == path.read_bytes()
        assert (
            colab["href"].endswith(f"/blob/main/nbs/{path.name}")
            and source["href"].endswith(f"/blob/main/nbs/{path.name}")
        )
        assert (
            soup.body.find("a")["href"] == "#quarto-document-content"
            and soup.select_one("#quarto-document-content")
        )
        code = [element.get_text() for element in soup.select("main pre code")]
        assert not [
            words for words in code
            if "](http" in words or "__main__" in words or re.search(
                r"\(\s*\*args(:Any)?, \*\*kwargs(:Any)?\s*\)", words
            )
        ], page
        tests += len(soup.select("details.folded"))
    bottleneck = (site.folder / "bottleneck.html").read_text()
    fields = BeautifulSoup(bottleneck, "html.parser").select_one("h3#code").find_next("pre").get_text()
    assert (
        fields.startswith("class Code(") and "    embedding: Tensor" in fields
        and "    loss: Tensor" in fields
    )
    say(f"{tests} cells are folded")
    assert tests > 100


CONTRASTS = """readable => {
    const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
    const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => a * top[i] + (1 - a) * below[i]); };
    const background = element => {
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.push(numbers(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const light = colour => colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                                  .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
    const low = {};
    let seen = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement, box = element.getBoundingClientRect();
        if (!walker.currentNode.textContent.trim() || !box.width || !box.height || element.closest('script, style')) continue;
        const below = background(element), text = over(numbers(getComputedStyle(element).color), below);
        const [a, b] = [light(text), light(below)].sort();
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        seen += 1;
        if (contrast < readable) low[`${element.tagName} ${element.className} "${walker.currentNode.textContent.trim().slice(0, 20)}"`] = contrast.toFixed(2);
    }
    return {low, seen, background: light(background(document.body))};
}"""  # noqa: E501


@pytest.mark.parametrize("name", ["index.html", "probes.html", "byol.html", "results.html"])
def test_text_and_code_are_readable_in_light_and_dark(site, browser, name):
    page, wrong = watched(browser.new_context(viewport=WIDE, color_scheme="light"), site.address)
    page.goto(site.address + name, wait_until="networkidle")
    light = page.evaluate(CONTRASTS, READABLE)
    page.locator(".quarto-color-scheme-toggle:visible").first.click()
    page.wait_for_timeout(600)  # colours fade
    dark = page.evaluate(CONTRASTS, READABLE)
    assert light["background"] > 0.8 and dark["background"] < 0.1
    assert light["seen"] > 50 and dark["seen"] > 50
    assert (light["low"], dark["low"]) == ({}, {})
    assert wrong == []


NETWORKS = TOP / "nbs" / "results" / "networks"
IDLE = (
    "() => { const it = document.querySelector('.si')?.instrument; return it && it.awake && !it.busy && "
    "it.shown.every(name => it.found[name]?.way?.at === it.values) && it.status.textContent === ''; }"
)


def opened(browser, site, name, **options):
    "A page with the instrument, touched, and all that goes wrong on it."
    page, wrong = watched(browser.new_context(viewport=WIDE, **options), site.address)
    page.goto(site.address + name, wait_until="networkidle")
    page.locator(".si-image").first.hover()
    page.wait_for_function(IDLE, timeout=60_000)
    return page, wrong


DIGITS = """async () => {
    const { colour, legible, VIRIDIS } = await import(new URL('instrument/instrument.js', location.href));
    const light = colour => { const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    return [...Array(101).keys()].map(i => {
        const [a, b] = [light(colour(VIRIDIS, i / 100).match(/\\d+/g).map(Number)), legible(VIRIDIS, i / 100) === '#000' ? 0 : 1].sort((a, b) => a - b);
        return (b + 0.05) / (a + 0.05);
    });
}"""  # noqa: E501


def unpacked(text, n):
    "Numbers of n rows that came from a page in one string."
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(n, -1)


ASK = """async ([network, rows, tau]) => {
    const it = document.querySelector('.si').instrument, all = [];
    for (const row of rows) all.push(await it.backend.show(it.network(network), row, tau, {}));
    const packed = arrays => {  // as one string: numbers in JSON take longer than the networks
        const bytes = new Uint8Array(Float32Array.from(arrays.flatMap(array => [...array])).buffer), parts = [];
        for (let i = 0; i < bytes.length; i += 32768) parts.push(String.fromCharCode(...bytes.subarray(i, i + 32768)));
        return btoa(parts.join(''));
    };
    return {images: packed(all.map(a => a.image)), encoded: packed(all.map(a => a.encoded)), codes: packed(all.map(a => a.probs ?? a.encoded)), pictures: packed(all.map(a => a.picture))};
}"""  # noqa: E501


@pytest.mark.parametrize(("page_name", "n"), [("index.html", 200), ("tutorials/factor_traversals.html", 200)])
def test_the_page_computes_what_torch_does(site, browser, say, page_name, n):
    from soft_ssl.latents import decoder_of, open_latents

    page, wrong = opened(browser, site, page_name)
    world = page.evaluate("document.querySelector('.si').instrument.about")
    networks = [network["name"] for network in world["networks"]]
    if page_name != "index.html":  # the second instrument of that page
        page.evaluate("document.querySelectorAll('.si')[0].remove()")
        page.locator(".si-image").hover()
        page.wait_for_function(IDLE, timeout=60_000)
        networks = ["mpi3d"]
    largest = {}
    for network in networks:
        latents = open_latents(NETWORKS / network, str(TOP / "data"), "best", n_images=20)
        rows = latents.factors.values(np.random.default_rng(1).integers(len(latents.factors), size=n))
        told = {
            name: unpacked(text, n)
            for name, text in page.evaluate(ASK, [network, rows.tolist(), 0.7]).items()
        }
        codes = latents.at(rows, 0.7)
        images, drawn = codes.images.reshape(n, -1), decoder_of(latents).draw(codes.vectors).reshape(n, -1)
        apart = np.abs(told["images"] - images)
        about = next((entry for entry in world["networks"] if entry["name"] == network), {})
        if about.get("hard"):  # the network says how likely each symbol is, and the code is the likeliest
            likeliest = told["codes"].reshape(n, -1, about["n_symbols"]).argmax(2)
            told["codes"] = np.eye(about["n_symbols"])[likeliest].reshape(n, -1)
        # the edges of MPI3D's images are rounded otherwise here and there
        assert apart.max() == 0 if network != "mpi3d" else (apart > 0).mean() < 1e-4
        same = (apart == 0).all(1)
        assert same.mean() > 0.5
        largest[network] = max(
            np.abs(told[name][same] - meant[same]).max()
            for name, meant in (("encoded", codes.encoded), ("codes", codes.vectors))
        )
        assert largest[network] <= 1e-4
        assert np.abs(told["pictures"][same] - drawn[same]).max() <= 1  # of 255, where it is rounded
    say(
        f"{page_name}: {n} images each, largest difference of z and code "
        + ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
    )
    assert wrong == []


def test_the_instrument_shows_what_it_computes(site, browser, say):
    """Factors that no recording had, two edited symbols, another temperature: the numbers behind the pixels,
    and the pixels."""
    from soft_ssl.instrument import sample_arrays
    from soft_ssl.latents import decoder_of, edited, nearest, open_latents

    page, wrong = opened(browser, site, "index.html")
    sliders, values = page.locator(".si label input"), [2, 3, 7, 19, 23]
    for slider, value in zip(sliders.all(), values):
        slider.fill(str(value))
    sliders.nth(5).fill(str(np.log(0.8)))
    page.wait_for_function(IDLE)
    state = (
        "() => { const {found: {softmax: s}, tau, values, part} = "
        "document.querySelector('.si').instrument.state(); return {tau, values, part, symbols: s.symbols, "
        "code: [...s.code], near: s.near, edits: s.edits, picture: [...s.picture]}; }"
    )
    before = page.evaluate(state)
    latents = open_latents(NETWORKS / "softmax", str(TOP / "data"), "best", n_images=600)
    own = latents.at(np.array([values]), before["tau"])
    assert (
        before["values"] == values and abs(before["tau"] - 0.8) < 0.01
        and before["part"] in ("train", "val", "test")
    )
    assert before["symbols"] == own.symbols[0].tolist()
    assert np.abs(np.array(before["code"]) - own.vectors[0]).max() < 1e-4

    edits = {3: (before["symbols"][3] + 5) % 8, 41: (before["symbols"][41] + 2) % 8}
    middle = (
        "([group, symbol]) => { const it = document.querySelector('.si').instrument, at = "
        "it.layout(it.network('softmax'), it.views.softmax.code.getBoundingClientRect().width), [x, y] = "
        "it.corner(at, group, symbol); return {x: x + at.wide / 2, y: y + at.high / 2}; }"
    )
    canvas = page.locator(".si-code canvas").first
    for group, symbol in edits.items():
        canvas.click(position=page.evaluate(middle, [group, symbol]))
    page.wait_for_function(IDLE)
    after = page.evaluate(state)
    code = edited(own.probabilities[0], edits)
    assert {int(group): symbol for group, symbol in after["edits"].items()} == edits
    assert np.abs(np.array(after["code"]) - code.ravel()).max() < 1e-4
    assert np.abs(
        np.array(after["picture"], float) - decoder_of(latents).draw(code.reshape(1, -1))[0].ravel()
    ).max() <= 1
    vectors = sample_arrays(latents)["vectors"]
    latents.sample = latents.sample._replace(probabilities=vectors.reshape(-1, 64, 8))
    images, distances = nearest(latents, code.ravel().astype(np.float32), 7)
    assert (
        np.abs(np.array([d for d, _ in after["near"]]) - distances).max() < 2e-3
        and {row for _, row in after["near"][:4]} <= set(images.tolist())
    )

    # the pixels: the picture that is decoded, and the cells of the map, bright where the symbol is likely
    shown = page.evaluate(
        "() => [...document.querySelector('.si-drawn').getContext('2d').getImageData(0, 0, 64, "
        "64).data].filter((_, i) => i % 4 === 0)"
    )
    assert shown == after["picture"]
    light = (
        "({x, y}) => { const c = document.querySelector('.si-code canvas'), r = devicePixelRatio, d = "
        "c.getContext('2d').getImageData(Math.round(x * r), Math.round(y * r), 1, 1).data; return d[0] + "
        "d[1] + d[2]; }"
    )
    group = 6
    lights = [page.evaluate(light, page.evaluate(middle, [group, symbol])) for symbol in range(8)]
    assert int(np.argmax(lights)) == int(code[group].argmax())

    # by the keyboard: the sprite moves, a symbol is taken back, and a reader is told
    page.locator(".si-image").press("ArrowRight")
    page.wait_for_function(IDLE)
    assert page.evaluate("document.querySelector('.si').instrument.values") == [2, 3, 7, 20, 23]
    canvas.press("ArrowRight")
    canvas.press("Backspace")
    page.wait_for_function(IDLE)
    page.wait_for_function(
        "document.querySelector('.si [aria-live]').innerText.includes('entropy')", timeout=10_000
    )
    page.get_by_role("button", name="Undo edits").first.click()
    page.wait_for_function(IDLE)
    assert page.evaluate(state)["edits"] == {}

    # networks side by side, and how long an answer takes
    for title in ("Continuous", "VQ"):
        page.get_by_role("button", name=title, exact=True).click()
    page.wait_for_function(IDLE)
    assert page.locator(".si section").count() == 3
    times = {}
    for shown in (3, 1):
        page.evaluate("document.querySelector('.si').instrument.times.length = 0")
        for key in ["ArrowLeft"] * 15 + ["ArrowUp"] * 15:
            page.locator(".si-image").press(key)
            page.wait_for_timeout(60)
        page.wait_for_function(IDLE)
        times[shown] = np.array(page.evaluate("document.querySelector('.si').instrument.times"))
        for title in ("Continuous", "VQ"):
            page.get_by_role("button", name=title, exact=True).click()
    say(
        "from input to paint on the page: "
        + "; ".join(
            f"{n} network{'s' * (n > 1)}, median {np.median(t):.0f} ms, 95th percentile "
            f"{np.percentile(t, 95):.0f} ms ({len(t)} inputs)"
            for n, t in times.items()
        )
    )
    assert wrong == []


def test_the_instrument_waits_for_a_touch_and_fits_a_phone_in_the_dark(site, browser):
    page, wrong = watched(browser.new_context(viewport=PHONE, color_scheme="light"), site.address)
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(site.address + "index.html", wait_until="networkidle")
    assert "dsprites.json" in asked and not [
        name for name in asked if name.endswith((".wasm", ".onnx", ".safetensors"))
    ]
    # and yet there is something to see
    assert page.evaluate("document.querySelector('.si').instrument.found.softmax.code.length") == 512
    page.evaluate("document.querySelector('.quarto-color-scheme-toggle').click()")
    page.locator(".si-image").dispatch_event("touchstart")
    page.wait_for_function(IDLE, timeout=60_000)
    page.locator(".si summary").click()
    page.wait_for_timeout(1500)
    assert page.evaluate(CUT_OFF) == []
    page.wait_for_timeout(600)
    assert page.evaluate(CONTRASTS, READABLE)["low"] == {}
    digits = page.evaluate(DIGITS)  # what is written on a canvas
    assert len(digits) == 101 and min(digits) >= READABLE
    assert wrong == []


class Lab(NamedTuple):
    address: str
    token: str


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab on a copy of the notebooks, with settings of its own and no news from elsewhere."
    folder, home = copy_of_checkout(tmp_path_factory.mktemp("lab")), tmp_path_factory.mktemp("home")
    settings = {
        "notebook-extension/tracker": '{"windowingMode": "none"}',
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in settings.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    environment = os.environ | {
        "PYTHONPATH": str(TOP), "JUPYTER_TOKEN": token, "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
    ]
    log = home / "log"
    with log.open("w") as written:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=written, stderr=written)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}api/status?token={token}", timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            raise AssertionError(f"JupyterLab did not answer within a minute: {log.read_text()}")
        yield Lab(address, token)
    finally:
        server.terminate()
        server.wait(30)


PROMPTS = (
    "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputArea-prompt')].map(prompt => "
    "prompt.textContent.trim())"
)
STARTED = f"() => {PROMPTS}.some(p => /\\d/.test(p))"
FINISHED = (
    f"() => {{ const all = {PROMPTS}; return all.some(p => /\\d/.test(p)) && !all.some(p => "
    f"p.includes('*')); }}"
)
ERRORS = (
    "[...document.querySelectorAll('.jp-Notebook "
    "[data-mime-type=\"application/vnd.jupyter.error\"]')].map(error => error.textContent.slice(-600))"
)
WATCH = """cell => {
    const pixels = () => [...cell.querySelectorAll('.jupyter-widgets img, .jupyter-widgets canvas, .si canvas')].map(picture => {
        if (picture.tagName == 'IMG' && !(picture.complete && picture.naturalWidth)) return 'loading';
        const copy = document.createElement('canvas');
        [copy.width, copy.height] = [picture.naturalWidth || picture.width, picture.naturalHeight || picture.height];
        copy.getContext('2d').drawImage(picture, 0, 0);
        return copy.toDataURL();
    }).join();
    const before = pixels();
    window.change = {start: null, milliseconds: null};
    const start = () => { window.change.start ??= performance.now(); };
    cell.addEventListener('keydown', start, {capture: true, once: true});
    cell.addEventListener('change', start, {capture: true, once: true});
    const look = () => {
        const now = pixels();
        if (window.change.start && now != before && !now.includes('loading')) window.change.milliseconds = performance.now() - window.change.start;
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""  # noqa: E501


def move(page, cell):
    """Milliseconds until a picture of the widget changes, for each of its sliders (and menus) that changes
    one."""
    took = []
    for control in cell.locator(
        ".jupyter-widgets .noUi-handle:visible, .jupyter-widgets select:visible, .si label input:visible"
    ).all():
        cell.evaluate(WATCH)
        if control.evaluate("control => control.tagName") == "SELECT":
            if control.locator("option").count() < 2:
                continue
            control.select_option(index=int(control.evaluate("control => control.selectedIndex == 0")))
        else:
            at, end = (
                control.get_attribute(f"aria-value{name}") or control.evaluate(f"slider => slider.{own}")
                for name, own in (("now", "value"), ("max", "max"))
            )
            control.press("ArrowLeft" if at == end else "ArrowRight")
            assert at != (
                control.get_attribute("aria-valuenow") or control.evaluate("slider => slider.value")
            ), "an arrow key does not move the slider"
        try:
            page.wait_for_function("window.change.milliseconds", timeout=4000)
            took.append(page.evaluate("window.change.milliseconds"))
        except Exception as error:
            if "Timeout" not in str(error):
                raise
    return took


def answers_of_the_kernel(page, cell):
    """Milliseconds from an arrow key to the paint of what the kernel answered to it, as the instrument notes
    them."""
    instrument, picture, times = cell.locator(".si"), cell.locator(".si-image"), []
    for key in ["ArrowLeft"] * 15 + ["ArrowUp"] * 15:
        page.wait_for_timeout(250)  # what follows a move has been painted
        instrument.evaluate("si => { si.instrument.times.length = 0; }")
        picture.press(key)
        page.wait_for_function(
            "si => si.instrument.times.length > 0", arg=instrument.element_handle(), timeout=5000
        )
        shown = instrument.evaluate(
            "si => { const it = si.instrument; return [String(it.values), "
            "String(it.found[it.shown[0]].values), it.times[0]]; }"
        )
        assert shown[0] == shown[1]
        times.append(shown[2])
    return times


def ask(lab, path, method="GET"):
    "What the server answers."
    request = urllib.request.Request(f"{lab.address}api/{path}?token={lab.token}", method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


def wait_for_kernel(lab):
    "Returns when the kernel has answered JupyterLab: cells that are run before that may wait for ever."
    for _ in range(240):
        try:
            kernels = ask(lab, "kernels")
        except urllib.error.HTTPError as error:
            # while a kernel is being started, the server cannot always list it
            kernels = f"{error}: {error.read()[:500]}"
        if (
            isinstance(kernels, list) and kernels and kernels[0]["execution_state"] == "idle"
            and kernels[0]["connections"]
        ):
            time.sleep(2)  # what the kernel said is on its way through the page
            return
        time.sleep(0.25)
    raise AssertionError(f"no kernel was idle within a minute: {kernels}")


@pytest.fixture
def kernel(lab):
    "Ends the kernel of the notebook after the test."
    yield
    for session in ask(lab, "sessions"):
        ask(lab, f"sessions/{session['id']}", "DELETE")


def screenshots(cells, path):
    "Keeps a picture of each widget in the folder that WIDGET_SCREENSHOTS names, if it is set."
    if "WIDGET_SCREENSHOTS" in os.environ:
        for number, cell in enumerate(cells):
            cell.locator(".jupyter-widgets, .si").first.screenshot(
                path=Path(os.environ["WIDGET_SCREENSHOTS"]) / f"{path.stem}_{number}.png"
            )


@pytest.mark.parametrize("path", IN_LAB, ids=lambda path: path.stem)
def test_jupyterlab_runs_the_notebook_and_its_widgets_move(lab, kernel, browser, say, path):
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    page = context.new_page()
    # a workspace of its own: the common one would open the notebooks before this again
    page.goto(
        f"{lab.address}lab/workspaces/{path.stem}/tree/{path.relative_to(TOP).as_posix()}?token={lab.token}"
    )
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    wait_for_kernel(lab)
    start = time.perf_counter()
    page.locator(".lm-MenuBar-itemLabel").get_by_text("Run", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text("Run All Cells", exact=True).click()
    page.wait_for_function(STARTED, timeout=30_000)  # the first cell of every notebook is quick
    page.wait_for_function(FINISHED, timeout=400_000)
    seconds = time.perf_counter() - start
    assert page.evaluate(ERRORS) == []
    code = [
        cell for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and cell.source.strip()
    ]
    assert sum(any(letter.isdigit() for letter in prompt) for prompt in page.evaluate(PROMPTS)) == len(code)
    say(f"{path.stem}: all {len(code)} cells in {seconds:.0f} s")
    controls = page.locator(".jupyter-widgets .noUi-handle, .jupyter-widgets select, .si")
    cells = page.locator(".jp-Notebook .jp-CodeCell").filter(has=controls).all()
    screenshots(cells, path)
    for number, cell in enumerate(cells):
        took = move(page, cell)
        say(f"{path.stem}, widget {number}: " + ", ".join(f"{t:.0f} ms" for t in took))
        assert took, f"widget {number}: no picture follows a slider"
        if cell.locator(".si").count():
            times = answers_of_the_kernel(page, cell)
            say(
                f"{path.stem}, widget {number}: from input to paint through the kernel, median "
                f"{np.median(times):.0f} ms, 95th percentile {np.percentile(times, 95):.0f} ms ({len(times)} "
                "inputs)"
            )
    context.close()

"""What comes from elsewhere runs no program, leaves no folder, and is fetched from nowhere but where data is
published."""

import contextlib
import http.server
import json
import os
import pickle
import re
import tarfile
import threading
import urllib.request
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from soft_ssl import files
from soft_ssl.cli import main
from soft_ssl.datasets import DATASETS, from_folder
from soft_ssl.factors import FactorDataset
from soft_ssl.pictures import CIFAR_URL, STL10_URLS, PackedPictures, PictureFolder
from soft_ssl.runs import RunFolder, load_weights

TOP = Path(__file__).resolve().parent.parent


class Bomb:
    "What leaves a mark when it is unpickled."

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def refused(capsys, *words) -> str:
    "Runs a command that has to end in one sentence. Returns it."
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.replace("\r", "\n").strip().split("\n")[-1]
    assert said.startswith("soft-ssl: ") and "Traceback" not in said
    return said


def test_the_bomb_goes_off_where_nothing_keeps_it(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["last.ckpt", "best.safetensors", "0.safetensors"])
def test_pickle_in_a_checkpoint_is_refused_and_does_not_run(name, tmp_path):
    run, mark = RunFolder(tmp_path / "run"), tmp_path / "mark"
    run.path.mkdir()
    state = {"version": 1, "step": 3, "optimizer": {}, "method": {"weight": Bomb(mark)}}
    torch.save(state, run.path / name)
    read = run.load_checkpoint if name == "last.ckpt" else lambda: load_weights(run.path / name)
    with pytest.raises(ValueError, match="damaged"):
        read()
    # and with no zip around it, as PyTorch once wrote
    (run.path / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ValueError, match="damaged"):
        read()
    assert not mark.exists()


def test_pickle_in_an_archive_is_refused_and_does_not_run(tmp_path, capsys):
    archive, mark = tmp_path / "mpi3d_toy.npz", tmp_path / "mark"
    np.savez(archive, images=np.array([Bomb(mark)], dtype=object))
    assert "plain" in refused(capsys, "download", "mpi3d_toy", tmp_path / "data", 3, "--from", archive)
    with zipfile.ZipFile(archive, "w") as other:  # a pickle that does not even say that it is an array
        other.writestr("images.npy", pickle.dumps(Bomb(mark)))
    assert "fetch it again" in refused(
        capsys, "download", "mpi3d_toy", tmp_path / "data", 3, "--from", archive
    )
    assert not mark.exists()


def test_nothing_in_the_package_unpickles():
    source = "\n".join(path.read_text() for path in (TOP / "soft_ssl").glob("*.py"))
    assert not re.search(
        r"\b(import|from) "
        r"(pickle|cPickle|dill|joblib|shelve|marshal)\b|read_pickle|allow_pickle=True|weights_only=False",
        source
    )
    assert re.findall(r"torch\.load\([^)]*\)", source) == [
        "torch.load(file, map_location=device, weights_only=True)"
    ]
    assert not re.search(r"\bexec\(|os\.system|shell=True|yaml\.load\(", source)


def test_members_of_an_archive_stay_in_their_folder(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("../outside", "/tmp/outside", "in/side"):
            archive.add(secret, name)
        link = tarfile.TarInfo("in/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    files.untar(tmp_path / "a.tar.gz", tmp_path / "out", ["in/side"])
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["in", "side"]
    assert not (tmp_path / "outside").exists()
    with pytest.raises(ValueError, match="fetch it again"):
        # to a file that the archive does not hold
        files.untar(tmp_path / "a.tar.gz", tmp_path / "out", ["in/link"])


def test_names_of_runs_stay_in_their_folder(tmp_path, capsys):
    for words in (
        ["--run_id", "../../../outside"], ["--exp_name", str(tmp_path / "outside")],
        ["--exp_name", "..", "--run_id", "x"], ["--root_path", ".", "--exp_name", ".."]
    ):
        said = refused(
            capsys, "train", "byol", "--root_path", tmp_path / "runs", "--data_path", TOP / "data",
            "--max_steps", 1, *words
        )
        assert "lead out of it" in said
    assert not (tmp_path / "outside").exists() and not (tmp_path / "runs").exists()


def test_links_out_of_a_folder_of_images_are_refused(tmp_path):
    for number in range(5):
        (tmp_path / "shots" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "shots" / "a" / f"{number}.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "private.png")
    (tmp_path / "elsewhere").mkdir()
    os.link(tmp_path / "private.png", tmp_path / "elsewhere" / "1.png")
    assert len(PictureFolder(tmp_path / "shots")) == 5
    for link, target in (("a/5.png", "private.png"), ("b", "elsewhere")):
        (tmp_path / "shots" / link).symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match="link to a file outside"):
            PictureFolder(tmp_path / "shots")
        if link != "b":  # a linked folder is not even entered there
            with pytest.raises(ValueError, match="link to a file outside"):
                from_folder(tmp_path / "shots", tmp_path / "made.h5")
        (tmp_path / "shots" / link).unlink()


def test_programs_that_call_themselves_pictures_are_not_run(tmp_path):
    trap = tmp_path / "trap.png"
    trap.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(mark) (w) file closefile showpage\n")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        files.read_picture(trap)
    assert not {"EPS", "PS", "WMF", "PDF"} & set(files.PICTURE_FORMATS)


def test_data_files_read_nothing_from_elsewhere(tmp_path):
    import h5py

    with h5py.File(tmp_path / "trap.h5", "w") as file:
        file.create_dataset("images", (100, 1, 1, 1), np.uint8, external=[(str(TOP / "README.md"), 0, 100)])
        file["factors"], file["pixel_moments"] = np.zeros((100, 1), np.int16), np.zeros((100, 1, 2))
        file.attrs.update(
            name="x", source="original", sha256="", version=1, factor_names=["a"], factor_sizes=[1],
            factor_classes=["a"], factor_circular=["a"]
        )
    with pytest.raises(ValueError, match="stands in another file"):
        FactorDataset(tmp_path / "trap.h5")
    with h5py.File(tmp_path / "trap.h5", "w") as file:
        file["bytes"], file["ends"], file["labels"] = h5py.ExternalLink("other.h5", "x"), [1], [0]
        file.attrs["classes"] = ["a"]
    with pytest.raises(ValueError, match="pack it again"):
        PackedPictures(tmp_path / "trap.h5")


# ---- downloads ----

ADDRESSES = [
    url for about in DATASETS.values() for url in about.urls
] + [CIFAR_URL.format(10), CIFAR_URL.format(100), *STL10_URLS]


@pytest.mark.parametrize("url", sorted(set(ADDRESSES)))
def test_every_published_address_may_be_asked(url):
    assert url.startswith("https://")
    files.check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/x", "ftp://github.com/x", "file:///etc/passwd", "https://github.com.example.org/x",
        "https://example.org/github.com", "https://github.com@example.org/x", "https://notgithub.com/x",
        "//github.com/x", "https:///x", "http://localhost/x"
    ]
)
def test_no_other_address_is_asked(url, tmp_path):
    with pytest.raises(ValueError, match="not an https address|not one of the hosts"):
        files.download((url,), tmp_path / "x")


class Answers(http.server.BaseHTTPRequestHandler):
    "Redirects elsewhere, or sends without end."

    def do_GET(self):
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        self.send_response(200)
        if self.path == "/announced":
            self.send_header("Content-Length", str(2**40))
        self.end_headers()
        with contextlib.suppress(OSError):  # the other side has had enough
            for _ in range(200):
                self.wfile.write(bytes(2**16))

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "target", ["http://example.org/x", "https://example.org/x", "file:///etc/passwd", "ftp://github.com/x"]
)
def test_a_redirection_elsewhere_is_not_followed(target, server, tmp_path):
    with pytest.raises(ConnectionError, match="redirection|unknown url type|not allowed"):
        files.download((f"{server}/to/{target}",), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_another_machine_cannot_lead_to_this_one():
    request = urllib.request.Request("https://github.com/x")
    with pytest.raises(urllib.error.URLError, match="refused redirection"):
        files.CheckedRedirects().redirect_request(request, None, 302, "", {}, "http://127.0.0.1:8888/api")


@pytest.mark.parametrize("path", ["announced", "endless"])
def test_a_server_does_not_fill_the_disk(path, server, tmp_path):
    with pytest.raises(ConnectionError, match="more than the 1,000,000"):
        files.download((f"{server}/{path}",), tmp_path / "x", most=10**6)
    assert list(tmp_path.iterdir()) == []


# ---- notebooks ----


@pytest.mark.parametrize("path", sorted(TOP.glob("nbs/**/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_listen_on_this_machine_alone(path):
    code = "\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    )
    for listener in re.findall(r"(?:HTTPServer|TCPServer|\.bind|create_server)\(\(?([^,)]*)", code):
        assert listener.strip("\"'( ") == "127.0.0.1", f"listens on {listener}"
    assert not re.search(r"0\.0\.0\.0|share=True|--ip[ =]|http\.server [^\n]*--bind (?!127)", code)


def test_upper_bounds_have_a_reason():
    """Every package that may not be newer than some version is named, with why, in settings.ini and in the
    docs."""
    settings = (TOP / "settings.ini").read_text()
    bounded = set(re.findall(r"([\w-]+)>=[\w.]+,<", settings))
    notes = " ".join(line for line in settings.splitlines() if line.startswith("#"))
    trust = json.loads((TOP / "nbs" / "trust.ipynb").read_text())
    page = "\n".join("".join(cell["source"]) for cell in trust["cells"] if cell["cell_type"] == "markdown")
    assert bounded and all(name in notes and f"`{name}" in page for name in bounded), bounded

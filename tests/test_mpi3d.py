"""MPI3D's archives as a user meets them: damaged, scrambled, fetched over a line that breaks off, drawn and
interrupted."""

import hashlib
import http.server
import threading
import zipfile

import numpy as np
import pytest

from soft_ssl import datasets, mpi3d
from soft_ssl.cli import main
from soft_ssl.factors import FactorDataset

GRID = mpi3d.Factors(mpi3d.NAMES, (6, 6, 1, 2, 1, 1, 20), mpi3d.CLASSES)


@pytest.fixture(scope="module")
def pictures():
    return mpi3d.draw(GRID.values(np.arange(len(GRID))), GRID).numpy()


@pytest.fixture
def archive(pictures, tmp_path, monkeypatch):
    "A small archive in the published form, which the recipe of `mpi3d_toy` takes for the real one."
    monkeypatch.setitem(datasets.DATASETS, "mpi3d_toy", datasets.mpi3d_recipe("mpi3d_toy", "mpi3d_toy", GRID))
    path = tmp_path / "mpi3d_toy.npz"
    np.savez_compressed(path, images=pictures)
    return path


def refused(capsys, *words):
    "Runs a command that has to fail. Returns the sentence it ends with."
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.replace("\r", "\n").strip().split("\n")[-1]
    assert said.startswith("soft-ssl: ") and "Traceback" not in said
    return said


def test_archive_at_hand_is_converted(archive, pictures, tmp_path, capsys):
    assert main(["download", "mpi3d_toy", str(tmp_path / "data"), "3", "--from", str(archive)]) == 0
    assert "K=3: training combinations 720, train 630, iid 90, val 240, test 480" in capsys.readouterr().out
    data = FactorDataset(tmp_path / "data" / "mpi3d_toy_original.h5")
    assert (data.source, data.sha256) == ("original", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert (data.images(slice(None)).permute(0, 2, 3, 1).numpy() == pictures).all()


def cut(archive, pictures):
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def flip(archive, pictures):
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    archive.write_bytes(damaged)


def shuffle(archive, pictures):
    np.savez_compressed(archive, images=np.random.default_rng(0).permutation(pictures))


def scramble(archive, pictures):
    np.savez_compressed(archive, images=pictures[:, :, np.random.default_rng(0).permutation(64)])


def pickle(archive, pictures):
    np.savez_compressed(archive, images=np.array([{"not": "images"}], dtype=object))


DAMAGES = [
    (cut, "cut short"),
    (flip, "damaged"),
    (shuffle, "in another order"),
    (scramble, "scrambled"),
    (pickle, "plain"),
]


@pytest.mark.parametrize("damage, reason", DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_archive_is_refused_and_leaves_nothing(damage, reason, archive, pictures, tmp_path, capsys):
    damage(archive, pictures)
    said = refused(capsys, "download", "mpi3d_toy", tmp_path / "data", 3, "--from", archive)
    assert reason in said and "fetch it again" in said
    assert not list((tmp_path / "data").glob("*")) and not list((tmp_path / "data").glob(".*"))


class BreaksOff(http.server.BaseHTTPRequestHandler):
    "Serves a file, but closes the line twice on the way."

    payload, breaks = b"", 2

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        rest = self.payload[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if type(self).breaks:
            type(self).breaks -= 1
            rest = rest[: len(rest) // 3]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


def test_download_that_breaks_off_twice_is_resumed(archive, tmp_path, monkeypatch, capsys):
    BreaksOff.payload, BreaksOff.breaks = archive.read_bytes(), 2
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreaksOff)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    about = datasets.DATASETS["mpi3d_toy"]._replace(
        urls=(f"http://127.0.0.1:{server.server_port}/mpi3d_toy.npz",)
    )
    monkeypatch.setitem(datasets.DATASETS, "mpi3d_toy", about)
    folder, sizes = tmp_path / "data", []
    for _ in range(2):
        assert "bytes are kept for the next attempt" in refused(capsys, "download", "mpi3d_toy", folder, 3)
        sizes.append((folder / "mpi3d_toy.npz.part").stat().st_size)
    assert main(["download", "mpi3d_toy", str(folder), "3"]) == 0
    server.shutdown()
    assert 0 < sizes[0] < sizes[1] < len(BreaksOff.payload)
    assert (
        FactorDataset(folder / "mpi3d_toy_original.h5").sha256
        == hashlib.sha256(BreaksOff.payload).hexdigest()
    )
    assert [path.name for path in folder.iterdir()] == ["mpi3d_toy_original.h5"]


def test_without_a_network_the_rendered_set_is_offered(tmp_path, monkeypatch, capsys):
    for name in ("mpi3d", "mpi3d_toy"):
        monkeypatch.setitem(
            datasets.DATASETS, name, datasets.DATASETS[name]._replace(urls=("http://127.0.0.1:9/x.npz",))
        )
        said = refused(capsys, "download", name, tmp_path, 3)
        assert f"`soft-ssl download mpi3d {tmp_path} 3 --source rendered`" in said
    assert "cannot be drawn, only fetched" in refused(
        capsys, "download", "mpi3d_toy", tmp_path, 3, "--source", "rendered"
    )


def test_zip_that_is_no_archive_of_images(archive, tmp_path, capsys):
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("readme.txt", "nothing here")
    assert "no .npz with a plain array images" in refused(
        capsys, "download", "mpi3d_toy", tmp_path / "data", 3, "--from", archive
    )

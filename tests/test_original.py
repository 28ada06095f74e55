"The published dSprites archive, imitated whole: what is made of it, and what is refused."

import zipfile

import numpy as np
import pytest

from soft_ssl import dsprites
from soft_ssl.datasets import build_file, load


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    "All 737,280 sprites in the published form, its pickled entry included."
    path = tmp_path_factory.mktemp("archive") / "dsprites.npz"
    full = dsprites.FULL_FACTORS
    classes = np.concatenate([np.zeros((len(full), 1), np.int64), full.values(np.arange(len(full)))], 1)
    # as np.savez_compressed, in less time
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("imgs.npy", "w", force_zip64=True) as entry:  # 3 GB, never at once
            about = {"descr": "|u1", "fortran_order": False, "shape": (len(full), 64, 64)}
            np.lib.format.write_array_header_1_0(entry, about)
            for images in dsprites.draw_all(full):
                entry.write(images[..., 0] // 255)
        for name, array in (("latents_classes", classes), ("metadata", np.array({"a": "pickle"}))):
            with file.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array)
    return path


def test_archive_becomes_an_original(archive, dsprites, tmp_path):
    build_file("dsprites", tmp_path, archive=archive)
    data, drawn = load("dsprites", 1, data_path=tmp_path), load("dsprites", 1, data_path=dsprites)
    assert (data.dataset.source, drawn.dataset.source) == ("original", "rendered")
    assert len(data.dataset) == 184_320
    assert (data.images("val", 500) == drawn.images("val", 500)).all()


def test_archive_that_breaks_off_is_refused(archive, tmp_path):
    cut = tmp_path / "cut.npz"
    cut.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match="cut.npz"):
        build_file("dsprites", tmp_path / "data", archive=cut)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["cut.npz"]
    assert not list((tmp_path / "data").glob("*"))

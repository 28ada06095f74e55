"""Files that are made of something: they never stand in for anything else, and a copy of their source is as
good as the source."""

import hashlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from soft_ssl import datasets, mpi3d
from soft_ssl.cli import main
from soft_ssl.datasets import build_file, from_folder, load
from soft_ssl.pictures import PackedPictures, image_data, pack, write_digits

NAMES = [f"{name}/{i}.bmp" for name in ("ant", "bee") for i in range(3)]


def paint(root: Path, value: int, *names: str) -> Path:
    "Grey pictures; all files have the same size."
    for number, name in enumerate(names or NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (value + number,) * 3).save(root / name)
    return root


def greys(folder: Path, path: Path) -> list[int]:
    return from_folder(folder, path, side=8).dataset.images(slice(None))[:, 0, 0, 0].tolist()


# ---- a data file made from a folder ----


def test_a_file_of_one_folder_does_not_stand_in_for_another(tmp_path):
    one, two, made = paint(tmp_path / "one", 10), paint(tmp_path / "two", 100), tmp_path / "c.h5"
    assert greys(one, made) == list(range(10, 16))
    before = made.read_bytes()
    with pytest.raises(
        ValueError,
        match="c.h5 was made from other images than .*two holds now: delete it, or give another path"
    ):
        greys(two, made)
    assert made.read_bytes() == before and greys(one, made) == list(range(10, 16))


CHANGES = {
    "painted over": lambda folder: paint(folder, 200, "ant/1.bmp"),
    "renamed": lambda folder: (folder / "ant/1.bmp").rename(folder / "ant/9.bmp"),
    "moved": lambda folder: (folder / "ant/1.bmp").rename(folder / "bee/9.bmp"),
    "gone": lambda folder: (folder / "ant/1.bmp").unlink(),
    "one more": lambda folder: paint(folder, 200, "ant/4.bmp"),
    "changed places": lambda folder: [
        (folder / "ant/1.bmp").rename(folder / "x"), (folder / "ant/2.bmp").rename(folder / "ant/1.bmp"),
        (folder / "x").rename(folder / "ant/2.bmp")
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_is_refused_where_its_folder_has_changed(change, tmp_path):
    folder = paint(tmp_path / "one", 10)
    greys(folder, tmp_path / "c.h5")
    CHANGES[change](folder)
    with pytest.raises(ValueError, match="was made from other images"):
        greys(folder, tmp_path / "c.h5")
    with pytest.raises(ValueError, match="was made from other images"):  # by its name alone, too
        load(str(tmp_path / "c.h5"))
    assert len(greys(folder, tmp_path / "new.h5")) >= 5  # as the sentence says


def test_a_copy_or_a_touched_folder_is_the_same(tmp_path, monkeypatch):
    folder = paint(tmp_path / "one", 10)
    data = from_folder(folder, tmp_path / "c.h5", side=8).dataset
    read, bytes_of = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or bytes_of(path))
    assert greys(folder, tmp_path / "c.h5") == list(range(10, 16)) and read == []  # a listing is enough
    os.utime(folder / "ant" / "1.bmp", (0, 0))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    paint(folder, 10, ".thumbnails/1.bmp")
    for same in (folder, tmp_path / "copy"):
        assert greys(same, tmp_path / "c.h5") == list(range(10, 16)) and len(read) == 6
        read.clear()
    paint(tmp_path / "copy", 200, "ant/1.bmp")
    # a run knows them apart
    assert from_folder(tmp_path / "copy", tmp_path / "d.h5", side=8).dataset.sha256 != data.sha256
    assert from_folder(folder, tmp_path / "e.h5", side=8).dataset.sha256 == data.sha256


def test_a_file_of_another_size_or_another_data_set_is_refused(tmp_path):
    folder = paint(tmp_path / "one", 10)
    greys(folder, tmp_path / "c.h5")
    with pytest.raises(ValueError, match="has images of 8 pixels, not of 16"):
        from_folder(folder, tmp_path / "c.h5", side=16)
    from soft_ssl.factors import Factors, write_factor_file

    values = np.array([[0], [0], [0], [1], [1], [1]], np.int16)
    write_factor_file(
        tmp_path / "d.h5", [np.zeros((6, 8, 8, 3), np.uint8)], values, Factors(("a",), (2,), ("a",)), "x",
        "original", "", show_progress=False
    )
    with pytest.raises(ValueError, match="was made from other images"):
        greys(folder, tmp_path / "d.h5")


def test_the_stamp_is_among_what_a_file_has_a_checksum_of(tmp_path):
    folder = paint(tmp_path / "one", 10)
    greys(folder, tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        names = [name for name in file.attrs if "stamp" in name]
        file.attrs[names[0]] = "0" * 64
    with pytest.raises(ValueError, match="checksum mismatch"):
        greys(folder, tmp_path / "c.h5")


# ---- packed pictures ----


def colours(pictures) -> list[int]:
    return [int(pictures[i][0][0, 0, 0]) for i in range(len(pictures))]


@pytest.mark.parametrize("name", ["train.h5", "pictures.h5"])
def test_packed_pictures_are_compared_with_the_folder_beside_them(name, tmp_path):
    folder = paint(tmp_path / "train", 10)
    packed = pack(folder, tmp_path / name)
    given = tmp_path if name == "train.h5" else packed
    assert colours(image_data("folder", given)) == list(range(10, 16))
    os.utime(folder / "ant" / "1.bmp", (0, 0))
    assert colours(image_data("folder", given)) == list(range(10, 16))
    paint(folder, 200, "ant/1.bmp")
    for read in (lambda: image_data("folder", given), lambda: PackedPictures(packed)):
        with pytest.raises(
            ValueError, match=f"{name} was packed from other pictures than .*train holds now: pack it again"
        ):
            read()
    pack(folder, packed)
    assert 200 in colours(image_data("folder", given))
    paint(folder, 100, "ant/1.bmp")
    folder.rename(tmp_path.with_name(f"{tmp_path.name} moved away"))
    assert 200 in colours(image_data("folder", given))


def test_a_packed_part_does_not_hide_the_folder_of_another(tmp_path):
    paint(tmp_path / "data" / "train", 10)
    pack(paint(tmp_path / "elsewhere", 100), tmp_path / "data" / "train.h5")
    with pytest.raises(ValueError, match="was packed from other pictures"):
        image_data("folder", tmp_path / "data")


def test_packed_elsewhere_nothing_is_compared(tmp_path):
    pack(paint(tmp_path / "photos", 10), tmp_path / "packed" / "photos.h5")
    paint(tmp_path / "packed" / "photos", 100)  # has nothing to do with it
    assert colours(image_data("folder", tmp_path / "packed" / "photos.h5")) == list(range(10, 16))


# ---- the digits ----


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits") / "digits", side=8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "train" / "0" / "0000.png").unlink(), "0000.png is missing"),
        (lambda folder: shutil.rmtree(folder / "val"), "is missing"),
        (lambda folder: paint(folder, 0, "train/0/x.png"), "x.png is none of them"),
        (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "is missing")
    ],
)
def test_a_folder_that_does_not_hold_all_digits_is_refused(change, said, digits, tmp_path):
    folder = shutil.copytree(digits, tmp_path / "digits")
    change(folder)
    with pytest.raises(ValueError, match=f"does not hold the digits of scikit-learn .*{said}"):
        write_digits(folder, side=8)


def test_digits_of_another_size_are_refused(digits):
    assert write_digits(digits, side=8) == digits
    with pytest.raises(ValueError, match="8 pixels a side, not 16"):
        write_digits(digits, side=16)
    with pytest.raises(ValueError, match="8 pixels a side, not 32"):
        image_data("digits", digits.parent)


# ---- published archives ----


def test_a_file_is_not_taken_for_one_of_another_archive(tmp_path, monkeypatch, capsys):
    grid = mpi3d.Factors(mpi3d.NAMES, (6, 6, 1, 2, 1, 1, 20), mpi3d.CLASSES)
    monkeypatch.setitem(datasets.DATASETS, "mpi3d_toy", datasets.mpi3d_recipe("mpi3d_toy", "mpi3d_toy", grid))
    pictures = mpi3d.draw(grid.values(np.arange(len(grid))), grid).numpy()
    for name, images in (("one", pictures), ("two", 255 - pictures)):
        np.savez_compressed(tmp_path / f"{name}.npz", images=images)
    path = build_file("mpi3d_toy", tmp_path, archive=tmp_path / "one.npz")
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert build_file(
        "mpi3d_toy", tmp_path, archive=tmp_path / "one.npz"
    ) == build_file("mpi3d_toy", tmp_path) == path
    assert main(["download", "mpi3d_toy", str(tmp_path), "3", "--from", str(tmp_path / "two.npz")]) == 2
    assert "was made from another archive than" in capsys.readouterr().err
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before

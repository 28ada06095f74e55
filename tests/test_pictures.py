"""Folders of pictures as people have them: parts by other names, classes that are missing, hidden files,
cameras held upright, names that are not UTF-8."""

import os
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from soft_ssl import pictures as pictures_module
from soft_ssl.cli import main
from soft_ssl.datasets import data_file, from_folder
from soft_ssl.experiment import about_data, build_method, by_component, evaluate, load_data
from soft_ssl.factors import FactorDataset
from soft_ssl.files import read_picture
from soft_ssl.pictures import PackedPictures, PictureFolder, image_data, load_pictures, pack, write_digits
from soft_ssl.runs import RunFolder
from soft_ssl.scale import preset_config, pretrain
from soft_ssl.transfer import knn

COLOURS = {
    "ant": (200, 0, 0), "bee": (0, 200, 0), "cat": (0, 0, 200), "dog": (200, 200, 0), "egret": (0, 200, 200)
}
TINY = dict(
    image_size=8, n_groups=4, n_symbols=3, projector_hidden=8, projection_dim=8, predictor_hidden=8,
    train_batch_size=4, max_steps=1, workers=0, optimizer="SGD", precision="fp32"
)


def paint(root: Path, *names: str) -> Path:
    "Draws pictures in the colour of their class, no two the same."
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        colour = COLOURS.get(Path(name).parent.name, (90, 90, 90))
        Image.new("RGB", (8, 8), tuple(value + number for value in colour)).save(root / name)
    return root


def files_of(part: str, *classes: str, n: int = 2) -> list[str]:
    return [f"{part}/{name}/{i}.png" for name in classes for i in range(n)]


def labels_by_name(pictures) -> dict[str, int]:
    """The label that the pictures of each class have; told by their colour, so that the order of files does
    not matter."""
    found = {}
    for image, label in (pictures[i] for i in range(len(pictures))):
        colour = image[:, 0, 0].numpy().astype(int)
        name = min(COLOURS, key=lambda name: abs(colour - COLOURS[name]).sum())
        assert found.setdefault(name, int(label)) == int(label)
    return found


def refused(capsys, *words) -> str:
    "Runs a command that has to end in one sentence. Returns it."
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.replace("\r", "\n").strip().split("\n")[-1]
    assert said.startswith("soft-ssl: ") and "Traceback" not in said
    return said


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- classes have names ----


@pytest.mark.parametrize(
    "packed", [(), ("train",), ("val",), ("train", "val")], ids=lambda parts: "+".join(parts) or "folders"
)
def test_classes_have_the_same_numbers_in_both_parts(packed, tmp_path, capsys):
    root = paint(tmp_path, *files_of("train", "ant", "bee", "dog"), *files_of("val", "bee", "cat", "dog"))
    for part in packed:
        pack(root / part, root / f"{part}.h5")
    train, test = (image_data("folder", root, train) for train in (True, False))
    assert labels_by_name(train) == {"ant": 0, "bee": 1, "dog": 3}
    assert labels_by_name(test) == {"bee": 1, "cat": 2, "dog": 3}
    assert len(train.classes) == len(test.classes) == 4
    said = capsys.readouterr().err.strip()
    # which classes only one part has
    assert said.count("\n") == 0 and said.endswith("cat") and "lacks" in said


def test_parts_without_a_common_class_are_refused(tmp_path):
    root = paint(tmp_path, *files_of("train", "ant", "bee"), *files_of("val", "cat"))
    with pytest.raises(ValueError, match="no class in common"):
        image_data("folder", root, train=False)


def frozen_run(folder: Path, data: Path) -> RunFolder:
    "A network before its first step, which tells colours apart well enough."
    config = preset_config("byol", "digits", {"dataset": "folder", "data_path": str(data)} | TINY)
    run, split = RunFolder(folder), load_data(config)
    run.write_config(by_component(config | {"data_file": about_data(split)}))
    run.save_best(build_method(config, split.dataset.image_shape, split.statistics()))
    return run


def test_neighbours_are_right_where_a_part_lacks_a_class(tmp_path):
    data = paint(
        tmp_path / "data", *files_of("train", *COLOURS, n=4), *files_of("val", "bee", "cat", "egret")
    )
    for more in ((), ("train",)):
        for part in more:
            pack(data / part, data / f"{part}.h5")
        table = evaluate(frozen_run(tmp_path / "run", data).path, knn, checkpoint="best", taus="1", k=1)
        assert table.set_index("feature").loc["encoded", "score"] == 1


# ---- parts of a folder ----


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Val"), ("train", "validation"), ("TRAIN", "valid"), ("train", "Test"),
        ("train", "VALIDATION")
    ]
)
def test_parts_are_found_by_the_names_that_people_give_them(train, test, tmp_path):
    root = paint(tmp_path, *files_of(train, "ant", "bee"), *files_of(test, "ant", "bee", n=1))
    assert [len(image_data("folder", root, part)) for part in (True, False)] == [4, 2]


def test_folders_without_pictures_do_not_matter(tmp_path):
    for root in (
        paint(tmp_path / "parts", *files_of("Train", "ant")),
        paint(tmp_path / "classes", "ant/0.png", "ant/1.png"), paint(tmp_path / "flat", "0.png", "1.png")
    ):
        paint(root, "annotations/deeper/.x.png")
        (root / "labels").mkdir()
        (root / "labels" / "list.txt").write_text("1")
        pictures = image_data("folder", root)
        assert (len(pictures), len(pictures.classes)) == (2, 1)


def test_of_several_parts_to_test_on_the_first_with_pictures_is_taken(tmp_path):
    root = paint(tmp_path, *files_of("train", "ant"))
    for n, name in enumerate(("test", "valid", "validation", "val"), 1):
        paint(root, *files_of(name, "ant", n=n))
        assert len(image_data("folder", root, train=False)) == n
    for file in (root / "val" / "ant").iterdir():
        file.unlink()
    assert len(image_data("folder", root, train=False)) == 3


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["val/ant/1.png", "other/1.png"], "nothing to train on"),
        (["train/ant/1.png", "val/ant/1.png", "ant/1.png"], "ant/1.png lies beside"),
        (["train/ant/1.png", "1.png"], "1.png lies beside"),
        (["Train/ant/1.png", "train/ant/1.png"], "are two folders or files for the same part"),
        (["train/ant/1.png", "val/ant/1.png", "Val/ant/2.png"], "are two folders or files for the same part")
    ],
)
def test_a_layout_that_is_not_understood_is_refused_with_those_that_are(names, said, tmp_path, capsys):
    paint(tmp_path / "photos", *names)
    if len(list((tmp_path / "photos").iterdir())) < len({name.split("/")[0] for name in names}):
        pytest.skip("this disk does not tell capitals apart")
    for train in (True, False):
        with pytest.raises(ValueError, match=f"{said}.*`train` and `val`"):
            image_data("folder", tmp_path / "photos", train)
    words = [
        "pretrain", "byol", "--preset", "digits", "--dataset", "folder", "--data_path", tmp_path / "photos",
        "--root_path", tmp_path / "runs"
    ]
    assert said in refused(capsys, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "names", [["ant/1.png", "ant/2.png"], ["1.png", "2.png"], ["train/ant/1.png", "train/ant/2.png"]],
    ids=["classes", "flat", "train alone"]
)
def test_a_folder_without_a_part_to_test_on_says_so(names, tmp_path):
    root = paint(tmp_path, *names)
    assert len(image_data("folder", root)) == 2
    with pytest.raises(ValueError, match="has no part to test on"):
        image_data("folder", root, train=False)


def test_of_a_folder_without_parts_images_are_held_back(tmp_path, capsys):
    data = paint(tmp_path / "data", *(f"{name}/{i}.png" for name in ("ant", "bee") for i in range(5)))
    evaluate(frozen_run(tmp_path / "run", data).path, knn, checkpoint="best", taus="1", k=1)
    assert "1 of 10 pictures, drawn at random, are held back" in capsys.readouterr().out


# ---- what is no picture, and no class ----


def test_hidden_and_empty_folders_are_no_classes_and_hidden_files_no_pictures(tmp_path):
    names = ["ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"]
    hidden = [
        ".thumbnails/1.png", "ant/.ipynb_checkpoints/1-checkpoint.png", "bee/._1.png", "._2.png", ".x.png"
    ]
    root = paint(tmp_path / "photos", *names, *hidden)
    (root / "cat" / "deeper").mkdir(parents=True)
    pictures = image_data("folder", root)
    assert (len(pictures), pictures.classes) == (4, ["ant", "bee"])
    assert len(PackedPictures(pack(root, tmp_path / "packed.h5"))) == 4
    data = from_folder(root, tmp_path / "c.h5", side=8)
    assert (len(data.dataset), data.dataset.factors.sizes) == (4, (2,))


def test_pictures_beside_sub_folders_are_refused_and_one_is_named(tmp_path):
    root = paint(
        tmp_path / "photos", "a.png", "b.png",
        *(f"{name}/{i}.png" for name in ("ant", "bee") for i in range(6))
    )
    with pytest.raises(ValueError, match="beside its sub-folders, such as a.png"):
        image_data("folder", root)
    with pytest.raises(ValueError, match="different depths, such as b?a?.png and"):
        from_folder(root, tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()


# ---- pictures that were not named as such ----

PLACES = {
    "flat": ["1.png"], "classes": ["ant/1.png"], "parts": ["train/ant/1.png"],
    "other parts": ["Train/ant/1.png", "Validation/ant/1.png"]
}


@pytest.mark.parametrize("kind", [*PLACES, "packed", "packed file"])
def test_a_folder_of_pictures_is_not_taken_for_another_data_set(kind, tmp_path, capsys):
    photos = paint(tmp_path / "photos", *PLACES.get(kind, []))
    if kind.startswith("packed"):
        photos.mkdir()
        pack(paint(tmp_path / "elsewhere", "ant/1.png"), photos / "train.h5")
    given, before = photos / "train.h5" if kind == "packed file" else photos, everything_below(photos)
    for more in ((), ("--preset", "digits"), ("--dry_run",), ("--dataset", "imagenet")):
        said = refused(
            capsys, "pretrain", "byol", "--data_path", given, "--root_path", tmp_path / "runs", "--max_steps",
            "1", *more
        )
        assert "is a folder of pictures: add --dataset folder to train on them" in said
    for dataset in ("digits", "cifar10", "stl10", "imagenet100"):
        with pytest.raises(ValueError, match="is a folder of pictures: add --dataset folder"):
            image_data(dataset, given)
    assert everything_below(photos) == before and not (tmp_path / "runs").exists()


def test_data_sets_in_folders_of_their_own_are_found(tmp_path):
    write_digits(tmp_path / "digits")
    paint(tmp_path, "imagenet/train/ant/1.png", "imagenet/val/ant/1.png", ".thumbnails/1.png")
    assert [
        len(image_data(name, tmp_path, train)) for name in ("digits", "imagenet") for train in (True, False)
    ] == [1438, 359, 1, 1]


# ---- reading ----

SCENE = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)  # as it was seen
STORED = {
    1: SCENE, 2: SCENE[:, ::-1], 3: SCENE[::-1, ::-1], 4: SCENE[::-1], 5: SCENE.T, 6: SCENE.T[::-1],
    7: SCENE.T[::-1, ::-1], 8: SCENE.T[:, ::-1]
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_pictures_are_turned_upright(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    (grey.convert("RGB") if kind == "webp" else grey).save(
        tmp_path / f"1.{kind}", exif=exif, **({"lossless": True} if kind == "webp" else {})
    )
    assert np.asarray(read_picture(tmp_path / f"1.{kind}"))[..., 1].tolist() == SCENE.tolist()
    assert image_data("folder", tmp_path)[0][0][1].tolist() == SCENE.tolist()


def test_every_reader_turns_a_photograph(tmp_path):
    exif, square = Image.Exif(), np.zeros((8, 8), np.uint8)
    exif[0x0112], square[:4] = 6, 200
    for number in range(4):
        Image.fromarray(square).save(tmp_path / f"{number}.jpg", exif=exif, quality=95)
    upright = square.T[:, ::-1]  # the first row of the file is the right side of the scene
    read = {
        "folder": image_data("folder", tmp_path)[0][0][0],
        "packed": PackedPictures(pack(tmp_path, tmp_path / "p.h5"))[0][0][0],
        "file": from_folder(tmp_path, tmp_path / "c.h5", side=8).dataset.images([0])[0, 0]
    }
    for name, image in read.items():
        assert abs(image.numpy().astype(int) - upright).max() < 8, name


def test_damaged_metadata_does_not_stop_reading(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / "1.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03")
    assert np.asarray(read_picture(tmp_path / "1.png"))[..., 0].tolist() == SCENE.tolist()


def rgba() -> Image.Image:
    return Image.fromarray(np.array([[[7, 8, 9, 255], [0, 0, 0, 0], [0, 100, 255, 51]]], np.uint8))


def la() -> Image.Image:
    return Image.fromarray(np.array([[[7, 255], [0, 0], [100, 51]]], np.uint8), "LA")


def palette(**saved) -> Image.Image:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([7, 8, 9, 0, 0, 0, 0, 100, 255])
    return image


WHITE = [255, 255, 255]
MIXED = [204, 224, 255]  # a fifth of the colour, four fifths of white
TRANSPARENT = {
    "RGBA png": (rgba, "png", {}, [[7, 8, 9], WHITE, MIXED]),
    "RGBA tif": (rgba, "tif", {}, [[7, 8, 9], WHITE, MIXED]),
    "RGBA webp": (rgba, "webp", {"lossless": True, "exact": True}, [[7, 8, 9], WHITE, MIXED]),
    "LA": (la, "png", {}, [[7] * 3, WHITE, [224] * 3]),
    "palette": (palette, "png", {"transparency": 1}, [[7, 8, 9], WHITE, [0, 100, 255]]),
    "palette with many": (palette, "png", {"transparency": bytes([255, 0, 51])}, [[7, 8, 9], WHITE, MIXED]),
    "gif": (palette, "gif", {"transparency": 1}, [[7, 8, 9], WHITE, [0, 100, 255]]),
    "one grey": (
        lambda: Image.fromarray(SCENE[:1]), "png", {"transparency": 20}, [[10] * 3, WHITE, [30] * 3]
    ),
    "one colour": (
        lambda: rgba().convert("RGB"), "png", {"transparency": (0, 0, 0)}, [[7, 8, 9], WHITE, [0, 100, 255]]
    ),
    "one of 65,536 greys": (
        lambda: Image.fromarray(np.array([[0, 257, 65535]], np.uint16)), "png", {"transparency": 257},
        [[0] * 3, WHITE, WHITE]
    ),
}


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_is_put_on_white(kind, tmp_path):
    make, suffix, options, expected = TRANSPARENT[kind]
    make().save(tmp_path / f"1.{suffix}", **options)
    assert np.asarray(read_picture(tmp_path / f"1.{suffix}"))[0].tolist() == expected
    assert image_data("folder", tmp_path)[0][0][:, 0].T.tolist() == expected


# ---- a run knows its pictures ----


def test_a_fingerprint_is_of_names_and_bytes(tmp_path, monkeypatch):
    root = paint(tmp_path / "photos", "ant/1.bmp", "bee/1.bmp")
    marks = [
        image_data("folder", root).fingerprint(),
        PackedPictures(pack(root, tmp_path / "elsewhere" / "1.h5")).fingerprint()
    ]
    assert marks[0] == marks[1]  # the same pictures, packed
    Image.new("RGB", (8, 8), "red").save(root / "ant" / "1.bmp")  # as many bytes as before
    marks += [
        image_data("folder", root).fingerprint(),
        PackedPictures(pack(root, tmp_path / "elsewhere" / "2.h5")).fingerprint()
    ]
    assert marks[2] == marks[3] != marks[0]
    monkeypatch.setattr(pictures_module, "MOST_READ", 2)
    large = image_data("folder", root, side=8).fingerprint()
    Image.new("RGB", (8, 8), "blue").save(root / "ant" / "1.bmp")
    # of many gigabytes names and sizes are read
    assert large == image_data("folder", root).fingerprint() and large not in marks
    (root / "ant" / "1.bmp").rename(root / "ant" / "2.bmp")
    assert large != image_data("folder", root).fingerprint()


def test_a_run_goes_on_and_is_read_only_on_the_pictures_that_it_was_trained_on(tmp_path, capsys):
    data = paint(tmp_path / "data", *(f"{name}/{i}.bmp" for name in ("ant", "bee") for i in range(5)))
    options = TINY | dict(
        preset="digits", dataset="folder", data_path=str(data), root_path=tmp_path, run_id="run",
        show_progress=False
    )
    run = pretrain("byol", **options)
    pretrain("byol", reload=True, **options)
    evaluate(run.path, knn, taus="1", k=1)
    os.utime(data / "ant" / "1.bmp", (0, 0))
    evaluate(run.path, knn, taus="1", k=1)
    Image.new("RGB", (8, 8), "red").save(data / "ant" / "1.bmp")
    with pytest.raises(ValueError, match="are not those that .* was trained on"):
        pretrain("byol", reload=True, **options)
    assert "was trained on (its checksum differs)" in refused(
        capsys, "evaluate", "byol", "knn", "--run_path", run.path, "--taus", "1", "--k", "1"
    )


def test_features_that_were_kept_are_not_those_of_other_test_pictures(tmp_path):
    data = paint(tmp_path / "data", *files_of("train", "ant", "bee", n=4), *files_of("val", "ant", "bee"))
    run = frozen_run(tmp_path / "run", data)
    options = dict(checkpoint="best", taus="1", k=1)
    first = evaluate(run.path, knn, **options).set_index("feature")["score"]["encoded"]
    # in the colour of the other class
    Image.new("RGB", (8, 8), COLOURS["bee"]).save(data / "val" / "ant" / "0.png")
    assert (first, evaluate(run.path, knn, **options).set_index("feature")["score"]["encoded"]) == (1, 0.75)


# ---- packed ----


def test_packed_pictures_travel_to_a_process_that_opens_the_file_itself(tmp_path):
    photos = paint(tmp_path / "photos", "ant/1.png", "bee/2.png")
    packed = PackedPictures(pack(photos, tmp_path / "packed.h5"))
    first = packed[0][0]
    assert packed.file is not None  # an open file cannot be sent
    there = ForkingPickler.loads(ForkingPickler.dumps(packed))
    assert there.file is None and torch.equal(there[0][0], first)


def test_a_label_that_is_not_that_of_its_folder_is_refused(tmp_path):
    path = pack(paint(tmp_path / "photos", "ant/1.png", "bee/2.png"), tmp_path / "packed.h5")
    with h5py.File(path, "a") as file:
        file["labels"][0] = 1
    with pytest.raises(ValueError, match="a label is not that of the picture's folder"):
        PackedPictures(path)


def test_fewer_pictures_than_asked_for_are_said(tmp_path):
    paint(tmp_path / "train", *[f"{name}/{i}.png" for name in ("ant", "bee") for i in range(4)])
    paint(tmp_path / "val", "ant/1.png", "bee/2.png")
    with pytest.warns(UserWarning, match="there are 8 pictures to train on, fewer than n_train=9"):
        assert len(load_pictures("folder", tmp_path, image_size=8, n_train=9).splits.train) == 8


# ---- names ----


def odd(folder: Path) -> Path:
    "Pictures whose names, and those of their class and their folder, are not UTF-8."
    photos = Path(os.fsdecode(os.fsencode(folder) + b"/photos\xe9"))
    names = [
        os.fsdecode(name) for name in (b"caf\xe9/1.png", b"caf\xe9/\xff2.png", b"ant/1.png", b"ant/2\xe9.png")
    ]
    try:
        return paint(photos, *names)
    except OSError:
        pytest.skip("this disk has no such names")


def test_names_that_are_not_utf8_work(tmp_path):
    root = odd(tmp_path)
    pictures = image_data("folder", root)
    assert (len(pictures), len(pictures.classes)) == (4, 2)
    packed = image_data("folder", pack(root, tmp_path / "packed.h5"))
    assert packed.classes == pictures.classes and packed.targets.tolist() == pictures.targets.tolist()
    assert packed.fingerprint() == pictures.fingerprint()
    assert len(PackedPictures(pack(root, root / "inside.h5"))) == 4
    data = from_folder(root, tmp_path / "c.h5", side=8)
    assert (len(data.dataset), data.title) == (4, "photos\\xe9 (original)")
    assert len(from_folder(root, root / "c.h5", side=8).dataset) == 4


def test_names_that_are_not_utf8_can_be_printed(tmp_path, capsys):
    root = odd(tmp_path)
    config = dict(
        dataset="folder", data_path=str(root), root_path=tmp_path, run_id="run", preset="digits",
        show_progress=False
    )
    run = pretrain("byol", **config | TINY)
    assert "photos\\xe9" in capsys.readouterr().out
    evaluate(run.path, knn, taus="1", k=1)
    bad = root / os.fsdecode(b"caf\xe9") / "1.png"
    bad.write_bytes(b"no picture")
    for read in (lambda: image_data("folder", root)[2], lambda: from_folder(root, tmp_path / "c.h5")):
        with pytest.raises(ValueError, match=r"caf\\xe9/1.png cannot be read") as error:
            read()
        str(error.value).encode()  # no bytes that a terminal refuses
    paint(root, os.fsdecode(b"\xe9.png"))
    for read in (
        lambda: image_data("folder", root), lambda: from_folder(root, tmp_path / "c.h5"),
        lambda: image_data("digits", root)
    ):
        with pytest.raises(ValueError, match=r"\\xe9") as error:
            read()
        str(error.value).encode()


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(paint(tmp_path / "here", "x/1.png"))
    paint(tmp_path / "photos", "ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png")
    assert len(image_data("folder", "~/photos")) == len(PictureFolder("~/photos")) == 4
    assert len(
        PackedPictures(pack("~/photos", "~/packed.h5"))
    ) == len(image_data("folder", "~/packed.h5")) == 4
    assert write_digits("~/data/digits") == tmp_path / "data" / "digits"
    assert len(image_data("digits", "~/data")) == 1438
    assert len(from_folder("~/photos", "~/c.h5", side=8).dataset) == len(FactorDataset("~/c.h5")) == 4
    assert data_file("~/data", "dsprites", "original") == tmp_path / "data" / "dsprites_original.h5"
    (tmp_path / "data" / "dsprites_original.h5").write_bytes(b"damaged")
    assert str(tmp_path) in refused(capsys, "download", "dsprites", "~/data", 1)
    assert everything_below(tmp_path / "here") == ["x", "x/1.png"]  # and no folder that is called ~
    assert "there is no folder" in refused(
        capsys, "pretrain", "byol", "--dataset", "folder", "--data_path", "~nobody-of-this-name/x"
    )

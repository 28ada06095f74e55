"""Mutated files and bad options: each has to end in the right result or in one sentence. `make fuzz` tries
thousands.

Commands run in a worker process, many to a process; a worker that dies or hangs is a failure, and is
replaced."""

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from soft_ssl import datasets, mpi3d
from soft_ssl.cli import main
from soft_ssl.experiment import COMPONENTS, METHODS, method_options, options_of, train
from soft_ssl.files import file_digest
from soft_ssl.probes import linear_probe
from soft_ssl.runs import RunFolder

SEED = 0
SECONDS = 60  # that a command may take
MEMORY = 12 * 2**30  # bytes of addresses that a worker may have
GRID = mpi3d.Factors(mpi3d.NAMES, (6, 6, 1, 2, 1, 1, 6), mpi3d.CLASSES)
SMALL = dict(
    n_groups=4, n_symbols=3, h_dim=4, feature_dim=8, train_batch_size=16, n_sub_train=60, n_sub_test=40,
    figures=False
)
RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "trust"


def words_of(options: dict[str, Any]) -> list[str]:
    "Options as a command line has them."
    return [
        word for name, value in options.items()
        for word in (
            [f"--{'no_' * (not value)}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
        )
    ]


# ---- what is mutated ----


def tell_small() -> None:
    "The recipe of `mpi3d_toy` takes a small archive for the real one."
    datasets.DATASETS["mpi3d_toy"] = datasets.mpi3d_recipe("mpi3d_toy", "mpi3d_toy", GRID)


def make_data(folder: Path) -> None:
    """Everything undisturbed: an archive, its data file, a run of two steps, that run two steps later, a
    folder of pictures."""
    tell_small()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = mpi3d.draw(GRID.values(np.arange(len(GRID))), GRID).numpy()
    np.savez_compressed(folder / "mpi3d_toy.npz", images=pictures)
    datasets.build_file("mpi3d_toy", folder / "data", archive=folder / "mpi3d_toy.npz")
    places = dict(
        dataset="mpi3d_toy", dataset_K=3, data_path=str(folder / "data"), root_path=str(folder),
        exp_name="runs"
    )
    options = SMALL | places | dict(show_progress=False, log_every=1)
    run = train("byol", run_id="run", max_steps=2, **options)
    shutil.copytree(run.path, folder / "runs" / "later")
    train("byol", run_id="later", max_steps=4, reload=True, **options)
    for number, picture in enumerate(pictures[:8]):
        (folder / "pictures" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(
            folder / "pictures" / str(number % 2) / f"{number}.{'jpg' if number > 5 else 'png'}"
        )


def flip_bit(data: bytearray, rng: np.random.Generator) -> None:
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def flip_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(2, 20)):
        data[rng.integers(len(data))] = rng.integers(256)


def flip_in_head(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(min(len(data), 2048))] = rng.integers(256)


def flip_in_tail(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 4)):
        data[-1 - rng.integers(min(len(data), 512))] = rng.integers(256)


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(len(data)) :]


def grow(data: bytearray, rng: np.random.Generator) -> None:
    data += rng.bytes(rng.integers(1, 3000))


def zero_block(data: bytearray, rng: np.random.Generator) -> None:
    start, length = rng.integers(len(data)), rng.integers(1, 4096)
    data[start : start + length] = bytes(len(data[start : start + length]))


def insert_bytes(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data))
    data[start:start] = rng.bytes(rng.integers(1, 64))


def drop_block(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(len(data))
    del data[start : start + rng.integers(1, 4096)]


def swap_blocks(data: bytearray, rng: np.random.Generator) -> None:
    half = len(data) // 2
    one, other, length = rng.integers(half), half + rng.integers(half), rng.integers(1, 2048)
    first, second = data[one : one + length], data[other : other + length]
    if len(first) == len(second) and one + length <= other:
        data[one : one + length], data[other : other + length] = second, first


def something_else(data: bytearray, rng: np.random.Generator) -> None:
    others = (
        b"", b"\n", b"\0" * 5000, b"PK\x05\x06" + bytes(18), b"{}", b"[]", b"null", b"\x89HDF\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n", rng.bytes(999)
    )
    data[:] = others[rng.integers(len(others))]


BINARY = (
    flip_bit, flip_bytes, flip_in_head, flip_in_tail, cut, grow, zero_block, insert_bytes, drop_block,
    swap_blocks, something_else
)
WORDS = (
    "nan", "1e999", "-1", "0", '""', "null", "[]", "{}", "true", "99999999999999999999999", "1.5",
    '"\\ud800"', "'", ",", '"', "\0", "[" * 5000, "é"
)


def new_word(data: bytearray, rng: np.random.Generator) -> None:
    "Puts another word, or none, where one stood."
    places = [match.span() for match in re.finditer(rb"[\w.+-]+|\"[^\"]*\"", bytes(data))]
    start, stop = places[rng.integers(len(places))]
    data[start:stop] = WORDS[rng.integers(len(WORDS))].encode()


def drop_line(data: bytearray, rng: np.random.Generator) -> None:
    lines = bytes(data).splitlines(keepends=True)
    lines.pop(rng.integers(len(lines)))
    data[:] = b"".join(lines)


TEXT = (new_word, new_word, drop_line, flip_bit, flip_bytes, cut, grow, drop_block, something_else)


def mutate_bytes(file: Path, rng: np.random.Generator, ways: tuple[Callable, ...]) -> str:
    "Changes a file in one of these ways. Returns its name."
    data, way = bytearray(file.read_bytes()), ways[rng.integers(len(ways))]
    way(data, rng)
    file.write_bytes(data)
    return way.__name__


def checked_config(file: Path, rng: np.random.Generator) -> str:
    "One value of a configuration that has no checksum becomes something that it cannot be."
    config = json.loads(file.read_text())
    del config["checksum"], config["versions"]
    parts = [(config, name) for name in sorted(config)] + [
        (config[component], name) for component in COMPONENTS for name in sorted(config[component])
    ]
    part, name = parts[rng.integers(len(parts))]
    if name != "select_on":
        others = (None, [], {}, "surely not", float("nan"))
        part[name] = others[rng.integers(len(others))]
        if isinstance(part[name], float) or name == "data_path":  # these have the right kind
            part[name] = None
    file.write_text(json.dumps(config))
    return f"another kind of {name}"


def checked_checkpoint(file: Path, rng: np.random.Generator) -> str:
    "A checkpoint with right checksums and something wrong inside."
    state = torch.load(file, weights_only=True)
    weights = state["method"]
    name = sorted(weights)[rng.integers(len(weights))]
    ways: dict[str, Callable[[], Any]] = {
        "no version": lambda: state.pop("version"), "no weights": lambda: state.pop("method"),
        "no optimizer": lambda: state.pop("optimizer"),
        "older version": lambda: state.update(version=0), "newer version": lambda: state.update(version=99),
        "no step": lambda: state.pop("step"),
        "version in words": lambda: state.update(version="one"),
        "step in words": lambda: state.update(step="two"), "step below 0": lambda: state.update(step=-3),
        "weights are a list": lambda: state.update(method=[1, 2]),
        "a weight is missing": lambda: weights.pop(name),
        "a weight is a word": lambda: weights.update({name: "0"}),
        "a weight too many": lambda: weights.update(more=torch.zeros(3)),
        "a weight of another shape": lambda: weights.update({name: torch.zeros(7, 7)}),
    }
    way = sorted(ways)[rng.integers(len(ways))]
    ways[way]()
    torch.save(state, file)
    return way


def checked_weights(file: Path, rng: np.random.Generator) -> str:
    "Weights without a checksum and something wrong with them."
    weights = load_file(file)
    name, way = sorted(weights)[rng.integers(len(weights))], rng.integers(3)
    if way == 0:
        del weights[name]
    else:
        weights[name if way == 1 else "more"] = torch.zeros(7, 7)
    save_file(weights, file)
    return ("a weight is missing", "a weight of another shape", "a weight too many")[way]


def checked_data(file: Path, rng: np.random.Generator) -> str:
    "A data file that HDF5 finds in order and something wrong inside."
    with h5py.File(file, "a") as opened:
        table = ("images", "factors", "pixel_moments")[rng.integers(3)]
        attribute = sorted(set(opened.attrs) - {"tables_sha256"})[rng.integers(len(opened.attrs) - 1)]
        way = rng.integers(7)
        values = opened[table][:]
        if way in (0, 1, 2, 3):
            del opened[table]
        if way == 1:
            opened[table] = values[:-1]
        elif way == 2:
            opened[table] = np.array([b"words"] * len(values))
        elif way == 3:
            opened[table] = h5py.ExternalLink("other.h5", table)
        elif way == 4:
            del opened.attrs[attribute]
        elif way == 5:
            opened.attrs[attribute] = [-1.5, 3] if rng.integers(2) else "surely not"
        elif way == 6:
            opened["factors"][int(rng.integers(len(values)))] += 1
    return (
        "no table", "shorter table", "table of words", "table elsewhere", "no attribute", "another attribute",
        "another factor"
    )[way]


def checked_archive(file: Path, rng: np.random.Generator) -> str:
    "An archive that zip finds in order and something wrong inside."
    images = np.load(file)["images"]
    ways = {
        "objects": np.array([{"not": "images"}] * len(images), dtype=object),
        "words": np.full(len(images), "word"), "numbers": np.float32(3),
        "fewer": images[:-1], "Fortran": np.asfortranarray(images), "floats": images / 255,
        "grey": images[..., 0], "shuffled": rng.permutation(images),
        "none": images[:0], "dates": np.zeros(images.shape, "M8[s]"),
        "records": np.zeros(images.shape, [("a", "u1")]),
    }
    way = sorted(ways)[rng.integers(len(ways))]
    np.savez(file, images=ways[way])
    return way


# ---- pictures ----


def bad_picture(folder: Path, rng: np.random.Generator) -> str:
    "One picture of a folder becomes something else."
    files = sorted(folder.rglob("*.*"))
    file = files[rng.integers(len(files))]
    picture = Image.open(file).convert("RGB")
    outside = folder.parent / "outside.png"
    grey16 = np.asarray(picture.convert("L")).astype(np.uint16) * 257

    def link(target: Path) -> None:
        file.unlink()
        file.symlink_to(target)

    def saved(as_format: str, image: Image.Image = picture, **options: Any) -> None:
        image.save(file, as_format, **options)

    ways: dict[str, Callable[[], Any]] = {
        "bytes": lambda: mutate_bytes(file, rng, BINARY), "cut": lambda: mutate_bytes(file, rng, (cut,)),
        "flipped": lambda: mutate_bytes(file, rng, (flip_bytes,)),
        "empty": lambda: file.write_bytes(b""), "text": lambda: file.write_text("no picture"),
        "wrong extension": lambda: saved("BMP"),
        "animated": lambda: saved("GIF", save_all=True, append_images=[picture.rotate(90)]),
        "16 bits": lambda: saved("PNG", Image.fromarray(grey16)),
        "floats": lambda: saved("TIFF", Image.fromarray(np.asarray(picture.convert("L")).astype(np.float32))),
        "palette": lambda: saved("PNG", picture.convert("P")),
        "transparent": lambda: saved("PNG", picture.convert("RGBA")),
        "one pixel": lambda: saved("PNG", picture.resize((1, 1))),
        "flat": lambda: saved("PNG", picture.resize((3000, 1))),
        "huge": lambda: saved("PNG", Image.new("1", (2**15, 2**14))),
        "PostScript": lambda: file.write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
        ),
        "icon": lambda: saved("ICO"),
        "link outside": lambda: (picture.save(outside), link(outside)),
        "link to nothing": lambda: link(folder / "nothing.png"), "link to itself": lambda: link(file),
        "link to a folder": lambda: link(folder), "folder": lambda: (file.unlink(), file.mkdir()),
        "CMYK": lambda: saved("JPEG", picture.convert("CMYK")),
        "another depth": lambda: file.rename(folder / file.name),
        "odd name": lambda: file.rename(file.with_name("ü\n '\"$(x).png")),
    }
    way = sorted(ways)[rng.integers(len(ways))]
    ways[way]()
    return way


# ---- commands ----


class Case(NamedTuple):
    "One mutated input, and the command that reads it."

    mutation: str
    # of the command line; the first may be `from_folder`, which is no command but a function
    words: list[str]
    inputs: list[Path]  # files that it must leave as they are
    right: Callable[[], bool]  # whether what it made is right, if it says that all is well


def scores(table: Path) -> pd.DataFrame:
    return pd.read_csv(table).drop(columns="run")


def same_scores(table: Path, reference: Path) -> bool:
    try:
        pd.testing.assert_frame_equal(scores(table), scores(reference), check_exact=False, rtol=1e-9)
        return True
    except (AssertionError, FileNotFoundError):
        return False


def evaluation_case(original: Path, folder: Path, change: Callable[[Path, Path], str], *more: str) -> Case:
    "Evaluates a run from changed files. It is right if the scores are, and all that was read."
    shutil.copytree(original / "runs" / "run", folder / "run")
    shutil.copytree(original / "data", folder / "data")
    mutation = change(folder / "run", folder / "data")
    words = [
        "evaluate", "byol", "linear_probe", "--run_path", str(folder / "run"), "--data_path",
        str(folder / "data"), *more
    ]
    table = "probes_best.csv" if "best" in more else "probes.csv"
    (folder / "run" / table).unlink(missing_ok=True)  # of an earlier evaluation
    inputs = [file for file in folder.rglob("*") if file.is_file() and file.name != table]
    reference = original / "runs" / "run" / table
    where = (folder / "run", folder / "data"), (original / "runs" / "run", original / "data")
    return Case(
        mutation, words, inputs,
        lambda: same_scores(folder / "run" / table, reference) and same_content(*where, "best" in more)
    )


def same_content(here: tuple[Path, Path], there: tuple[Path, Path], best: bool) -> bool:
    "Whether a run's weights and its data are read as those of another, down to what no probe looks at."
    (now, then) = (
        RunFolder(run).load_best() if best else RunFolder(run).load_checkpoint()["method"]
        for run, _ in (here, there)
    )
    one, other = (datasets.FactorDataset(data / "mpi3d_toy_original.h5") for _, data in (here, there))
    tables = (
        np.array_equal(one.values, other.values) and np.array_equal(one.moments, other.moments)
        and one.factors == other.factors
    )
    try:
        images = torch.equal(one.images(slice(None)), other.images(slice(None)))
    except ValueError:  # a chunk that the command did not need: who needs it is told
        images = True
    return (
        tables and images and now.keys() == then.keys()
        and all(torch.equal(now[name], then[name]) for name in then)
    )


def reload_case(original: Path, folder: Path, change: Callable[[Path], str]) -> Case:
    """Goes on with a run whose files were changed. It is right if the weights are those of the run that went
    on undisturbed."""
    run = folder / "runs" / "run"
    shutil.copytree(original / "runs" / "run", run)
    mutation = change(run)
    options = SMALL | dict(
        dataset="mpi3d_toy", dataset_K=3, data_path=original / "data", root_path=folder, exp_name="runs",
        run_id="run"
    )
    words = ["train", "byol", "--reload", "--max_steps", "4", "--log_every", "1", *words_of(options)]

    def right() -> bool:
        now, then = (RunFolder(path).load_checkpoint() for path in (run, original / "runs" / "later"))
        return (
            now["step"] == then["step"]
            and all(torch.equal(now["method"][name], value) for name, value in then["method"].items())
        )

    return Case(mutation, words, [], right)


def archive_case(original: Path, folder: Path, change: Callable[[Path], str]) -> Case:
    "Converts a changed archive. It is right if the pictures are."
    archive = folder / "mpi3d_toy.npz"
    folder.mkdir(parents=True)
    shutil.copy(original / archive.name, archive)
    mutation = change(archive)

    def right() -> bool:
        made, reference = (
            datasets.FactorDataset(path / "data" / "mpi3d_toy_original.h5") for path in (folder, original)
        )
        return torch.equal(made.images(slice(None)), reference.images(slice(None)))

    return Case(
        mutation, ["download", "mpi3d_toy", str(folder / "data"), "3", "--from", str(archive)], [archive],
        right
    )


def pictures_case(original: Path, folder: Path, rng: np.random.Generator, large: bool) -> Case:
    """Reads a folder with a bad picture: as a data set, or to pretrain on. It is right if there is a data
    file, or a run."""
    pictures = folder / "pictures"
    shutil.copytree(original / "pictures", pictures)
    mutation = bad_picture(pictures, rng)
    inputs = [file for file in pictures.rglob("*") if file.is_file() and not file.is_symlink()]
    if not large:
        made = folder / "made.h5"
        return Case(
            mutation, ["from_folder", str(pictures), str(made)], inputs,
            lambda: len(datasets.FactorDataset(made)) >= 7
        )
    size = dict(
        image_size=16, encoder="ResNet10", n_groups=4, n_symbols=3, projector_hidden=8, projection_dim=8,
        predictor_hidden=8, train_batch_size=4
    )
    words = [
        "pretrain", "byol", "--dataset", "folder", "--data_path", str(pictures), "--root_path", str(folder),
        "--run_id", "run", "--max_steps", "2"
    ]
    words += [*words_of(size), "--workers", "0", "--optimizer", "SGD", "--precision", "fp32"]
    return Case(
        mutation, words, inputs, lambda: RunFolder(folder / "pretrain" / "run").load_checkpoint()["step"] == 2
    )


NUMBERS = (
    "-1", "0", "1.5", "nan", "inf", "-inf", "many", "", "99999999999999999999", "-99999999999999999999",
    "1e3", "1e400", "1e-400", "1000000000", "4611686018427387904", " 7", "0x10", "1,5", "1 2"
)
TEXTS = ("", "nowhere", "../..", "a\nb", "x" * 5000, "ü", "/dev/null", "-5", "--lr", "None", "%s%n", "a\0b")
# with a value that is out of proportion these do what was asked, and it takes for ever
ENDLESS = {"max_steps", "queue_size", "warm_up_batches", "accumulate", "projector_depth"}


def option_words() -> list[tuple[str, str, str]]:
    "Every option of every small command, with every bad value: command, option, value."
    general = options_of(train)
    found = []
    for command, options in (
        ("train byol", general | method_options("byol")),
        *((f"train {method}", method_options(method)) for method in METHODS if method != "byol"),
        (
            "evaluate byol linear_probe",
            options_of(linear_probe) | {"checkpoint": general["select_on"], "data_path": general["exp_name"]}
        ),
    ):
        seen = {name for said, name, _ in found if said.startswith("train") and command.startswith("train")}
        for name, option in options.items():
            values = ("5",) if option.kind is bool else TEXTS if option.kind is str else NUMBERS
            found += [
                (command, name, value) for value in values
                if name not in seen and not (name in ENDLESS and len(value) > 9)
            ]
    return found


def option_case(original: Path, folder: Path, command: str, name: str, value: str) -> Case:
    "A small run with one bad option. It is right if there is a table of finite scores."
    run, places = original / "runs" / "run", dict(data_path=original / "data", root_path=folder)
    if command.startswith("evaluate"):
        shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("probes*.csv"))
        options = dict(run_path=folder / "run", data_path=original / "data")
        table = folder / "run" / "probes.csv"
    else:
        options = SMALL | places | dict(
            max_steps=1, dataset="mpi3d_toy", dataset_K=3, exp_name="a", run_id="b"
        )
        table = folder / "a" / "b" / "probes.csv"
    given = [f"--{name}={value}"]
    words = [
        *command.split(), *words_of({key: v for key, v in options.items() if key != name}), *given,
        *(["--final_eval_only"] if "train" in command else [])
    ]

    def right() -> bool:
        elsewhere = Path(value) / "a" / "b" / "probes.csv" if name == "root_path" else None
        made = [file for file in {table, elsewhere, *folder.rglob("probes*.csv")} if file and file.exists()]
        if len(made) != 1:
            return False
        scores = pd.read_csv(made[0])  # of the one horizontal place there is no R²
        return bool(np.isfinite(scores.loc[scores["factor"] != "horizontal", "score"]).all())

    return Case(f"--{name}={value[:20]!r}", words, [], right)


def case_of(kind: str, number: int, original: Path, folder: Path) -> Case:
    "One case, made from the seed, its kind and its number alone."
    rng = np.random.default_rng([SEED, list(KINDS).index(kind), number])
    structural = number % 3 == 2

    def bytes_or(checked: Callable, ways: tuple[Callable, ...]) -> Callable[[Path], str]:
        return (
            (lambda file: checked(file, rng)) if structural else (lambda file: mutate_bytes(file, rng, ways))
        )

    data, ckpt, best, config, npz = (
        bytes_or(checked, ways)
        for checked, ways in (
            (checked_data, BINARY), (checked_checkpoint, BINARY), (checked_weights, BINARY),
            (checked_config, TEXT), (checked_archive, BINARY)
        )
    )
    if kind == "HDF5 data":
        return evaluation_case(original, folder, lambda run, where: data(where / "mpi3d_toy_original.h5"))
    if kind == "last.ckpt":
        if number % 4 == 0:
            return reload_case(original, folder, lambda run: ckpt(run / "last.ckpt"))
        return evaluation_case(original, folder, lambda run, where: ckpt(run / "last.ckpt"))
    if kind == "best.safetensors":
        return evaluation_case(
            original, folder, lambda run, where: best(run / "best.safetensors"), "--checkpoint", "best"
        )
    if kind == "config.json":
        return evaluation_case(original, folder, lambda run, where: config(run / "config.json"))
    if kind == "metrics.csv":
        table = ("metrics.csv", "evaluations.csv")[number % 2]
        return reload_case(original, folder, lambda run: mutate_bytes(run / table, rng, TEXT))
    if kind == "npz archive":
        return archive_case(original, folder, npz)
    if kind == "folder of images":
        return pictures_case(original, folder, rng, large=number % 4 == 3)
    words = option_words()
    command, name, value = words[np.random.default_rng(SEED).permutation(len(words))[number % len(words)]]
    return option_case(original, folder, command, name, value)


KINDS = {  # and how many of each `make fuzz` tries
    "HDF5 data": 500, "npz archive": 400, "last.ckpt": 300, "best.safetensors": 200, "config.json": 300,
    "metrics.csv": 150, "folder of images": 250,
    "command-line option": 0,  # all there are
}


# ---- running ----


def answer(words: list[str]) -> tuple[int | str, str]:
    "Runs a command in this process. Returns its exit code, or what it raised, and its error stream."
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            # the function that notebooks call: an error of these kinds is its sentence
            if words[0] == "from_folder":
                try:
                    datasets.from_folder(*words[1:])
                    code = 0
                except (ValueError, OSError) as error:
                    print(f"soft-ssl: {' '.join(str(error).split())}", file=sys.stderr)
                    code = 2
            else:
                code = main(words)
        except SystemExit as leave:
            code = leave.code
        except BaseException as error:  # noqa: BLE001, what a terminal would show as a traceback
            code = f"{type(error).__name__}: {error}"
    return code, said.getvalue()


def verdict(case: Case, code: int | str, said: str, before: dict[Path, str]) -> str:
    "`right`, `one sentence`, or what is wrong."
    lines = [
        line for line in (part.rsplit("\r", 1)[-1].strip() for part in said.split("\n"))
        if line and not re.search(r"\d+%\||/s\]$", line)
    ]
    if {path: file_digest(path) for path in case.inputs} != before:
        return "an input file was changed"
    if code == 0:
        return "right" if case.right() else "a wrong result"
    if (
        code == 2 and len(lines) == 1 and lines[0].startswith("soft-ssl: ") and "Traceback" not in said
        and len(lines[0]) < 6000
    ):
        return "one sentence"
    return f"code {code}, {len(lines)} lines: {' / '.join(lines)[:300]}"


def work(pipe: Any, original: Path, scratch: Path) -> None:
    "A worker: makes cases and runs them until it is told to stop."
    tell_small()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["SOFT_SSL_CHECKPOINT_SECONDS"] = "1000"
    # an option may name a folder beside the program, or above it
    below = scratch / f"{os.getpid()}" / "where" / "it" / "runs"
    below.mkdir(parents=True)
    os.chdir(below)
    while (asked := pipe.recv()) is not None:
        folder = scratch / f"{os.getpid()}" / "case"
        case = case_of(*asked, original, folder)
        before = {path: file_digest(path) for path in case.inputs}
        code, said = answer(case.words)
        pipe.send((case.mutation, verdict(case, code, said, before), said[-400:]))
        shutil.rmtree(folder, ignore_errors=True)


class Worker:
    "A process that runs cases, and is replaced when it dies or hangs."

    def __init__(self, original: Path, scratch: Path):
        self.places, self.process = (original, scratch), None

    def run(self, kind: str, number: int) -> tuple[str, str, str]:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=work, args=(other, *self.places), daemon=True)
            self.process.start()
            other.close()
        self.pipe.send((kind, number))
        try:
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
            ending = f"no end after {SECONDS} s"
        except EOFError:
            self.process.join()
            ending = f"the process died with code {self.process.exitcode}"
        self.stop()
        return "", ending, ""

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def fuzz(numbers: dict[str, range], scratch: Path) -> Iterator[tuple[str, int, str, str, str]]:
    "Runs cases of each kind: kind, number, mutation, verdict, what was said."
    original = scratch / "original"
    make_data(original)
    best = [
        *["evaluate", "byol", "linear_probe", "--checkpoint", "best", "--run_path"],
        str(original / "runs" / "run")
    ]
    assert answer(best)[0] == 0
    worker = Worker(original, scratch)
    try:
        for kind, chosen in numbers.items():
            for number in chosen:
                yield kind, number, *worker.run(kind, number)
    finally:
        worker.stop()


@functools.cache
def everything() -> dict[str, range]:
    return {kind: range(n or len(option_words())) for kind, n in KINDS.items()}


def run_all(numbers: dict[str, range], verbose: bool = True) -> tuple[pd.DataFrame, list[str]]:
    "A row for each kind, and a line for each failure."
    rows, failures = [], []
    with TemporaryDirectory() as scratch:
        begun = time.monotonic()
        for kind, number, mutation, ending, said in fuzz(numbers, Path(scratch)):
            if ending not in ("right", "one sentence"):
                failures.append(f"{kind} {number} ({mutation}): {ending} [{said!r}]")
                if verbose:
                    print(failures[-1], flush=True)
            rows.append(
                (
                    kind, mutation, ending if ending in ("right", "one sentence") else "failed",
                    time.monotonic() - begun
                )
            )
            begun = time.monotonic()
    table = pd.DataFrame(rows, columns=["kind", "mutation", "ending", "seconds"])
    summary = []
    for kind, part in table.groupby("kind", sort=False):
        counts = part["ending"].value_counts()
        summary.append({
            "what": f"mutated {kind}" if "option" not in kind else "bad command-line option",
            "tries": len(part), "right result": counts.get("right", 0),
            "one sentence": counts.get("one sentence", 0), "failed": counts.get("failed", 0),
            "seconds": round(part["seconds"].sum()),
            "command": f"python tests/fuzz.py --kind '{kind}'",
        })
    return pd.DataFrame(summary), failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), help="only this one")
    parser.add_argument("--case", type=int, help="only the one with this number")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases")
    args = parser.parse_args()
    wanted = {kind: chosen for kind, chosen in everything().items() if args.kind in (None, kind)}
    wanted = {kind: range(max(1, int(args.share * len(chosen)))) for kind, chosen in wanted.items()}
    if args.case is not None:
        wanted = {kind: range(args.case, args.case + 1) for kind in wanted}
    table, failures = run_all(wanted)
    print(table.to_markdown(index=False))
    print(f"{table['tries'].sum()} tries, {len(failures)} failures")
    if all(chosen == everything()[kind] for kind, chosen in wanted.items()):
        file = RESULTS / "fuzz.csv"
        RESULTS.mkdir(parents=True, exist_ok=True)
        before = pd.read_csv(file) if file.exists() else table[:0]
        pd.concat(
            [before[~before["what"].isin(table["what"])], table], ignore_index=True
        ).to_csv(file, index=False)
    sys.exit(1 if failures else 0)

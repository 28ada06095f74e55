"""What goes wrong around a program: it is killed, the disk is full, two run at once. `make faults` writes the
table.

Each command runs in a child that this process forks off: the packages are read once, so that a moment at
which a child is killed always falls into its work."""

import argparse
import contextlib
import hashlib
import http.server
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

os.environ["SOFT_SSL_CHECKPOINT_SECONDS"] = "0"  # a checkpoint at every logged step
os.environ["OMP_NUM_THREADS"] = "1"  # a forked child has none of its parent's threads

# what commands import when they need it: here before the forks, so that a fault meets a command and not an
# import
import accelerate  # noqa: F401
import fastcore.docments  # noqa: F401
import h5py
import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import sklearn.ensemble
import sklearn.linear_model
import sklearn.metrics  # noqa: F401
import torch
import torchvision.transforms.v2  # noqa: F401

from soft_ssl import commands, datasets, mpi3d  # noqa: F401
from soft_ssl.byol import BYOL
from soft_ssl.cli import main
from soft_ssl.runs import RunFolder

SEED = 0
SECONDS = 120  # that a command may take
GRID = mpi3d.Factors(mpi3d.NAMES, (6, 6, 1, 2, 1, 1, 8), mpi3d.CLASSES)
TRAIN = [
    "train", "byol", "--dataset", "mpi3d_toy", "--dataset_K", "3", "--n_groups", "4", "--n_symbols", "3",
    "--h_dim", "4", "--feature_dim", "8"
]
TRAIN += [
    "--train_batch_size", "16", "--n_sub_train", "60", "--n_sub_test", "40", "--max_steps", "12",
    "--log_every", "1", "--eval_every", "4", "--no_figures"
]
RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "trust"


def tell_small(url: str = "") -> None:
    "The recipes take small grids for the real ones; `url` is where the archive is fetched."
    toy = datasets.mpi3d_recipe("mpi3d_toy", "mpi3d_toy", GRID)
    datasets.DATASETS["mpi3d_toy"] = toy._replace(urls=(url,)) if url else toy
    datasets.DATASETS["mpi3d"] = datasets.mpi3d_recipe("mpi3d", "mpi3d_real", GRID, GRID)


# ---- children ----


class Child:
    "A command in a process of its own."

    def __init__(self, words: list, log: Path, before: Callable[[], object] = lambda: None):
        self.log, self.begun, self.code, self.text = log, time.monotonic(), None, ""
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(out, 1)
                os.dup2(out, 2)
                before()
                code = main([str(word) for word in words])
            except SystemExit as leave:
                code = int(leave.code or 0)
            except BaseException:  # noqa: BLE001, what a terminal would show
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        "The exit code, or None while it runs."
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int:
        "Its exit code; -9 if it had to be killed because it did not end."
        while self.poll() is None:
            if time.monotonic() - self.begun > SECONDS:
                self.kill(signal.SIGKILL)
            time.sleep(0.002)
        if self.log.exists():  # one that was killed at once has said nothing
            self.text = self.text or self.log.read_text(errors="replace")
        return self.code

    def kill(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def said(self) -> str:
        "The last line of what it said."
        self.wait()
        return self.text.strip().replace("\r", "\n").split("\n")[-1]

    def sentence(self) -> str:
        "The sentence that it ended with, if it ended with one and code 2."
        if self.wait() == 2 and self.said().startswith("soft-ssl: ") and "Traceback" not in self.text:
            return self.said()
        return ""


def finish(words: list, folder: Path, before: Callable[[], object] = lambda: None) -> Child:
    "Runs a command to its end."
    child = Child(words, folder / "log.txt", before)
    child.wait()
    return child


# ---- what results have to be ----


def images_digest(path: Path) -> str:
    with h5py.File(path) as file:
        return hashlib.sha256(file["images"][:].tobytes() + file["factors"][:].tobytes()).hexdigest()


def run_digest(run: Path) -> str:
    "Weights, metrics but for their times, scores."
    digest = hashlib.sha256()
    for name, value in RunFolder(run).load_checkpoint()["method"].items():
        digest.update(name.encode() + value.numpy().tobytes())
    digest.update(pd.read_csv(run / "metrics.csv").drop(columns="images_per_second").to_csv().encode())
    for table in ("evaluations.csv", "probes.csv"):
        digest.update(pd.read_csv(run / table).drop(columns="run").to_csv().encode())
    for name, value in sorted(RunFolder(run).load_best().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def leftovers(folder: Path) -> list[str]:
    return [str(file) for file in folder.rglob(".*") if file.is_file()]


class Place:
    "Undisturbed material: an archive, its data file, a finished run and its digest."

    def __init__(self, folder: Path):
        self.folder = folder
        pictures = mpi3d.draw(GRID.values(np.arange(len(GRID))), GRID).numpy()
        np.savez_compressed(folder / "mpi3d_toy.npz", images=pictures)
        assert finish(
            ["download", "mpi3d_toy", folder / "data", 3, "--from", folder / "mpi3d_toy.npz"], folder
        ).wait() == 0
        assert finish(self.train(folder), folder).wait() == 0, (folder / "log.txt").read_text()
        self.run, self.data = folder / "a" / "b", folder / "data"
        self.run_digest = run_digest(self.run)
        assert finish(["download", "mpi3d", folder / "drawn", 3, "--source", "rendered"], folder).wait() == 0
        self.digests = {
            file.name: images_digest(file)
            for file in (self.data / "mpi3d_toy_original.h5", folder / "drawn" / "mpi3d_rendered.h5")
        }

    def train(self, folder: Path, *more: object) -> list:
        return [
            *TRAIN, "--data_path", self.folder / "data", "--root_path", folder, "--exp_name", "a", "--run_id",
            "b", *more
        ]

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        with TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)


class Ending(NamedTuple):
    "What some tries of a fault came to."

    tries: int
    well: int  # tries that ended as they have to
    what: str  # happened


# ---- killed ----


class Stage(NamedTuple):
    "Something that is killed, and what has to be there when it is started again."

    begin: list
    again: list
    digest: Callable[[], str]
    right: str
    before: Callable[[], object] = lambda: None


def killed(place: Place, stage_of: Callable[[Path], Stage], tries: int, rng: np.random.Generator) -> Ending:
    "SIGKILL at random moments between start and end; then the same command again."
    well, finished, went_on, wrong = 0, 0, 0, []
    with place.scratch() as folder:
        stage = stage_of(folder)
        whole = finish(stage.begin, folder, stage.before)
        duration = time.monotonic() - whole.begun
        assert whole.wait() == 0 and stage.digest() == stage.right, whole.text
    for _ in range(tries):
        with place.scratch() as folder:
            stage = stage_of(folder)
            child = Child(stage.begin, folder / "log.txt", stage.before)
            time.sleep(rng.uniform(0, duration))
            child.kill(signal.SIGKILL)
            finished += child.wait() == 0
            went_on += (
                any(folder.rglob("last.ckpt")) or any(folder.rglob("*.parts")) or any(folder.rglob("*.part"))
            )
            again = finish(stage.again, folder, stage.before)
            left = leftovers(folder)
            if again.wait() == 0 and stage.digest() == stage.right and not left:
                well += 1
            else:
                wrong.append(f"code {again.wait()}: {again.said()} {left}")
    what = (
        f"{well} ended with the result of one never killed; {went_on} went on from what was there, the "
        "others started clean"
    )
    what += f"; {finished} had ended before they were killed" if finished else ""
    return Ending(tries, well, "; ".join([what, *wrong]))


def rendering(place: Place) -> Callable[[Path], Stage]:
    def stage(folder: Path) -> Stage:
        words = ["download", "mpi3d", folder / "d", 3, "--source", "rendered"]
        return Stage(
            words, words, lambda: images_digest(folder / "d" / "mpi3d_rendered.h5"),
            place.digests["mpi3d_rendered.h5"]
        )

    return stage


def converting(place: Place) -> Callable[[Path], Stage]:
    def stage(folder: Path) -> Stage:
        words = ["download", "mpi3d_toy", folder / "d", 3, "--from", place.folder / "mpi3d_toy.npz"]
        return Stage(
            words, words, lambda: images_digest(folder / "d" / "mpi3d_toy_original.h5"),
            place.digests["mpi3d_toy_original.h5"]
        )

    return stage


class Slow(http.server.BaseHTTPRequestHandler):
    "Serves the archive piece by piece, from where it was asked for."

    payload = b""

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        rest = self.payload[start:]
        if not rest:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the one who asked was killed
            for piece in range(0, len(rest), 2**15):
                self.wfile.write(rest[piece : piece + 2**15])
                time.sleep(0.01)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(file: Path) -> Iterator[str]:
    "A server in a process of its own. Yields the address."
    Slow.payload = file.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    pid = os.fork()
    if pid == 0:
        server.serve_forever()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{file.name}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        server.server_close()


def killed_downloading(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    with served(place.folder / "mpi3d_toy.npz") as url:

        def stage(folder: Path) -> Stage:
            words = ["download", "mpi3d_toy", folder / "d", 3]
            return Stage(
                words, words, lambda: images_digest(folder / "d" / "mpi3d_toy_original.h5"),
                place.digests["mpi3d_toy_original.h5"], lambda: tell_small(url)
            )

        return killed(place, stage, tries, rng)


def training(place: Place) -> Callable[[Path], Stage]:
    def stage(folder: Path) -> Stage:
        return Stage(
            place.train(folder), place.train(folder, "--reload"), lambda: run_digest(folder / "a" / "b"),
            place.run_digest
        )

    return stage


def killed_checkpointing(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    "A wide code, whose checkpoint takes longer than the step before it."
    wide = [
        "--n_groups", "64", "--n_symbols", "16", "--predictor", "MLP", "--max_steps", "6", "--eval_every",
        "0", "--final_eval_only"
    ]
    with place.scratch() as folder:
        assert finish(place.train(folder, *wide), folder).wait() == 0
        right = run_digest(folder / "a" / "b")

    def stage(folder: Path) -> Stage:
        return Stage(
            place.train(folder, *wide), place.train(folder, *wide, "--reload"),
            lambda: run_digest(folder / "a" / "b"), right
        )

    return killed(place, stage, tries, rng)


def evaluating(place: Place) -> Callable[[Path], Stage]:
    def stage(folder: Path) -> Stage:
        shutil.copytree(place.run, folder / "a" / "b")
        words = [
            "evaluate", "byol", "logistic_probe", "--run_path", folder / "a" / "b", "--data_path", place.data
        ]
        return Stage(
            words, words, lambda: (folder / "a" / "b" / "logistic_probe.csv").read_text(), evaluated(place)
        )

    return stage


def evaluated(place: Place) -> str:
    file = place.run / "logistic_probe.csv"
    if not file.exists():
        assert finish(
            ["evaluate", "byol", "logistic_probe", "--run_path", place.run, "--data_path", place.data],
            place.folder
        ).wait() == 0
    return file.read_text()


# ---- the machine does not play along ----


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None and not subprocess.run(
        "d=$(mktemp -d) && mount -t tmpfs -o size=64k none $d && umount $d && rmdir $d", shell=True,
        capture_output=True, check=False
    ).returncode


@contextlib.contextmanager
def mounted(place: Place, size: str) -> Iterator[Path]:
    "A file system of its own."
    with place.scratch() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


def is_sound(run: Path) -> bool:
    "Whether every file of a run that is there can be read."
    folder = RunFolder(run)
    readers = [
        (folder.checkpoint_file, folder.load_checkpoint), (folder.best_file, folder.load_best),
        (folder.config_file, folder.read_config)
    ]
    readers += [
        (file, lambda file=file: folder.read_table(file))
        for file in (folder.metrics_file, folder.evaluations_file)
    ]
    for file, read in readers:
        if file.exists():
            read()
    return True


def gist(sentence: str) -> str:
    "What a sentence about a full disk comes to, without the names of files and numbers of bytes."
    known = ("the disk is full", "No space left on device", "is the disk full?")
    return next((words for words in known if words in sentence), sentence)


def disk_full(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    "Sizes at which the disk is full at another file each time; then there is room again."
    well, said = 0, set()
    for _ in range(tries):
        with mounted(place, f"{rng.integers(3, 200) * 4}k") as folder:
            child = finish(place.train(folder, "--n_groups", 64, "--n_symbols", 16), place.folder)
            sentence, sound = child.sentence(), is_sound(folder / "a" / "b")
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            again = finish(place.train(folder, "--n_groups", 64, "--n_symbols", 16, "--reload"), place.folder)
            well += bool(sentence) and sound and again.wait() == 0 and not leftovers(folder)
            said.add(gist(sentence) or f"code {child.wait()}: {child.said()}")
    return Ending(
        tries, well,
        f"one sentence ({' / '.join(sorted(said))[:300]}); what was there stays readable, and with room "
        "again it goes on to the end"
    )


def disk_full_of_data(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    well, said = 0, set()
    for number in range(tries):
        # too small from the start, or in the middle of it
        size = 4 * rng.integers(3, 60) if number % 2 else 4096 + 4 * rng.integers(100)
        with mounted(place, f"{size}k") as folder:
            words = [
                ["download", "mpi3d", folder / "d", 3, "--source", "rendered"],
                ["download", "mpi3d_toy", folder / "d", 3, "--from", place.folder / "mpi3d_toy.npz"]
            ]
            chosen = words[rng.integers(2)]
            child = finish(chosen, place.folder)
            if child.wait() == 0:  # it just fitted
                well += images_digest(next(iter(folder.glob("d/mpi3d*.h5")))) in place.digests.values()
                continue
            sentence, broken = child.sentence(), list(folder.glob("d/mpi3d*.h5"))
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            again = finish(chosen, place.folder)
            made = list(folder.glob("d/mpi3d*.h5"))
            well += (
                bool(sentence) and not broken and again.wait() == 0
                and images_digest(made[0]) == place.digests[made[0].name] and not leftovers(folder)
            )
            said.add(gist(sentence) or f"code {child.wait()}: {child.said()}")
    return Ending(
        tries, well,
        f"one sentence ({' / '.join(sorted(said))[:300]}) and no file; with room again it is made"
    )


def file_too_large(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    "Where nothing can be mounted: the system refuses files above some size."
    well, said = 0, set()
    for _ in range(tries):
        limit = int(rng.integers(2, 60)) * 1000

        def before(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        with place.scratch() as folder:
            child = finish(place.train(folder, "--n_groups", 64, "--n_symbols", 16), folder, before)
            again = finish(place.train(folder, "--n_groups", 64, "--n_symbols", 16, "--reload"), folder)
            well += (child.wait() == 0 or bool(child.sentence())) and again.wait() == 0
            said.add(child.said()[:80])
    return Ending(tries, well, "one sentence; without the limit it goes on to the end")


def read_only(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    well, said = 0, set()
    with mounted(place, "64m") as folder:
        shutil.copytree(place.run, folder / "a" / "b")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        commands = [
            place.train(folder, "--run_id", "new"), place.train(folder, "--reload", "--max_steps", 20),
            ["download", "mpi3d", folder, 3, "--source", "rendered"],
            ["evaluate", "byol", "linear_probe", "--run_path", folder / "a" / "b", "--data_path", place.data],
        ]
        for words in commands:
            child = finish(words, place.folder)
            well += bool(child.sentence())
            said.add(
                child.sentence().split(":")[-2 if child.sentence().count(":") > 1 else -1].strip()
                or child.said()
            )
    return Ending(
        len(commands), well,
        "one sentence that names the read-only file system" if well == len(commands) else str(said)
    )


def out_of_memory(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    "The system gives no more than a limit; the batch that the sentence names then fits under the same limit."
    well, said = 0, []
    for _ in range(tries):
        room = int(rng.integers(400, 1200)) * 2**20

        def before(room=room):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))

        with place.scratch() as folder:
            large = ["--h_dim", "16", "--max_steps", "1", "--final_eval_only"]
            child = finish(place.train(folder, *large, "--train_batch_size", 4096), folder, before)
            sentence = child.sentence()
            size = (re.findall(r"--train_batch_size (\d+)", sentence) or [""])[0]
            again = finish(
                place.train(folder, *large, "--run_id", "c", "--train_batch_size", size or 2), folder, before
            )
            well += "do not fit" in sentence and size != "" and again.wait() == 0
            said.append(size or f"code {child.wait()}: {child.said()}")
            said[-1] += "" if again.wait() == 0 else f" (then code {again.wait()}: {again.said()})"
    return Ending(
        tries, well,
        f"the sentence names a batch that fits (here {', '.join(said)} in place of 4096), and under the same "
        "limit it does"
    )


def not_finite(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    "The loss becomes NaN or infinite at some step."
    well, said = 0, []
    for number in range(tries):
        fatal, value = int(rng.integers(3, 12)), (np.nan, np.inf)[number % 2]

        def before(fatal=fatal, value=value):
            loss, calls = BYOL.loss, []

            def poisoned(self, *outputs):
                calls.append(1)
                return loss(self, *outputs) * (value if len(calls) == fatal else 1)

            BYOL.loss = poisoned

        with place.scratch() as folder:
            sentence = finish(place.train(folder), folder, before).sentence()
            state = RunFolder(folder / "a" / "b").load_checkpoint()
            sound = all(v.isfinite().all() for v in state["method"].values() if v.is_floating_point())
            again = finish(place.train(folder, "--reload"), folder)
            well += (
                "not finite" in sentence and f"step {fatal}:" in sentence and "try a lower lr" in sentence
                and sound
            )
            well -= again.wait() != 0 or run_digest(folder / "a" / "b") != place.run_digest
            said.append(str(state["step"]))
    return Ending(
        tries, well,
        "one sentence with the step and what to try; the checkpoint from before stays (of steps "
        f"{', '.join(said)}), and from it the run goes on to the same end"
    )


# ---- interrupted, and two at once ----


def interrupted(signals: int) -> Callable:
    def fault(place: Place, tries: int, rng: np.random.Generator) -> Ending:
        well, polite, wrong = 0, 0, []
        for _ in range(tries):
            with place.scratch() as folder:
                steps = ["--max_steps", "60"]
                child = Child(place.train(folder, *steps), folder / "log.txt")
                while not list(folder.rglob("metrics.csv")) and child.poll() is None:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.2))
                for _ in range(signals):
                    child.kill(signal.SIGINT)
                    time.sleep(rng.uniform(0, 0.01))
                sentence = child.sentence()
                polite += "goes on from there" in sentence
                done = is_sound(folder / "a" / "b") and bool(sentence) and not leftovers(folder)
                again = finish(place.train(folder, "--max_steps", "12", "--reload"), folder)
                step = RunFolder(folder / "a" / "b").load_checkpoint()["step"]
                good = (
                    done and (signals > 1 or "goes on from there" in sentence) and again.wait() == 0
                    and (step > 12 or run_digest(folder / "a" / "b") == place.run_digest)
                )
                well += good
                wrong += [] if good else [f"code {child.wait()}: {child.said()}, then {again.said()}"]
        return Ending(
            tries, well,
            "; ".join(
                [
                    (f"one sentence and exit code 2, {polite} with a checkpoint of the last step; --reload "
                    "goes on"),
                    *wrong
                ]
            )
        )

    return fault


def two_on_one_run(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    well = 0
    for _ in range(tries):
        with place.scratch() as folder:
            pair = []
            for number in range(2):
                pair.append(Child(place.train(folder, "--reload"), folder / f"log{number}.txt"))
                time.sleep(rng.uniform(0, 0.1))
            codes = sorted(child.wait() for child in pair)
            refused = [child.sentence() for child in pair if child.code == 2]
            well += (
                codes == [0, 2] and "another process trains in" in refused[0]
                and run_digest(folder / "a" / "b") == place.run_digest
            )
    return Ending(tries, well, "one trains and ends as if alone; the other is refused with one sentence")


def two_on_one_data_file(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    well = 0
    for number in range(tries):
        with place.scratch() as folder:
            words = (["--source", "rendered"], ["--from", place.folder / "mpi3d_toy.npz"])[number % 2]
            name = ("mpi3d", "mpi3d_toy")[number % 2]
            pair = [
                Child(["download", name, folder / "d", 3, *words], folder / f"log{which}.txt")
                for which in range(2)
            ]
            codes, made = [child.wait() for child in pair], list((folder / "d").iterdir())
            well += (
                codes == [0, 0] and len(made) == 1 and images_digest(made[0]) == place.digests[made[0].name]
            )
    return Ending(
        tries, well, "one makes it, the other waits and takes it; nothing else is left in the folder"
    )


# ---- time and place ----


def jumping_clock(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    well = 0
    for _ in range(tries):
        jumps = np.random.default_rng(rng.integers(2**32))

        def before(jumps=jumps):
            true = time.time
            time.time = lambda: true() + jumps.normal() * 1e8  # some three years

        with place.scratch() as folder:
            child = finish(place.train(folder), folder, before)
            well += child.wait() == 0 and run_digest(folder / "a" / "b") == place.run_digest
    return Ending(tries, well, "the same result")


def moved(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    "A run and its data go elsewhere, are evaluated there, and go on there."
    with place.scratch() as folder:
        halves = finish(place.train(folder, "--max_steps", 4), folder)
        shutil.copytree(place.data, folder / "elsewhere" / "data")
        shutil.move(folder / "a" / "b", folder / "elsewhere" / "runs" / "other")
        where = ["--data_path", folder / "elsewhere" / "data"]
        looked = finish(
            [
                "evaluate", "byol", "linear_probe", "--run_path", folder / "elsewhere" / "runs" / "other",
                *where
            ],
            folder
        )
        moved_to = [
            "--root_path", folder / "elsewhere", "--exp_name", "runs", "--run_id", "other", "--reload", *where
        ]
        again = finish([*place.train(folder), *moved_to], folder)
        well = (
            halves.wait() == looked.wait() == again.wait() == 0
            and run_digest(folder / "elsewhere" / "runs" / "other") == place.run_digest
        )
    return Ending(1, int(well), "evaluated there, and went on there to the same result")


def other_versions(place: Place, tries: int, rng: np.random.Generator) -> Ending:
    well, versions = 0, (0, 99)
    with place.scratch() as folder:
        for version in versions:
            shutil.copytree(place.run, folder / "a" / "b", dirs_exist_ok=True)
            state = torch.load(folder / "a" / "b" / "last.ckpt", weights_only=True)
            torch.save(state | {"version": version}, folder / "a" / "b" / "last.ckpt")
            for words in (
                place.train(folder, "--reload", "--max_steps", 20),
                ["evaluate", "byol", "linear_probe", "--run_path", folder / "a" / "b"]
            ):
                well += f"has version {version}, not 1" in finish(words, folder).sentence()
        # before there were checksums
        shutil.copytree(place.run, folder / "a" / "b", dirs_exist_ok=True)
        config = json.loads((folder / "a" / "b" / "config.json").read_text())
        del config["checksum"], config["training"]["snapshot_every"]
        (folder / "a" / "b" / "config.json").write_text(json.dumps(config))
        well += finish(
            ["evaluate", "byol", "linear_probe", "--run_path", folder / "a" / "b", "--data_path", place.data],
            folder
        ).wait() == 0
    return Ending(
        5, well,
        "a checkpoint of another version is refused, with its version named; a run from before there were "
        "checksums is read"
    )


# ---- all of them ----


def of_stage(stage: Callable[[Place], Callable[[Path], Stage]]) -> Callable:
    return lambda place, tries, rng: killed(place, stage(place), tries, rng)


class Fault(NamedTuple):
    name: str
    cause: Callable[[Place, int, np.random.Generator], Ending]
    tries: int  # of the whole table
    quick: int  # of the quick one; 0 leaves it out there
    mounts: bool = False  # needs a file system of its own


FAULTS = {
    "kill-rendering": Fault("SIGKILL while rendering", of_stage(rendering), 10, 1),
    "kill-downloading": Fault("SIGKILL while downloading", killed_downloading, 10, 1),
    "kill-converting": Fault("SIGKILL while converting", of_stage(converting), 10, 1),
    "kill-training": Fault("SIGKILL while training", of_stage(training), 12, 1),
    "kill-checkpointing": Fault("SIGKILL while checkpointing", killed_checkpointing, 6, 0),
    "kill-evaluating": Fault("SIGKILL while evaluating", of_stage(evaluating), 6, 1),
    "disk-full": Fault("disk full while training", disk_full, 6, 1, True),
    "disk-full-data": Fault("disk full while making data", disk_full_of_data, 10, 2, True),
    "file-limit": Fault("no file may be above some size", file_too_large, 4, 0),
    "read-only": Fault("read-only folder", read_only, 4, 4, True),
    "memory": Fault("out of memory at the batch", out_of_memory, 4, 1),
    "not-finite": Fault("NaN or infinite loss", not_finite, 6, 1),
    "ctrl-c": Fault("Ctrl-C once", interrupted(1), 6, 1),
    "ctrl-c-twice": Fault("Ctrl-C twice", interrupted(2), 6, 0),
    "two-runs": Fault("two processes on one run folder", two_on_one_run, 6, 1),
    "two-data": Fault("two processes on one data file", two_on_one_data_file, 6, 2),
    "clock": Fault("a clock that jumps by years", jumping_clock, 2, 0),
    "moved": Fault("a run folder that was moved", moved, 1, 1),
    "versions": Fault("a checkpoint of another version", other_versions, 5, 5),
}


def table_of(names: list[str], quick: bool) -> pd.DataFrame:
    "Causes faults. A row for each."
    rows = []
    torch.set_num_threads(1)
    tell_small()
    with TemporaryDirectory() as scratch:
        place, mounts = Place(Path(scratch)), can_mount()
        for key in names:
            fault, begun = FAULTS[key], time.monotonic()
            rng = np.random.default_rng([SEED, list(FAULTS).index(key)])
            if fault.mounts and not mounts:
                ending = Ending(0, 0, "left out: a file system of its own can only be mounted by root")
            else:
                ending = fault.cause(place, fault.quick if quick else fault.tries, rng)
            row = {
                "what": fault.name, "tries": ending.tries, "ended well": ending.well,
                "what happened": ending.what.replace(scratch, "FOLDER")
            }
            rows.append(
                row | {"seconds": round(time.monotonic() - begun), "command": f"python tests/faults.py {key}"}
            )
            print(" | ".join(str(value) for value in rows[-1].values()), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--quick", action="store_true", help="a few tries of each")
    parser.add_argument("--out", type=Path, help="a table to write")
    args = parser.parse_args()
    if unknown := set(args.names) - set(FAULTS):
        parser.error(f"there is no fault {min(unknown)}: it can be {', '.join(FAULTS)}")
    table = table_of(
        args.names or [name for name, fault in FAULTS.items() if fault.quick or not args.quick], args.quick
    )
    out = args.out or (None if args.quick else RESULTS / "faults.csv")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        if args.names and out.exists():  # these rows alone are new
            before = pd.read_csv(out)
            table = pd.concat(
                [before.set_index("what").drop(table["what"], errors="ignore").reset_index(), table]
            )
            table = table.set_index("what").reindex(
                [f.name for f in FAULTS.values() if f.name in set(table["what"])]
            ).reset_index()
        table.to_csv(out, index=False)
    sys.exit(0 if (table["tries"] == table["ended well"]).all() else 1)

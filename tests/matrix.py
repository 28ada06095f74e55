"""Every method × bottleneck × data set × encoder: ten steps, evaluated, finite; and each method on two
processes, equal to one. `make matrix` prints the tables.

With `--worker FOLDER BOTTLENECK...` it trains each method in the processes that torchrun started, in double
precision, one run folder each."""

import contextlib
import io
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm.auto import tqdm

from soft_ssl import mpi3d
from soft_ssl.datasets import DATASETS, data_file
from soft_ssl.devices import process_state
from soft_ssl.experiment import METHODS, build_method, full_config, train
from soft_ssl.learner import ImageBatches, PictureBatches, fit
from soft_ssl.method import BOTTLENECKS
from soft_ssl.pictures import IMAGE_SETS, image_data, views
from soft_ssl.runs import RunFolder
from soft_ssl.scale import HEADS_OF, preset_config

SMALL = {
    "max_steps": 10, "n_groups": 4, "n_symbols": 4, "feature_dim": 8, "train_batch_size": 16,
    "projector_hidden": 32, "n_sub_train": 200, "n_sub_test": 100
}
SMALL |= {"final_eval_only": True, "show_progress": False, "figures": False}
# a ResNet has 400 times the work of such a CNN
ENCODERS = {"CNN": {"h_dim": 4}, "ResNet10": {"train_batch_size": 4, "n_sub_train": 60, "n_sub_test": 40}}
PLACES = {"dsprites": {"dataset_K": 1}, "mpi3d": {"dataset_K": 3}, "folder": {"image_size": 64, "workers": 0}}


def stand_ins(folder: Path) -> None:
    """Small grids in place of MPI3D's million images, the recordings imitated by drawings that go through
    their readers; and a folder of pictures."""
    for name, about in DATASETS.items():
        if not name.startswith("mpi3d") or name == "mpi3d_full":
            continue
        side = about.factors.sizes[0]
        grid = mpi3d.Factors(mpi3d.NAMES, (side, side, 1, 2, 1, 1, 20), mpi3d.CLASSES)
        if name == "mpi3d":
            mpi3d.render(data_file(folder, name, "rendered"), grid)
        else:
            np.savez(
                folder / f"{name}.npz", images=mpi3d.draw(grid.values(np.arange(len(grid))), grid).numpy()
            )
            mpi3d.convert_original(folder / f"{name}.npz", data_file(folder, name, "original"), grid, name)
    pixels = np.random.default_rng(0)
    for label in ("egret", "heron"):
        for number in range(40):
            file = folder / "pictures" / ("val" if number % 4 == 3 else "train") / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.integers(0, 256, (8, 8, 3), np.uint8)).resize((72, 66)).save(file)


def cell(method: str, bottleneck: str, dataset: str, encoder: str, folder: Path, **options) -> str:
    "What one combination comes to: the number of finite scores, or what is wrong."
    said = io.StringIO()
    chosen = SMALL | ENCODERS[encoder] | PLACES.get(dataset, {}) | options
    chosen |= {
        "data_path": str(folder / "pictures" if dataset == "folder" else folder),
        "root_path": str(folder / "runs")
    }
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            run = train(method, bottleneck=bottleneck, dataset=dataset, encoder=encoder, **chosen)
        except Exception as error:  # noqa: BLE001, the table says what happened
            return f"{type(error).__name__}: {error}"
    metrics, probes = pd.read_csv(run.metrics_file), pd.read_csv(run.probes_file)
    # MPI3D's stand-ins have one horizontal place, and of one value there is no R²
    scores, of_one_value = probes["score"], probes["factor"] == "horizontal"
    finite = np.isfinite(metrics["loss"]).all() and np.isfinite(scores[~of_one_value]).all()
    if not finite or scores[of_one_value].notna().any():
        return "not finite"
    return f"ok ({len(probes)} scores)"


def matrix(folder: Path) -> pd.DataFrame:
    "A row for each method and bottleneck, a column for each data set and encoder."
    stand_ins(folder)
    combinations = list(product(METHODS, BOTTLENECKS, PLACES, ENCODERS))
    rows = [(method, bottleneck, f"{dataset}, {encoder}", cell(method, bottleneck, dataset, encoder, folder))
            for method, bottleneck, dataset, encoder in tqdm(combinations, "combinations")]
    table = pd.DataFrame(rows, columns=["method", "bottleneck", "world", "said"])
    return table.pivot(index=["method", "bottleneck"], columns="world", values="said")


# --- one process and two ---

EXACT = {
    "max_steps": 2, "optimizer": "SGD", "wd": 0.0, "lr": 1e-6, "warmup_epochs": 0.0, "precision": "fp32",
    "log_every": 1, "show_progress": False
}
MORE = {
    "moco": {"queue_size": 64}, "moco-simclr": {"queue_size": 2},
    "swav": {"queue_size": 16, "queue_epoch": 0, "freeze_epochs": 0.0}, "dino": {"freeze_epochs": 0.0}
}
SHARED = [(method, "Softmax") for method in METHODS if method != "vq-byol"] + [
    ("byol", "Continuous"), ("byol", "GumbelSoftmax"), ("vq-byol", "VQ"), ("simclr", "VQ"), ("byol", "LFQ"),
    ("simclr", "ResidualVQ")
]
# losses are logged in single precision
LIMITS = {"loss": 1e-6, "gradient": 1e-9, "weights and buffers": 1e-9}
PUBLISHED = [(method, bottleneck) for method in HEADS_OF for bottleneck in ("Continuous", "Softmax")]


def exact(method: str, bottleneck: str, published: bool, folder: Path) -> None:
    "Trains two steps in double precision and with hardly any step, so that gradients can be compared."
    more = MORE.get(method, {}) | EXACT | {
        "bottleneck": bottleneck, "n_groups": 16, "n_symbols": 4, "tau_teacher": 0.5, "train_batch_size": 16
    }
    if bottleneck == "VQ":
        more |= {"revive": True, "warm_up_batches": 1}
    if published:
        small = {
            "projector_hidden": 64, "projection_dim": 32, "data_path": str(folder), "workers": 0
        } | ({"predictor_hidden": 64} if method == "byol" else {})
        config, shape = preset_config(method, "digits", small | more), (16, 16, 3)
        statistics = (torch.tensor(IMAGE_SETS["digits"].mean), torch.tensor(IMAGE_SETS["digits"].std))
        batches = PictureBatches(image_data("digits", folder), views(16, crop_min=0.4, flip=False), 16, 0, 0)
    else:
        config = full_config(method, {"h_dim": 4, "feature_dim": 16, "projector_hidden": 32} | more)
        shape = (64, 64, 1)
        statistics = (torch.tensor([0.5]), torch.tensor([0.2]))
        coarse = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        batches = ImageBatches(
            (torch.nn.functional.interpolate(coarse, size=64) * 255).byte(), "resize", 16, 0
        )
    built = build_method(config, shape, statistics).double()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():  # at the very first step most of a ResNet has no gradient: its blocks begin at zero
        for name, weight in built.student.named_parameters():
            if name.endswith("bn2.weight"):
                weight += torch.rand(weight.shape, generator=noise)
    if built.has_teacher:
        built.teacher.load_state_dict(built.student.state_dict())
    run = RunFolder(
        folder / f"{process_state().num_processes}" / f"{'published-' * published}{method}-{bottleneck}"
    )
    fit(built, batches, run, **EXACT, **({"scale_lr": True} if published else {}))


def worker(folder: Path, bottlenecks: tuple[str, ...] = ("Continuous", "Softmax")) -> None:
    """Trains all of them in this process, or this process's part; those of published size with these
    bottlenecks."""
    with process_state().main_process_first():
        image_data("digits", folder)
    for method, bottleneck in SHARED:
        exact(method, bottleneck, False, folder)
    for method, bottleneck in PUBLISHED:
        if bottleneck in bottlenecks:
            exact(method, bottleneck, True, folder)


def on_two_processes(folder: Path, bottlenecks: tuple[str, ...] = ("Continuous", "Softmax")) -> None:
    "Starts two workers, and waits for them."
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(Path(__file__).resolve()), "--worker", str(folder), *bottlenecks],
        capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def checkpoint(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


def differences(name: str, folder: Path) -> dict[str, float]:
    "Between one process and two: of losses, gradients and weights, relative to their size."
    one, two = (folder / str(processes) / name for processes in (1, 2))
    losses = [pd.read_csv(run / "metrics.csv")["loss"] for run in (one, two)]
    first, second = checkpoint(one), checkpoint(two)
    # without weight decay: 0.9 x the first gradient + the second
    momenta = [state["optimizer"]["state"] for state in (first, second)]
    # a ResNet has more weights than the CNN
    assert momenta[0].keys() == momenta[1].keys() and len(momenta[0]) > (30 if "published" in name else 10)
    largest = max(state["momentum_buffer"].norm() for state in momenta[0].values())
    gradients = [
        ((state["momentum_buffer"] - momenta[1][number]["momentum_buffer"]).norm() / largest).item()
        for number, state in momenta[0].items()
    ]
    weights = [
        (value - second["method"][key]).abs().max().item() / max(1.0, value.abs().max().item())
        for key, value in first["method"].items() if value.is_floating_point() and value.numel()
    ]
    return {
        "loss": float((losses[0] - losses[1]).abs().max()), "gradient": max(gradients),
        "weights and buffers": max(weights)
    }


if __name__ == "__main__" and "--worker" in sys.argv:
    worker(Path(sys.argv[2]), tuple(sys.argv[3:]))
elif __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        start = time.perf_counter()
        table = matrix(Path(scratch))
        print(table.to_markdown())
        print(
            f"{table.size} combinations of ten steps in {time.perf_counter() - start:.0f} s; the folder and "
            "MPI3D are small stand-ins\n"
        )
        both = Path(scratch) / "both"
        both.mkdir()
        worker(both)
        on_two_processes(both)
        names = [f"{method}-{bottleneck}" for method, bottleneck in SHARED] + [
            f"published-{method}-{bottleneck}" for method, bottleneck in PUBLISHED
        ]
        shared = pd.DataFrame({name: differences(name, both) for name in names}).T
        print(shared.map("{:.1e}".format).to_markdown())
        print("Differences between two processes and one, in double precision.")
        fine = (
            table.map(lambda said: said.startswith("ok")).all(axis=None)
            and all((shared[what] < limit).all() for what, limit in LIMITS.items())
        )
        sys.exit(0 if fine else 1)

"Every method × bottleneck × data set: ten steps, evaluated, finite. `make matrix` prints the table."

import contextlib
import io
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from soft_ssl import mpi3d
from soft_ssl.datasets import DATASETS, data_file, load
from soft_ssl.experiment import METHODS, train
from soft_ssl.training import BOTTLENECKS

SMALL = {
    "max_steps": 10,
    "message_size": 4,
    "voc_size": 4,
    "h_dim": 4,
    "hidden_size": 8,
    "train_batch_size": 16,
}
SMALL |= {"n_sub_train": 200, "n_sub_test": 100, "final_eval_only": True, "show_progress": False}
ALL = [("dsprites", K) for K in (1, 2)] + [("mpi3d", K) for K in range(1, 7)]
ALL += [(f"mpi3d_{name}", K) for name, K in (("toy", 3), ("realistic", 3), ("real", 3), ("complex", 2))]


def stand_ins(folder: Path) -> None:
    "Small grids in place of MPI3D's million images; the recordings are imitated by drawings that go through their readers."
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


def cell(method: str, bottleneck: str, dataset: str, K: int, folder: Path) -> str:
    "What one combination comes to: the number of finite scores, or what is wrong."
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            run = train(method, encode_method=bottleneck, dataset=dataset, dataset_K=K, data_path=str(folder),
                        root_path=str(folder / "runs"), **SMALL)  # fmt: skip
        except Exception as error:  # noqa: BLE001, the table says what happened
            return f"{type(error).__name__}: {error}"
    metrics, probes = pd.read_csv(run.metrics_file), pd.read_csv(run.probes_file)
    if not np.isfinite(metrics["loss"]).all() or not np.isfinite(probes["score"]).all():
        return "not finite"
    return f"ok ({len(probes)} scores)"


def matrix(chosen: list[tuple[str, int]], folder: Path) -> pd.DataFrame:
    "A row for each data set and K, a column for each method and bottleneck."
    stand_ins(folder)
    table = {}
    for dataset, K in chosen:
        source = load(dataset, K, data_path=folder).dataset.source
        table[f"{dataset} ({source}) K={K}"] = {
            (method, bottleneck): cell(method, bottleneck, dataset, K, folder)
            for method in METHODS
            for bottleneck in BOTTLENECKS
        }
    return pd.DataFrame(table).T


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        start = time.perf_counter()
        table = matrix(ALL, Path(scratch))
        print(table.T.to_markdown())
        print(f"{table.size} combinations in {time.perf_counter() - start:.0f} s. K=5 leaves no val, K=6 neither val nor test:\n"
              "their scores cover what is left. `_original` files are small imitations that went through the readers.")  # fmt: skip
        sys.exit(0 if table.map(lambda said: said.startswith("ok")).all(axis=None) else 1)

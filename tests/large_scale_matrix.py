"""Every large-scale method, plain and with the bottleneck, on one process and on two. `make large` prints the table.

With `--worker FOLDER STEPS [exact]` it trains them all in the processes that torchrun started, one run folder each."""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import KNeighborsClassifier

from soft_ssl.large_scale import LARGE_METHODS, build_large, image_data, load_pretrained, views
from soft_ssl.pretrain import fit_large, here, pretrain_config
from soft_ssl.runs import RunFolder

BOTTLENECKS = ("Continuous", "Softmax")
SMALL = {"message_size": 16, "voc_size": 4, "proj_hidden": 64, "proj_size": 32, "workers": 0, "precision": "fp32", "log_every": 1}
SMALL |= {"optimizer": "SGD", "wd": 0.0, "warmup_epochs": 0.0, "channel_tau_teacher": 0.5, "show_progress": False}
MORE = {"byol": {"pred_hidden": 64}, "moco": {"queue_size": 64}, "swav": {"queue_size": 16, "queue_epoch": 0}}
LR = {"barlow": 0.05, "vicreg": 0.05}


def settings(method: str, bottleneck: str, steps: int, folder: Path) -> dict:
    "Of one run: small enough for a laptop, everything in use that needs more than one process."
    chosen = SMALL | MORE.get(method, {}) | {"lr": LR.get(method, 0.3), "encode_method": bottleneck, "max_steps": steps}
    return pretrain_config(method, "digits", chosen | {"train_batch_size": 16, "data_path": str(folder)})


def worker(folder: Path, steps: int, exact: bool) -> None:
    "Trains all of them; `exact` in double precision and with hardly any step, so that gradients can be compared."
    with here().main_process_first():
        pictures = image_data("digits", folder)
    for method in LARGE_METHODS:
        for bottleneck in BOTTLENECKS:
            config = settings(method, bottleneck, steps, folder)
            run = RunFolder(folder / f"{here().num_processes}" / f"{method}-{bottleneck}")
            built = build_large(config)
            if exact:
                built, config["lr"] = built.double(), 1e-6
            built.freeze_epochs = 0  # two steps are within the epochs in which prototypes are held still
            noise = torch.Generator().manual_seed(1)
            with torch.no_grad():  # at the very first step most of a ResNet has no gradient: its blocks begin at zero
                for name, weight in built.student.named_parameters():
                    if name.endswith("bn2.weight"):
                        weight += torch.rand(weight.shape, generator=noise)
            if built.has_teacher:
                built.teacher.load_state_dict(built.student.state_dict())
            if here().is_main_process:
                run.write_config(config)
            names = ("seed", "lr", "wd", "optimizer", "max_steps", "warmup_epochs", "train_batch_size", "precision", "workers", "log_every")
            options = {name: config[name] for name in (*names, "show_progress")}
            fit_large(built, pictures, views(config["image_size"], crop_min=0.4, flip=False), run, **options)


def train_on(processes: int, folder: Path, steps: int, *how: str) -> None:
    "Starts that many processes, and waits for them."
    script = [str(Path(__file__).resolve()), "--worker", str(folder), str(steps), *how]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run([sys.executable, *torchrun, *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def neighbours(run: Path, folder: Path) -> float:
    "Accuracy of the 20 nearest neighbours in the backbone's features."
    method, _ = load_pretrained(run)
    features = []
    for train in (True, False):
        data = image_data("digits", folder, train, side=16)
        images, labels = zip(*(data[index] for index in range(0, len(data), 2)))
        features.append((method.features(torch.stack(images))["encoded"].numpy(), np.array(labels)))
    return KNeighborsClassifier(20, metric="cosine").fit(*features[0]).score(*features[1])


def table(folder: Path, steps: int) -> pd.DataFrame:
    "A row for each method and bottleneck."
    for processes in (1, 2):
        train_on(processes, folder, steps)
    rows = []
    for method in LARGE_METHODS:
        for bottleneck in BOTTLENECKS:
            row = {"method": method, "bottleneck": bottleneck}
            for processes in (1, 2):
                run = folder / f"{processes}" / f"{method}-{bottleneck}"
                losses = pd.read_csv(run / "metrics.csv")["loss"]
                row |= {f"first loss on {processes}": losses.iloc[0], f"last loss on {processes}": losses.iloc[-1]}
                row[f"kNN on {processes}"] = neighbours(run, folder)
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__" and "--worker" in sys.argv:
    worker(Path(sys.argv[2]), int(sys.argv[3]), "exact" in sys.argv)
elif __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        start = time.perf_counter()
        rows = table(Path(scratch), 20)
        print(rows.round(4).to_markdown(index=False))
        print(f"{2 * len(rows)} runs of 20 steps, digits (scikit-learn), in {time.perf_counter() - start:.0f} s")
        sys.exit(0 if np.isfinite(rows.select_dtypes("number")).all(axis=None) else 1)

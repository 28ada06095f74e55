"""What a GPU gives: the same values and gradients as a CPU, a stopped run that goes on to the same weights,
races, and cells of the full study. `make gpu`.

Needs one GPU, ten minutes and no network. With `--toy` everything is tiny and runs anywhere, so that it is
known to work before a GPU is there."""

import argparse
import json
import os
import re
import tempfile
from pathlib import Path

import pandas as pd
import torch

from soft_ssl.benchmark import (
    LAPTOP_SIZE, STUDY_SIZE, speedups, machine, modes_here, new_method, roofline, training_race
)
from soft_ssl.datasets import load
from soft_ssl.devices import processor
from soft_ssl.experiment import train
from soft_ssl.files import complete_file
from soft_ssl.study import study

TINY = {"h_dim": 4, "feature_dim": 16, "n_groups": 8, "n_symbols": 8}
RESNET = {"encoder": "ResNet18", "feature_dim": 256, "n_groups": 256, "n_symbols": 32}


def equal_to_cpu(data, device: torch.device, options: dict) -> dict[str, float]:
    """Loss and gradients of one batch on the device against the CPU, in double precision: in single a rounded
    ReLU would change more than the device does; the loss in single precision as well."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    images = data.images("train", 64)

    def loss_of(method):
        where = next(method.parameters()).device
        torch.manual_seed(0)
        loss = method([images.to(where), images.roll(1, 3).to(where)])
        loss.backward()
        return loss.item()

    here, there = new_method(data, **options).to(device).double(), new_method(data, **options).cpu().double()
    losses = [loss_of(method) for method in (here, there, new_method(data, **options).to(device))]
    pairs = [
        (p.grad.cpu(), q.grad) for p, q in zip(here.parameters(), there.parameters()) if q.grad is not None
    ]
    largest = max(float(g.abs().max()) for _, g in pairs)
    return {
        "loss": abs(losses[0] - losses[1]),
        "gradients": max(float((g - h).abs().max()) for g, h in pairs) / largest,
        "loss in single precision": abs(losses[2] - losses[1])
    }


def equal_after_a_stop(folder: Path, data_path: str, options: dict) -> float:
    "Weights of a run of eight steps against those of one that was stopped after four."
    common = dict(
        dataset="dsprites", dataset_K=1, data_path=data_path, root_path=str(folder), probe=False,
        train_batch_size=32, **options
    )
    whole = train("byol", run_id="whole", max_steps=8, **common)
    train("byol", run_id="parts", max_steps=4, **common)
    parts = train("byol", run_id="parts", max_steps=8, reload=True, **common)
    states = [
        torch.load(run.checkpoint_file, weights_only=True, map_location="cpu")["method"]
        for run in (whole, parts)
    ]
    return max(
        float((states[0][name].double() - states[1][name].double()).abs().max()) for name in states[0]
        if states[0][name].numel()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="tiny, on whatever there is")
    parser.add_argument("--data_path", default="./data")
    parser.add_argument("--out_path", default="nbs/results/gpu")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="for cells of the full study; 0 leaves it out"
    )
    parser.add_argument("--workers", type=int, default=4, help="cells of the study at a time on one card")
    asked = parser.parse_args()
    if not torch.cuda.is_available() and not asked.toy:
        raise SystemExit("there is no GPU here: --toy runs everything at toy size on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    out = Path(asked.out_path) / re.sub(r"\W+", "-", card).strip("-")
    out.mkdir(parents=True, exist_ok=True)
    data = load("dsprites", 1, data_path=asked.data_path)

    def keep(name: str, table: pd.DataFrame) -> None:
        with complete_file(out / f"{name}.csv") as unfinished:
            table.to_csv(unfinished, index=False)
        print(f"\n{name}\n{table.round(4).to_markdown(index=False)}", flush=True)

    with complete_file(out / "machine.json") as unfinished:
        unfinished.write_text(
            json.dumps(machine() | {"card": card, "toy": asked.toy, "data": data.dataset.source}, indent=1)
            + "\n"
        )
    size = TINY if asked.toy else STUDY_SIZE
    checks = equal_to_cpu(data, device, TINY if asked.toy else LAPTOP_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        checks["weights after a stop"] = equal_after_a_stop(
            Path(folder), asked.data_path, TINY if asked.toy else LAPTOP_SIZE
        )
    keep(
        "checks",
        pd.DataFrame(
            [(name, value) for name, value in checks.items()], columns=["what", "largest difference"]
        )
    )
    steps, batch = (2, 4) if asked.toy else (100, 256)
    races = [
        training_race(
            asked.data_path, "study size", batch, 1 if asked.toy else 2, 3 if asked.toy else 10, steps, **size
        )
    ]
    for bottleneck in ("Continuous", "Softmax"):
        resnet = (RESNET | TINY if asked.toy else RESNET) | {"bottleneck": bottleneck}
        resnet.pop("h_dim", None)
        resnet |= {"encoder": "ResNet10"} if asked.toy else {}
        races.append(
            training_race(
                asked.data_path, f"{resnet['encoder']}, {bottleneck}", batch, 1 if asked.toy else 2, steps,
                steps, **resnet
            )
        )
    compared = speedups(pd.concat(races, ignore_index=True))
    keep("compared", compared)
    rates = compared[
        compared["race"] == f"training, study size, batch {batch}"
    ].set_index("contestant")["rate"]
    keep("roofline", roofline(data, rates[list(modes_here())].to_dict(), batch, **size))
    if asked.minutes and not asked.toy:
        os.environ.setdefault("OMP_NUM_THREADS", "2")
        keep(
            "study",
            study(
                "full", data_path=asked.data_path, root_path="./experiments", out_path=str(out / "study"),
                workers=asked.workers, minutes=asked.minutes
            )
        )
    limits = {"loss": 1e-9, "gradients": 1e-9, "loss in single precision": 1e-4, "weights after a stop": 0.0}
    if any(checks[name] > limit for name, limit in limits.items()):
        raise SystemExit(f"this device does not compute what the CPU does: {checks}")


if __name__ == "__main__":
    main()

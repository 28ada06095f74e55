"""Trains, evaluates and moves widgets over and over, and watches what the process holds: `make soak`, two
hours.

Memory, file handles, threads and child processes have to be level once the first cycles have filled every
cache."""

import argparse
import contextlib
import gc
import io
import os
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("agg")

import matplotlib.pyplot as plt

from soft_ssl.experiment import EVALUATIONS, METHODS, evaluate, train
from soft_ssl.instrument import instrument
from soft_ssl.latents import fit_decoder, open_latents, save_decoder

RESULTS = Path(__file__).resolve().parent.parent / "nbs" / "results" / "trust"
SMALL = dict(
    n_groups=4, n_symbols=3, h_dim=4, feature_dim=8, train_batch_size=16, n_sub_train=300, n_sub_test=200,
    max_steps=20, show_progress=False
)
WARM_UP = 0.3  # of the cycles, while caches fill
MOST_GROWTH = 0.05  # of memory over the rest


def held() -> dict[str, float]:
    "What this process holds."
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = [
        pid for pid in Path("/proc").glob("[0-9]*/stat")
        if reads(pid).split(") ")[-1].split()[1:2] == [str(os.getpid())]
    ]
    return {
        "memory (MB)": int(status["VmRSS"].split()[0]) / 1024,
        "file handles": len(list(Path("/proc/self/fd").iterdir())), "threads": int(status["Threads"]),
        "processes": len(children), "figures": len(plt.get_fignums())
    }


def reads(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text()
    return ""


def cycle(number: int, folder: Path) -> None:
    "One run, its evaluations, and the widgets on it."
    method = list(METHODS)[number % len(METHODS)]
    run = (
        train(
            method, root_path=str(folder), data_path=str(folder), run_id=f"{number % 6}", seed=number, **SMALL
        )
        if number < 6 else None
    )
    path = run.path if run else folder / "default" / f"{number % 6}"
    for name, evaluation in EVALUATIONS.items():
        more = {"toposim": dict(n_pairs=50), "disentanglement": dict(n_images=200)}.get(name, {})
        evaluate(path, evaluation, data_path=str(folder), **more)
    widgets(path, str(folder))
    if run is None:  # and one that is trained from the start, and thrown away
        shutil.rmtree(
            train(
                method, root_path=str(folder), data_path=str(folder), exp_name="again", run_id="x",
                seed=number, **SMALL
            ).path
        )


def widgets(path: Path, data_path: str) -> None:
    "The instrument on a run, asked what a page asks, and closed as a kernel that is restarted closes it."
    opened = open_latents(path, data_path, n_images=200)
    if not (path / "decoder.safetensors").exists():
        save_decoder(fit_decoder(opened, n_images=1000, max_steps=5), opened, path / "decoder.safetensors")
    widget = instrument({"run": opened})
    for value in (1, 0):
        for request in (
            {"op": "read", "rows": [[value] * len(opened.factors.names)], "tau": 1.0},
            {"op": "sample", "images": True}
        ):
            widget.compute(request | {"network": path.name})
    ipywidgets.Widget.close_all()
    plt.close("all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    args = parser.parse_args()
    rows, begun = [], time.monotonic()
    with TemporaryDirectory() as scratch:
        while time.monotonic() - begun < 60 * args.minutes:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                cycle(len(rows), Path(scratch))
            gc.collect()
            rows.append({"cycle": len(rows), "minutes": (time.monotonic() - begun) / 60} | held())
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    late = table.iloc[int(WARM_UP * len(table)) :]
    level = {name: late[name].iloc[-3:].median() - late[name].iloc[:3].median() for name in table.columns[2:]}
    slope = np.polyfit(late["minutes"], late["memory (MB)"], 1)[0] if len(late) > 2 else np.nan
    well = (
        level["memory (MB)"] <= MOST_GROWTH * late["memory (MB)"].iloc[0]
        and all(value <= 0 for name, value in level.items() if name != "memory (MB)")
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    happened = (
        f"{len(table)} cycles in {table['minutes'].iloc[-1]:.0f} minutes; after the first {WARM_UP:.0%}: "
        + ", ".join(f"{k} {v:+.1f}" for k, v in level.items())
    )
    row = {
        "what": "train, evaluate, move widgets, over and over", "tries": len(table),
        "ended well": len(table) * int(well), "what happened": f"{happened}; memory {slope:+.2f} MB a minute",
        "seconds": round(60 * table["minutes"].iloc[-1]),
        "command": f"python tests/soak.py --minutes {args.minutes:g}"
    }
    pd.DataFrame([row]).to_csv(RESULTS / "soak.csv", index=False)
    table.round(2).to_csv(RESULTS / "soak_cycles.csv", index=False)
    print(row["what happened"])
    sys.exit(0 if well else 1)

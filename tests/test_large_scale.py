"""Large scale in several processes: two do what one would, and a run that is stopped goes on as if it had not
been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from fuzz import SMALL, make_data, words_of
from matrix import LIMITS, PUBLISHED, SHARED, checkpoint, differences, on_two_processes, worker

from soft_ssl.scale import REQUEUE

TINY = [
    "--preset", "digits", "--max_steps", "8", "--train_batch_size", "16", "--log_every", "1", "--n_groups",
    "8", "--projector_hidden", "32"
]
TINY += ["--predictor_hidden", "32", "--precision", "fp32", "--workers", "1"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """All methods, two steps in double precision, on one process and on two; of published size with the
    softmax (`make matrix` does those without it too)."""
    folder = tmp_path_factory.mktemp("both")
    worker(folder, ("Softmax",))
    on_two_processes(folder, ("Softmax",))
    return folder


@pytest.mark.parametrize(
    "name",
    [f"{method}-{bottleneck}" for method, bottleneck in SHARED]
    + [f"published-{method}-{bottleneck}" for method, bottleneck in PUBLISHED if bottleneck == "Softmax"]
)
def test_two_processes_with_half_the_batch_equal_one(name, both):
    # running statistics, centres, queues and codebooks are among the weights
    for what, difference in differences(name, both).items():
        assert difference < LIMITS[what], what


def start(processes: int, *words: str, **environment: str) -> subprocess.Popen:
    "Starts `soft-ssl` on so many processes."
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1
        else []
    )
    return subprocess.Popen(
        [sys.executable, *torchrun, "-m", "soft_ssl.cli", *words], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment
    )


def command(folder: Path, run_id: str, processes: int, *words: str) -> subprocess.Popen:
    "Starts a run."
    places = ["--data_path", str(folder), "--root_path", str(folder), "--run_id", run_id]
    return start(processes, "pretrain", "byol", *TINY, *places, *words)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=200)
    return process.returncode, said


def stop(run: subprocess.Popen, metrics: Path, after: int) -> tuple[int, str]:
    "Sends SIGTERM once so many steps are logged."
    while run.poll() is None and (not metrics.exists() or len(pd.read_csv(metrics)) < after):
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    return finish(run)


def test_what_the_first_process_computes_alone_does_not_wait_for_the_second(tmp_path):
    # the timing of modes, by an encoder whose first BatchNorm pools; scores, of a code whose loss gathers
    make_data(tmp_path)
    options = SMALL | dict(
        dataset="mpi3d_toy", dataset_K=3, max_steps=2, bottleneck="LFQ", n_symbols=4, precision="auto",
        run_id="run", data_path=tmp_path / "data", root_path=tmp_path
    )
    code, said = finish(start(2, "train", "byol", *words_of(options), XDG_CACHE_HOME=str(tmp_path / "cache")))
    assert code == 0 and "a step of the encoder" in said, said
    assert pd.read_csv(tmp_path / "default" / "run" / "evaluations.csv")["step"].unique().tolist() == [0, 2]


def test_a_run_that_gets_sigterm_leaves_with_the_code_to_requeue(tmp_path):
    code, said = stop(command(tmp_path, "halves", 1), tmp_path / "pretrain" / "halves" / "metrics.csv", 1)
    assert code == REQUEUE, said
    step = checkpoint(tmp_path / "pretrain" / "halves")["step"]
    assert f"stopped after step {step} of 8; --reload goes on from there" in said


def test_two_processes_that_get_sigterm_go_on_to_the_same_weights(tmp_path):
    inside = ("--workers", "0")  # the test above has processes that read
    code, said = finish(command(tmp_path, "whole", 2, *inside))
    assert code == 0, said
    after, metrics = random.Random().randint(1, 5), tmp_path / "pretrain" / "halves" / "metrics.csv"
    code, said = stop(command(tmp_path, "halves", 2, *inside), metrics, after)
    assert code == 1, said  # torchrun's own
    step = checkpoint(metrics.parent)["step"]
    assert after <= step < 8 and f"stopped after step {step} of 8; --reload goes on from there" in said, said
    code, said = finish(command(tmp_path, "halves", 2, *inside, "--reload"))
    assert code == 0, said
    whole, halves = (checkpoint(tmp_path / "pretrain" / name) for name in ("whole", "halves"))
    assert (whole["step"], halves["step"]) == (8, 8)
    for name, value in whole["method"].items():
        assert torch.equal(value, halves["method"][name]), f"{name}, stopped after step {step}"
    assert pd.read_csv(metrics)["step"].tolist() == list(range(1, 9))

"The study as a command: killed in the middle and continued, and computed a second time."

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from soft_ssl.cli import main
from soft_ssl.experiment import METHODS, submit
from soft_ssl.runs import RunFolder
from soft_ssl.statistics import read_scores
from soft_ssl.study import compute, configuration, expand, run_cells

TINY = {
    "source": "rendered", "h_dim": 4, "feature_dim": 8, "n_groups": 4, "n_symbols": 3, "train_batch_size": 16,
    "n_train": 1000, "n_sub_train": 200,
    "n_sub_test": 100, "max_steps": 150, "eval_every": 75,
}
BLOCKS = [
    {"bottleneck": ["GumbelSoftmax"], "seed": [0]},
    {"method": ["supervised"], "bottleneck": ["Softmax"], "max_steps": [10], "seed": [1]},
]


def command(grid, data, root, *words):
    return [
        sys.executable, "-m", "soft_ssl.cli", "study", "--size", str(grid), "--data_path", str(data),
        "--root_path", str(root), "--workers", "2", *words
    ]


def study(*args):
    "Runs the command in this process; its cells have their own."
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = main(command(*args)[3:])
    assert code == 0, out.getvalue()
    return out.getvalue()


def alive(folder):
    "Whether a process still works on a cell of this folder."
    for proc in os.listdir("/proc"):
        if proc.isdigit():
            try:
                words = open(f"/proc/{proc}/cmdline").read().split("\0")  # noqa: SIM115
            except OSError:
                continue
            if "soft_ssl.study" in words and any(word.startswith(str(folder)) for word in words):
                return True
    return False


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    file = tmp_path_factory.mktemp("grid") / "tiny.json"
    file.write_text(json.dumps({"common": TINY, "blocks": BLOCKS}))
    return file


@pytest.fixture(scope="module")
def data(dsprites):
    return dsprites


@pytest.fixture(scope="module")
def whole(grid, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    study(grid, data, root)
    return root


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
def test_killed_in_the_middle_and_continued_gives_the_same_table(whole, grid, data, tmp_path):
    environment = os.environ | {"SOFT_SSL_CHECKPOINT_SECONDS": "0.3"}
    process = subprocess.Popen(
        command(grid, data, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("study-tiny/*/last.ckpt")):
        assert process.poll() is None and time.monotonic() < limit, "no checkpoint before the end"
        time.sleep(0.02)
    process.kill()
    process.wait()
    while alive(tmp_path):  # workers notice that nobody waits for them any more
        assert time.monotonic() < limit
        time.sleep(0.1)
    before = pd.read_csv(tmp_path / "study-tiny" / "cells.csv")
    assert not (before["state"] == "done").all()
    study(grid, data, tmp_path)
    first, second = ((root / "study-tiny" / "scores.csv").read_bytes() for root in (whole, tmp_path))
    assert first == second


def test_two_random_cells_computed_again_give_the_same_numbers(whole, grid, data):
    done = study(grid, data, whole, "--repeats", "2")
    table = pd.read_csv(whole / "study-tiny" / "repeated.csv")
    assert len(table) == 2, done
    assert (table["equal"] == table["scores"]).all() and (table["largest_difference"] == 0).all(), done


def test_a_study_goes_through_submitit(data, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    (cell,) = expand(
        {
            "common": TINY | {"data_path": str(data)},
            "blocks": [{"method": ["pca"], "bottleneck": ["Continuous"]}]
        }
    )
    # submitit's own executor takes the same jobs without a cluster; there is no GPU to ask it for
    monkeypatch.setattr(
        "soft_ssl.study.submit", lambda cluster, *args, gpus_per_node, **more: submit("local", *args, **more)
    )
    about = run_cells([cell], tmp_path / "cells", tmp_path / "tables", cluster="slurm")
    assert list(about["state"]) == ["done"]
    assert set(
        pd.read_csv(tmp_path / "tables" / "scores.csv")["feature"]
    ) == {"pixels_pca", "pixels_pca_wide"}


def test_stopped_study_keeps_its_checkpoints_and_says_how_to_go_on(grid, data, tmp_path):
    process = subprocess.Popen(
        command(grid, data, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("study-tiny/byol*/metrics.csv")):
        assert process.poll() is None and time.monotonic() < limit, "no step before the end"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "the same command goes on from there" in errors
    assert not alive(tmp_path) and list(tmp_path.glob("study-tiny/byol*/last.ckpt"))
    # a cell that was stopped, or never began, has not failed
    assert set(pd.read_csv(tmp_path / "study-tiny" / "cells.csv")["state"]) <= {"done", "left", "stopped"}


def test_a_grid_sets_the_temperature_of_simclr_and_that_of_the_code_each_by_its_name():
    (cell,) = expand(
        {"common": {"method": "moco-simclr"}, "blocks": [{"temperature": [0.1], "channel_tau": [0.5]}]}
    )
    options = configuration(cell)
    assert (options["temperature"], options["tau"], options["tau_teacher"]) == (0.1, 0.5, 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_kit_can_stand_in_a_cell(method, data, tmp_path):
    more = {"queue_size": 64} if method == "moco" else {}
    (cell,) = expand(
        {
            "common": TINY | {"data_path": str(data), "max_steps": 2, "eval_every": 0} | more,
            "blocks": [{"method": [method]}]
        }
    )
    table = compute(cell, RunFolder(tmp_path / "study" / method))
    assert set(table["step"]) == {0, 2} and table["score"].notna().all()
    assert {"encoded", "embedding", "one_hot", "logits", "symbols"} <= set(table["feature"])


PARTS = """
import pandas as pd
import torch
from torch import nn
from soft_ssl.bottleneck import Code
from soft_ssl.byol import BYOL


class Sigmoid(nn.Module):
    def __init__(self, n_groups: int, n_symbols: int, sharpness: float = 1.0):
        super().__init__()
        self.n_groups, self.sharpness, self.in_features, self.out_features = n_groups, sharpness, n_groups * n_symbols, n_groups * n_symbols

    def forward(self, x, tau=None):
        return Code(torch.sigmoid(self.sharpness * x), x.unflatten(1, (self.n_groups, -1)), None, None, x.new_zeros(()))


class Scaled(BYOL):
    def __init__(self, *parts, factor: float = 1.0, **options):
        super().__init__(*parts, **options)
        self.factor = factor

    def loss(self, predicted, targets, progress):
        return self.factor * super().loss(predicted, targets, progress)


def sharpness(method, data, n_sub_test: int = 10) -> pd.DataFrame:
    rows = [("embedding", "all", "all", name, float(value)) for name, value in (
        ("of_bottleneck", method.student.bottleneck.sharpness), ("of_method", method.factor), ("n_sub_test", n_sub_test))]
    return pd.DataFrame(rows, columns=["feature", "split", "factor", "metric", "score"])
"""  # noqa: E501


def test_bottleneck_method_and_evaluation_of_ones_own_stand_in_a_cell_by_their_import_paths(
    data, tmp_path, monkeypatch
):
    (tmp_path / "own_parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)  # where the modules of the one who starts the study are
    own = {
        "method": ["own_parts.Scaled"], "bottleneck": ["own_parts.Sigmoid"],
        "evaluation": ["own_parts.sharpness"], "sharpness": [0.5, 2], "factor": [3]
    }
    (tmp_path / "own.json").write_text(
        json.dumps({"common": TINY | {"max_steps": 2, "eval_every": 0}, "blocks": [own]})
    )
    study(tmp_path / "own.json", data, tmp_path)
    table = read_scores(tmp_path / "study-own")
    last = table[table["metric"].str.startswith("sharpness: ")]
    told = last.assign(
        metric=last["metric"].str.removeprefix("sharpness: ")
    ).pivot(index="cell", columns="metric", values="score")
    assert (
        sorted(told["of_bottleneck"]) == [0.5, 2.0] and set(told["of_method"]) == {3.0}
        and set(told["n_sub_test"]) == {100.0}
    )
    assert set(last["step"]) == {2} and set(table["step"]) == {0, 2}
    assert set(table["label"]) == {"own_parts.Scaled own_parts.Sigmoid"}
    assert (table["n_groups"] == 4).all() and (table["n_symbols"] == 3).all() and table["tau"].isna().all()


def test_what_does_not_exist_is_said_before_any_cell_runs(data, tmp_path):
    for wrong in (
        {"method": ["nowhere.Mine"]}, {"bottleneck": ["nowhere.Mine"]}, {"evaluation": ["nowhere.mine"]},
        {"own_option": [1]}
    ):
        grid = tmp_path / "wrong.json"
        grid.write_text(json.dumps({"common": TINY, "blocks": [wrong]}))
        with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(errors):
            code = main(command(grid, data, tmp_path)[3:])
        assert code == 2 and ("nowhere" in errors.getvalue() or "own_option" in errors.getvalue()), (
            errors.getvalue()
        )
    assert not (tmp_path / "study-wrong").exists()

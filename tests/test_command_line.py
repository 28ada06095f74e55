"""The command line as a user meets it: processes that are killed, files that are damaged, two processes at
once."""

import builtins
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from soft_ssl.cli import main

SMALL = [
    "--n_groups",
    "8",
    "--n_symbols",
    "4",
    "--h_dim",
    "4",
    "--feature_dim",
    "8",
    "--train_batch_size",
    "16",
]
SMALL += [
    "--log_every", "2", "--n_sub_train", "400", "--n_sub_test", "200", "--final_eval_only", "--no_figures"
]


def soft_ssl(*words, check=True, alone=False):
    """Runs the command line: in this process, which has imported all that it needs, or `alone` in one of its
    own."""
    words = [str(word) for word in words]
    if alone:
        command = [sys.executable, "-m", "soft_ssl.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    else:
        with contextlib.redirect_stdout(
            io.StringIO()
        ) as out, contextlib.redirect_stderr(
            io.StringIO()
        ) as err:
            try:
                code = main(words)
            except SystemExit as leave:
                code = leave.code
        done = subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def data(dsprites):
    return dsprites


def weights(run: Path):
    return torch.load(run / "last.ckpt", weights_only=True)["method"]


@pytest.mark.parametrize("bottleneck", ["continuous", "softmax", "gumbel-softmax", "VQ"])
def test_every_bottleneck_trains_and_evaluates(bottleneck, data, tmp_path):
    alone = bottleneck == "softmax"  # one of them as a user starts it
    soft_ssl(
        "train",
        "byol",
        "--bottleneck",
        bottleneck,
        "--max_steps",
        20,
        "--root_path",
        tmp_path,
        "--data_path",
        data,
        *SMALL,
        *["--figures"] * alone,
        alone=alone,
    )
    (run,) = tmp_path.glob("default/*")
    done = soft_ssl("evaluate", "byol", "linear_probe", "--data_path", data, "--run_path", run, alone=alone)
    scores = pd.read_csv(run / "probes.csv")
    features = {"encoded", "embedding"} | ({"one_hot"} if bottleneck != "continuous" else set())
    assert list(scores) == ["run", "feature", "split", "factor", "metric", "chance", "score", "oracle"]
    assert set(scores["feature"]) == features and set(scores["split"]) == {"iid", "val", "test"}
    assert len(scores) == len(features) * 3 * 5 and scores["score"].notna().all()
    assert "chance" in done.stdout
    assert {file.name for file in run.glob("figures/*")} == (
        {"training.png", "probes.png"} if alone else set()
    )



def test_ctrl_c_while_packages_are_imported_is_one_sentence(monkeypatch, capsys):
    def interrupted(name, *rest):
        if name == "soft_ssl" and len(rest) > 2 and "commands" in (rest[2] or ()):
            raise KeyboardInterrupt
        return usual(name, *rest)

    usual = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", interrupted)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "soft-ssl: interrupted\n"


def test_a_run_keeps_its_split_and_turn(data, tmp_path):
    "Trained, resumed, probed and repeated on the same held-out images; the run says which."
    import json

    from soft_ssl.experiment import load_run, run_title

    rule = ["--split", "extrapolation scale", "--dataset_K", 3, "--turn", 1]
    places = ["--root_path", tmp_path, "--data_path", data]
    soft_ssl("train", "byol", "--max_steps", 4, *rule, *places, *SMALL)
    soft_ssl("train", "byol", "--max_steps", 6, *rule, *places, *SMALL, "--reload")
    (run,) = tmp_path.glob("default/*")
    kept = json.loads((run / "config.json").read_text())["data"]
    assert (kept["split"], kept["turn"], kept["dataset_K"]) == ("extrapolation scale", 1, 3)
    _, split, config = load_run(run)
    scales = [set(split.dataset.values[rows][:, 1].tolist()) for rows in split.splits]
    assert scales == [{3, 4, 5}, {3, 4, 5}, {0, 2}, {1}]  # odd turns show the highest
    soft_ssl("train", "byol", "--max_steps", 4, *places, *SMALL)
    assert len(list(tmp_path.glob("default/*"))) == 2  # another split is another run
    assert run_title(config).endswith("extrapolation scale, K=3, turn 1")
    soft_ssl("evaluate", "byol", "linear_probe", "--data_path", data, "--run_path", run)


def test_a_file_of_ones_own_is_named_like_a_data_set(tmp_path):
    import numpy as np

    from soft_ssl.datasets import from_arrays

    labels = np.array([(hue, shape) for hue in range(4) for shape in range(4)] * 20)
    images = np.random.default_rng(0).integers(0, 255, (320, 64, 64, 3), np.uint8)
    from_arrays(images, labels, tmp_path / "own.h5", ["hue", "shape"])
    options = [
        "--dataset", tmp_path / "own.h5", "--split", "bands hue shape", "--dataset_K", 2, "--augment", "crop",
        "--max_steps", 2
    ]
    done = soft_ssl("train", "byol", *options, "--root_path", tmp_path, "--data_path", tmp_path, *SMALL)
    (run,) = tmp_path.glob("default/*")
    assert run.name.startswith("byol-softmax-own-K2-seed0-") and "hue" in done.stdout
    soft_ssl("evaluate", "byol", "toposim", "--run_path", run, "--data_path", tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "bands colour shape"], "needs colour, but the factors are shape, scale"),
        (["--split", "stripes x"], "one of bands, quarters, interpolation, extrapolation, random or list"),
        (["--split", "extrapolation scale", "--dataset_K", 6], "K=2 to K=4 on this data set, not K=6"),
        (["--split", "list shape scale val 0"], "names combinations of shape, scale"),
        (["--turn", -1], "turn must be at least 0, but is -1"),
        (["--dataset", "nowhere.h5"], "there is no file nowhere.h5"),
    ],
)
def test_a_split_that_cannot_be_is_a_sentence(options, words, data, tmp_path):
    done = soft_ssl(
        "train", "byol", *options, "--max_steps", 1, "--root_path", tmp_path, "--data_path", data, check=False
    )
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_killed_and_reloaded_run_has_the_weights_of_one_never_killed(data, tmp_path):
    options = ["--max_steps", 150, "--data_path", data, "--bottleneck", "gumbelsoftmax", *SMALL]
    soft_ssl("train", "byol", "--root_path", tmp_path / "whole", *options)
    command = [
        sys.executable,
        "-m",
        "soft_ssl.cli",
        "train",
        "byol",
        "--root_path",
        tmp_path / "killed",
        *options,
    ]
    process = subprocess.Popen(
        [str(word) for word in command],
        stderr=subprocess.PIPE,
        env=os.environ | {"SOFT_SSL_CHECKPOINT_SECONDS": "0.5"},
    )
    limit = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("default/*/last.ckpt")):
        assert process.poll() is None and time.monotonic() < limit, "no checkpoint before the end"
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (killed,), (whole,) = (tmp_path.glob(f"{name}/default/*") for name in ("killed", "whole"))
    stopped_at = torch.load(killed / "last.ckpt", weights_only=True)["step"]
    assert 0 < stopped_at < 150
    soft_ssl("train", "byol", "--root_path", tmp_path / "killed", *options, "--reload")
    for name, value in weights(whole).items():
        assert torch.equal(weights(killed)[name], value), name
    metrics = [pd.read_csv(run / "metrics.csv").drop(columns="images_per_second") for run in (killed, whole)]
    pd.testing.assert_frame_equal(*metrics)
    pd.testing.assert_series_equal(*(pd.read_csv(run / "probes.csv")["score"] for run in (killed, whole)))


def test_interrupted_run_says_so_and_goes_on(data, tmp_path):
    options = ["--max_steps", 100_000, "--root_path", tmp_path, "--data_path", data, *SMALL]
    command = [sys.executable, "-m", "soft_ssl.cli", "train", "byol", *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("default/*/metrics.csv")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "stopped after step" in err and "--reload goes on from there" in err and "Traceback" not in err
    (run,) = tmp_path.glob("default/*")
    step = torch.load(run / "last.ckpt", weights_only=True)["step"]
    soft_ssl("train", "byol", *options[2:], "--reload", "--max_steps", step + 4)
    assert torch.load(run / "last.ckpt", weights_only=True)["step"] == step + 4


def test_damaged_files_are_answered_with_a_sentence(data, tmp_path):
    soft_ssl("train", "byol", "--max_steps", 2, "--root_path", tmp_path, "--data_path", data, *SMALL)
    (run,) = tmp_path.glob("default/*")
    for name, damage in (
        ("last.ckpt", lambda b: b[: len(b) // 2]),
        ("config.json", lambda b: b[:-20]),
        ("config.json", lambda b: b"[]"),
    ):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(damage(whole))
        done = soft_ssl(
            "evaluate", "byol", "linear_probe", "--run_path", run, "--data_path", data, check=False
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, (
            done.stderr
        )
        (run / name).write_bytes(whole)
    soft_ssl("evaluate", "byol", "linear_probe", "--run_path", run, "--data_path", data)


def test_two_processes_draw_the_same_data_file(tmp_path):
    command = [
        sys.executable,
        "-m",
        "soft_ssl.cli",
        "download",
        "dsprites",
        str(tmp_path),
        "1",
        "--source",
        "rendered",
    ]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0, 0], ends
    assert [path.name for path in tmp_path.iterdir()] == ["dsprites_rendered.h5"]


def test_import_needs_neither_jupyter_nor_nbdev():
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("IPython", "ipywidgets", "nbdev", "jupyterlab", "execnb", "ipykernel"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import soft_ssl.cli, soft_ssl.commands
"""
    subprocess.run([sys.executable, "-c", program], check=True)

"""The command line and the numbers it takes: places, ranges, paths, and commands that fail without leaving
anything behind."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fuzz import SMALL, answer, make_data, words_of

from soft_ssl import experiment, study
from soft_ssl.benchmark import benchmark
from soft_ssl.experiment import EVALUATIONS, METHODS, evaluate, method_options, options_of, repeat, train
from soft_ssl.latents import open_latents
from soft_ssl.scale import HEADS_OF, pretrain


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A small data file, and a trained run in `runs/run`."
    folder = tmp_path_factory.mktemp("small")
    make_data(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(place):
    "A pretrained run of two steps on the digits."
    code, said = answer(
        [
            "pretrain", "byol", *TINY, "--run_id", "large", "--root_path", str(place), "--data_path",
            str(place / "digits_data")
        ]
    )
    assert code == 0, said
    return place / "pretrain" / "large"


TINY = [
    "--preset", "digits", "--max_steps", "2", "--train_batch_size", "8", "--n_groups", "4",
    "--projector_hidden", "8", "--predictor_hidden", "8", "--projection_dim", "8", "--workers", "0",
    "--precision", "fp32"
]


def options(place, root, **more):
    "What a small training takes, with its data at `place` and its runs at `root`."
    return words_of(
        SMALL | dict(max_steps=1, dataset="mpi3d_toy", dataset_K=3, root_path=root, data_path=place / "data")
        | more
    )


def refused(words, *said):
    "Asserts that a command is refused in one sentence with these words in it."
    code, sentence = answer([str(word) for word in words])
    assert code == 2, (words, code, sentence)
    assert "Traceback" not in sentence and sentence.count("soft-ssl: ") == 1, sentence
    for words_in_it in said:
        assert words_in_it in sentence, (words_in_it, sentence)


# --- numbers: every option of every command

EVERY = {
    **{("train", method): options_of(train) | method_options(method) for method in METHODS},
    **{
        ("pretrain", method): options_of(pretrain) | method_options(method, dataset="digits")
        for method in HEADS_OF
    },
    **{
        ("evaluate", name): options_of(evaluate) | options_of(function)
        for name, function in EVALUATIONS.items()
    },
    ("study", ""): options_of(study.study), ("repeat", ""): options_of(repeat),
    ("benchmark", ""): options_of(benchmark),
}


def test_every_number_has_a_range():
    for (command, owner), known in EVERY.items():
        for name, option in known.items():
            if option.kind in (int, float):
                allowed = experiment.range_of(name, owner)
                assert option.default in allowed, (command, owner, name)
                assert allowed.low >= 0 and not any(value in allowed for value in (-1, math.nan, math.inf)), (
                    (command, owner, name)
                )


@pytest.mark.parametrize(("command", "owner"), EVERY, ids=lambda word: word or "-")
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    command, owner, place, pretrained, tmp_path
):
    numbers = {name: option for name, option in EVERY[command, owner].items() if option.kind in (int, float)}
    for name, option in numbers.items():
        for value in ("-1", *(["nan", "inf"] if option.kind is float else [])):
            words = {
                "train": [
                    "train", owner, f"--root_path={tmp_path / 'runs'}", f"--data_path={tmp_path / 'data'}"
                ],
                "pretrain": [
                    "pretrain", owner, f"--root_path={tmp_path / 'runs'}", f"--data_path={tmp_path / 'data'}"
                ],
                "evaluate": ["evaluate", "byol", owner, "--run_path", place / "runs" / "run"],
                "study": ["study", f"--root_path={tmp_path / 'runs'}", f"--data_path={tmp_path / 'data'}"],
            }[command]
            refused([*words, f"--{name}={value}"], name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "said"), [
    (["train", "byol", "--n_symbols", "0"], "n_symbols must be at least 1, but is 0"),
    (["train", "byol", "--n_sub_test", "1"], "n_sub_test must be 0 or at least 2"),
    (["pretrain", "byol", "--max_steps", "-5"], "max_steps must be at least 0, but is -5"),
    (["download", "dsprites", "DATA", "0", "--source", "rendered"], "K must be at least 1"),
    (["pretrain", "byol", "--taus", "1,nan"], "taus must be numbers of at least 1e-06"),
    (["train", "byol", "--bottleneck", "FSQ", "--levels", "5.0,5"], "levels must be whole numbers"),
    (["train", "byol", "--evaluations", "knnn"], "the evaluation must be one of"),
])
def test_numbers_are_refused_by_the_name_that_was_given(words, said, tmp_path):
    words = [str(tmp_path / "data") if word == "DATA" else word for word in words]
    places = (
        [] if words[0] == "download"
        else [f"--root_path={tmp_path / 'runs'}", f"--data_path={tmp_path / 'data'}"]
    )
    refused([*words, *places], said)
    assert list(tmp_path.iterdir()) == []


def test_one_image_at_a_time_is_enough_to_evaluate(place):
    code, said = answer(
        [
            "evaluate", "byol", "toposim", "--run_path", str(place / "runs" / "run"), "--test_batch_size",
            "1", "--n_pairs", "10"
        ]
    )
    assert code == 0, said


# --- places


def test_a_method_is_named_by_its_place(place, tmp_path):
    for words in (
        ["--run_id", "moco-simclr", "byol"], ["byol", "--run_id", "vq-byol"],
        ["--exp_name", "vq-byol", "byol"]
    ):
        code, said = answer(["train", *words, *options(place, tmp_path)])
        assert code == 0, said
    methods = {json.loads(file.read_text())["method"]["method"] for file in tmp_path.rglob("config.json")}
    assert methods == {"byol"}
    code, said = answer(
        [
            "pretrain", "--run_id", "simclr", "moco", "--dry_run", "--data_path", str(tmp_path), "--preset",
            "digits"
        ]
    )
    assert code == 0, said
    named_like_an_evaluation = tmp_path / "toposim"
    (place / "runs" / "run").rename(named_like_an_evaluation)
    try:
        code, said = answer(
            [
                "evaluate", "--run_path", str(named_like_an_evaluation), "byol", "disentanglement",
                "--n_images", "60"
            ]
        )
        assert code == 0, said
        assert (named_like_an_evaluation / "disentanglement.csv").exists()
    finally:
        named_like_an_evaluation.rename(place / "runs" / "run")


def test_a_pretrained_run_is_of_the_method_that_was_named(tmp_path):
    code, said = answer(
        [
            "pretrain", "--run_id", "simclr", "byol", *TINY, "--root_path", str(tmp_path), "--data_path",
            str(tmp_path)
        ]
    )
    assert code == 0, said
    assert json.loads(
        (tmp_path / "pretrain" / "simclr" / "config.json").read_text()
    )["method"]["method"] == "byol"


@pytest.mark.parametrize(("words", "said"), [
    (["train"], "give a method: byol, vq-byol, moco-simclr, simclr"),
    (["pretrain", "--lr", "1"], "give a method: byol, moco"),
    (["evaluate", "byol", "--run_path", "x"], "give an evaluation: linear_probe"),
    (["evaluate", "byol", "knnn", "--run_path", "x"], "'knnn' is not an evaluation: did you mean knn?"),
    (["train", "simcrl"], "'simcrl' is not a method: did you mean simclr?"),
])
def test_what_is_missing_is_named(words, said):
    refused(words, said)


# --- paths, and runs of every kind


def test_the_home_folder_is_meant_by_a_tilde(place, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, said = answer(["train", "byol", *options(place, "~/runs", run_id="mine")])
    assert code == 0, said
    assert (tmp_path / "runs" / "default" / "mine" / "config.json").exists() and not (tmp_path / "~").exists()
    for words in (
        ["evaluate", "byol", "toposim", "--run_path=~/runs/default/mine", "--n_pairs", "10"],
        ["repeat", "~/runs/default/mine", "--root_path=~/again"],
        ["evaluate", "byol", "knn", "--run_path=~/runs/default/mine", "--cache=~/features"]
    ):
        code, said = answer(words)
        assert code == 0, said
    assert open_latents("~/runs/default/mine", n_images=20).path == tmp_path / "runs" / "default" / "mine"
    assert (
        (tmp_path / "again" / "repeated" / "mine").exists() and any((tmp_path / "features").iterdir())
        and not (tmp_path / "~").exists()
    )


def test_a_home_folder_of_nobody_is_a_folder_that_is_not_there():
    for words in (
        ["runs", "--root_path", "~nobody-of-this-name/x"],
        ["evaluate", "byol", "toposim", "--run_path=~nobody-of-this-name/x"],
        ["repeat", "~nobody-of-this-name/x"],
        ["study", "--size", "~nobody-of-this-name/grid.json", "--dry_run"]
    ):
        refused(words, "~nobody-of-this-name")


def test_runs_of_pretrain_and_train_are_of_one_kind_and_what_reads_pictures_says_so(
    place, pretrained, tmp_path
):
    for words in (
        ["evaluate", "byol", "linear_probe", "--run_path", pretrained],
        ["repeat", pretrained, "--root_path", tmp_path]
    ):
        code, said = answer([str(word) for word in words])
        assert code == 0, said
    assert (
        set(pd.read_csv(pretrained / "probes.csv")["split"]) == {"iid"}
        and (tmp_path / "repeated" / "large" / "last.ckpt").exists()
    )
    for run in (place / "runs" / "run", pretrained):
        code, said = answer(["evaluate", "byol", "knn", "--run_path", str(run), "--k", "3", "--taus", "1"])
        assert code == 0, said
        table = pd.read_csv(run / "knn.csv")
        assert (
            table["chance"].between(0.01, 0.5).all()
            and set(table["split"]) == ({"iid"} if run == pretrained else {"iid", "val", "test"})
        )


def test_a_run_of_an_older_version_is_refused_in_one_sentence(pretrained, tmp_path):
    older = shutil.copytree(pretrained, tmp_path / "older")
    config = json.loads((older / "config.json").read_text())
    del config["checksum"]
    # as it was before options stood by component
    flat = {name: value for part in config.values() for name, value in part.items()}
    (older / "config.json").write_text(json.dumps(flat | {"preset": "digits"}))
    for words in (
        ["evaluate", "byol", "linear_probe", "--run_path", older], ["repeat", older], ["export", older],
        [
            "pretrain", "byol", *TINY, "--reload", "--run_id", "older", f"--root_path={tmp_path.parent}",
            f"--exp_name={tmp_path.name}"
        ]
    ):
        refused(words, "is a run of an older version, which cannot be read: train it again")


# --- what fails before its first step


@pytest.mark.parametrize(
    "more",
    [
        ["--optimizer", "SGD", "--tracker", "trackio"], ["--train_batch_size", "1000000000000"],
        ["--embedder", "Identity"]
    ]
)
def test_a_command_that_fails_before_its_first_step_leaves_nothing_and_the_corrected_one_runs(
    more, place, tmp_path
):
    words = ["train", "byol", *options(place, tmp_path / "runs", run_id="mine")]
    code, said = answer([*words, *more])
    assert code == 2, said
    assert list(tmp_path.iterdir()) == []
    code, said = answer(words)
    assert code == 0, said


def test_a_pretraining_that_fails_before_its_first_step_leaves_nothing(tmp_path):
    words = [
        "pretrain", "byol", *TINY, "--run_id", "mine", "--root_path", str(tmp_path / "runs"), "--data_path",
        str(tmp_path)
    ]
    code, said = answer([*words, "--precision", "fp16"])
    assert code == 2 and "fp16 needs a CUDA device" in said, said
    assert not (tmp_path / "runs").exists()
    code, said = answer(words)
    assert code == 0, said


def test_a_run_killed_before_its_first_checkpoint_is_begun_anew_and_one_with_a_checkpoint_is_kept(
    place, tmp_path
):
    words = ["train", "byol", *options(place, tmp_path, run_id="mine")]
    assert answer(words)[0] == 0
    run = tmp_path / "default" / "mine"
    refused([*words, "--lr", "0.1"], "holds a run already")
    assert (run / "last.ckpt").exists()
    (run / "last.ckpt").unlink()  # as if it had been killed before it
    code, said = answer([*words, "--lr", "0.1"])
    assert code == 0, said
    assert (
        json.loads((run / "config.json").read_text())["training"]["lr"] == 0.1
        and len(pd.read_csv(run / "metrics.csv")) == 1
    )


def test_an_environment_variable_that_is_no_number_is_one_sentence(place, tmp_path):
    command = [sys.executable, "-m", "soft_ssl.cli", "train", "byol", *options(place, tmp_path / "runs")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=os.environ | {"SOFT_SSL_CHECKPOINT_SECONDS": "ten"}
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "SOFT_SSL_CHECKPOINT_SECONDS must be a number of at least 0, but is 'ten'" in done.stderr
    assert not Path(tmp_path / "runs").exists()

"A run goes on, and is repeated, only as what it was: schedule, data, precision."

import json
import shutil

import pandas as pd
import pytest
import torch
from fuzz import SMALL, answer, make_data, words_of

from soft_ssl import experiment, mpi3d
from soft_ssl.datasets import data_file, load
from soft_ssl.devices import Mode
from soft_ssl.factors import FactorDataset, write_factor_file
from soft_ssl.kernels import library
from soft_ssl.runs import RunFolder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    make_data(folder)
    return folder


def line(place, root, **more):
    return [
        "train", "byol",
        *words_of(
            SMALL
            | dict(
                max_steps=4, dataset="mpi3d_toy", dataset_K=3, root_path=root, run_id="run",
                data_path=place / "data"
            )
            | more
        )
    ]


def difference(run, root):
    "What `repeat` says of a run: the largest difference of a score."
    _, largest = experiment.repeat(run, root_path=str(root))
    return largest


@pytest.mark.parametrize(
    "ends", [dict(scheduler="cosine"), dict(ema=0.9, ema_end=1.0)], ids=["cosine", "ema"]
)
def test_a_run_whose_schedule_ends_is_not_stretched(ends, place, tmp_path):
    assert answer(line(place, tmp_path, **ends))[0] == 0
    run = tmp_path / "default" / "run"
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    code, said = answer([*line(place, tmp_path, max_steps=8, **ends), "--reload"])
    assert code == 2 and "--max_steps 4" in said and "another --run_id" in said, said
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before
    assert difference(run, tmp_path) == 0


def test_a_constant_run_goes_on_with_more_steps_and_repeats_to_the_same_scores(place, tmp_path):
    assert answer(line(place, tmp_path))[0] == 0
    assert answer([*line(place, tmp_path, max_steps=8), "--reload"])[0] == 0
    assert difference(tmp_path / "default" / "run", tmp_path) == 0


def test_a_stopped_run_that_is_to_have_no_more_steps_is_scored_where_it_stands(place, tmp_path):
    assert answer(line(place, tmp_path, run_id="whole"))[0] == 0
    # as one that was stopped: four steps of eight, scored before the first alone
    assert answer([*line(place, tmp_path, max_steps=4), "--no_probe"])[0] == 0
    run = tmp_path / "default" / "run"
    assert not (run / "probes.csv").exists()
    for steps in ("4", "2"):  # steps that are done are not taken back
        code, said = answer([*line(place, tmp_path, max_steps=steps), "--reload"])
        assert code == 0, said
        config = experiment.read_run_config(RunFolder(run))
        assert (config["max_steps"], config["data_file"]["steps"]) == (4, 4)
        whole, now = (pd.read_csv(folder / "probes.csv") for folder in (run.with_name("whole"), run))
        pd.testing.assert_frame_equal(whole.drop(columns="run"), now.drop(columns="run"))
        (run / "probes.csv").unlink()


def test_a_run_that_is_scored_does_not_go_on_without_probes(place, tmp_path):
    assert answer(line(place, tmp_path))[0] == 0
    run = tmp_path / "default" / "run"
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    code, said = answer([*line(place, tmp_path, max_steps=8), "--reload", "--no_probe"])
    assert code == 2 and "go on without --no_probe" in said, said
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_an_untrained_run_without_probes_has_its_weights_as_the_best(place, tmp_path):
    assert answer([*line(place, tmp_path, max_steps=0), "--no_probe"])[0] == 0
    run = RunFolder(tmp_path / "default" / "run")
    last, best = run.load_checkpoint()["method"], run.load_best()
    assert all(torch.equal(last[name], value) for name, value in best.items())


def test_a_run_that_is_to_be_scored_at_its_end_alone_is(place, tmp_path):
    assert answer([*line(place, tmp_path, eval_every=2), "--final_eval_only"])[0] == 0
    assert set(pd.read_csv(tmp_path / "default" / "run" / "evaluations.csv")["step"]) == {4}


def test_a_reload_that_fails_leaves_the_scores(place, tmp_path):
    assert answer(line(place, tmp_path))[0] == 0
    run = tmp_path / "default" / "run"
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    code, said = answer([*line(place, tmp_path, max_steps=8), "--reload", "--tracker", "wandb"])
    assert code == 2, said
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_threads_that_are_asked_for_at_a_reload_are_taken(place, tmp_path):
    assert answer(line(place, tmp_path))[0] == 0
    reload = [*line(place, tmp_path, max_steps=6), "--reload", "--threads"]
    code, said = answer([*reload, "many"])
    assert code == 2 and "threads" in said, said
    assert answer([*reload, "1"])[0] == 0
    config = experiment.read_run_config(RunFolder(tmp_path / "default" / "run"))
    assert (config["resolved"]["threads"], config["data_file"]["steps"]) == ("1", 6)


def test_a_finished_run_says_that_other_options_of_scoring_change_nothing(place, tmp_path):
    assert answer(line(place, tmp_path))[0] == 0
    code, said = answer([*line(place, tmp_path), "--reload", "--ridge", "500"])
    assert code == 0 and "ridge changes nothing" in said, said


def test_what_auto_came_to_is_kept(place, tmp_path, monkeypatch):
    monkeypatch.setattr(
        experiment, "mode_of",
        lambda method, batches, precision, *more: Mode("bf16" if precision == "auto" else precision, False)
    )
    monkeypatch.setattr(
        experiment, "choose_threads", lambda threads, *more: "1" if threads == "auto" else threads
    )
    assert answer(line(place, tmp_path, precision="auto", compile="auto", threads="auto"))[0] == 0
    run = tmp_path / "default" / "run"
    assert json.loads((run / "config.json").read_text())["resolved"] == {
        "precision": "bf16", "compile": "off", "threads": "1"
    }
    # another machine
    monkeypatch.setattr(
        experiment, "mode_of",
        lambda method, batches, precision, *more: Mode("fp32" if precision == "auto" else precision, False)
    )
    monkeypatch.setattr(
        experiment, "choose_threads", lambda threads, *more: "2" if threads == "auto" else threads
    )
    assert answer(
        [*line(place, tmp_path, precision="auto", compile="auto", threads="auto", max_steps=8), "--reload"]
    )[0] == 0
    assert json.loads((run / "config.json").read_text())["resolved"] == {
        "precision": "bf16", "compile": "off", "threads": "1"
    }
    assert difference(run, tmp_path) == 0


def test_compiling_depends_on_the_whole_run_and_not_on_what_is_left_of_it(place, monkeypatch):
    data = load("mpi3d_toy", 3, data_path=place / "data")
    config = experiment.full_config("byol", dict(compile="auto", max_steps=400))
    built = experiment.build_method(config, data.dataset.image_shape)
    batches = experiment.make_batches(config, data)
    # as if compiled were the faster
    monkeypatch.setattr("soft_ssl.learner.choose_mode", lambda encoders, example, modes: modes[-1])
    monkeypatch.setenv("SOFT_SSL_KERNELS", "off")
    for more, expected in ({}, "on"), ({"max_steps": 10}, "off"), ({"max_steps": 0, "epochs": 400}, "on"):
        assert experiment.resolve(
            config | more, built, batches, experiment.steps_of(config | more, data)
        )["compile"] == expected


@pytest.mark.skipif(library() is None, reason="no compiler for the kernels")
def test_an_encoder_with_kernels_is_not_compiled_unless_asked_for(place, monkeypatch):
    data = load("mpi3d_toy", 3, data_path=place / "data")
    monkeypatch.setattr("soft_ssl.learner.choose_mode", lambda encoders, example, modes: modes[-1])
    for compile, encoder, expected in ("auto", "CNN", "off"), ("on", "CNN", "on"), ("auto", "ResNet10", "on"):
        config = experiment.full_config("byol", dict(compile=compile, encoder=encoder, max_steps=400))
        built = experiment.build_method(config, data.dataset.image_shape)
        batches = experiment.make_batches(config, data)
        assert experiment.resolve(config, built, batches, 400)["compile"] == expected


def test_a_run_goes_on_only_on_its_own_data(place, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    words = line(place, tmp_path, data_path=data)
    assert answer(words)[0] == 0
    run = tmp_path / "default" / "run"
    before = (run / "config.json").read_bytes()
    old = load("mpi3d_toy", 3, data_path=data).dataset
    images, values = old.images(slice(None)).permute(0, 2, 3, 1).numpy(), old.values
    (data / "mpi3d_toy_original.h5").unlink()
    write_factor_file(
        data / "mpi3d_toy_original.h5", [255 - images], values, old.factors, old.name, old.source, "0" * 64,
        show_progress=False
    )
    for command in (
        [*words[:-2], "--data_path", str(data), "--reload", "--max_steps", "8"],
        ["evaluate", "byol", "linear_probe", "--run_path", str(run)], ["repeat", str(run)]
    ):
        code, said = answer(command)
        assert code == 2 and "checksum differs" in said, (command, said)
    assert (run / "config.json").read_bytes() == before


def test_a_run_on_drawn_images_goes_on_with_them_when_the_original_appears(tmp_path):
    grid = mpi3d.Factors(mpi3d.NAMES, (6, 6, 1, 2, 1, 1, 20), mpi3d.CLASSES)
    data = tmp_path / "data"
    data.mkdir()
    mpi3d.render(data_file(data, "mpi3d", "rendered"), grid)
    words = [
        "train", "byol",
        *words_of(
            SMALL
            | dict(
                max_steps=2, dataset="mpi3d", dataset_K=3, root_path=tmp_path, run_id="run", data_path=data
            )
        )
    ]
    code, said = answer(words)
    assert code == 0, said
    drawn = FactorDataset(data_file(data, "mpi3d", "rendered"))
    other = [255 - drawn.images(slice(None)).permute(0, 2, 3, 1).numpy()]
    write_factor_file(
        data_file(data, "mpi3d", "original"), other, drawn.values, drawn.factors, "mpi3d", "original",
        "0" * 64, show_progress=False
    )
    code, said = answer([*words, "--reload", "--max_steps", "4"])
    assert code == 0, said
    config = json.loads((tmp_path / "default" / "run" / "config.json").read_text())
    assert config["data"]["data_file"]["source"] == "rendered"
    assert torch.load(tmp_path / "default" / "run" / "last.ckpt", weights_only=True)["step"] == 4


def test_a_second_repetition_is_answered_with_options_that_repeat_has(place, tmp_path):
    assert answer(line(place, tmp_path))[0] == 0
    words = ["repeat", str(tmp_path / "default" / "run"), "--root_path", str(tmp_path)]
    assert answer(words)[0] == 0
    code, said = answer(words)
    assert code == 2 and "--reload" in said and "--exp_name" in said and "--run_id" not in said, said
    assert answer([*words, "--reload"])[0] == 0
    assert answer([*words, "--exp_name", "twice"])[0] == 0
    scores = [
        pd.read_csv(tmp_path / name / "run" / "probes.csv")["score"]
        for name in ("default", "repeated", "twice")
    ]
    assert scores[0].equals(scores[1]) and scores[0].equals(scores[2])

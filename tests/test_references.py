"Losses, settings, probes, metrics and quantizers against independent computations."

import json

import numpy as np
import pandas as pd
import pytest
import torch
from references import large_losses, probe_rows, settings, small_losses

from soft_ssl.bottleneck import VQ
from soft_ssl.cli import main
from soft_ssl.dsprites import FULL_FACTORS, draw_pose
from soft_ssl.experiment import METHODS
from soft_ssl.metrics import factor_distance
from soft_ssl.networks import CNN
from soft_ssl.probes import LogisticProbes, RidgeProbes
from soft_ssl.scale import PRESETS, preset_config

SMALL = [
    "--n_groups", "4", "--n_symbols", "8", "--h_dim", "2", "--feature_dim", "8", "--train_batch_size", "16",
    "--max_steps", "3", "--log_every", "1", "--n_sub_train", "100", "--n_sub_test", "50", "--final_eval_only",
    "--no_figures"
]


@pytest.mark.parametrize(
    "part", [small_losses, large_losses, settings, probe_rows], ids=lambda part: part.__name__
)
def test_agrees_with_the_independent_computation(part):
    wrong = [
        f"{name}: {kit:.6g}, right is {other:.6g}" for name, kit, other in part()
        if kit != pytest.approx(other, rel=1e-4, abs=1e-6)
    ]
    assert wrong == []


def test_aligned_views_have_almost_no_contrastive_loss():
    assert small_losses()[0][1] < 0.01


PUBLISHED = {  # lr, wd, lr of the probe, EMA at first and at last, temperatures of student and teacher
    ("cifar100", "byol"): (1.0, 1e-5, 0.1, 0.99, 1.0, 1.0, 1.0),
    ("cifar100", "moco"): (0.3, 1e-4, 0.3, 0.99, 0.999, 0.04, 0.01),
    ("cifar100", "simclr"): (0.4, 1e-5, 0.1, None, None, 0.17, 0.78),
    ("cifar100", "barlow"): (0.3, 1e-4, 0.3, None, None, 1.0, 0.99),
    ("cifar100", "vicreg"): (0.3, 1e-4, 0.3, None, None, 1.0, 1.0),
    ("cifar100", "swav"): (0.6, 1e-6, 0.1, None, None, 0.85, 1.5),
    ("cifar100", "dino"): (0.3, 1e-6, 0.1, 0.9995, 1.0, 1.0, 1.0),
    ("imagenet", "byol"): (0.45, 1e-6, 0.2, 0.99, 1.0, 1.0, 1.0),
    ("imagenet200", "byol"): (0.4, 1e-6, 0.2, 0.99, 1.0, 0.872, 0.159),
    ("imagenet800", "byol"): (0.2, 1.5e-6, 0.2, 0.996, 1.0, 1.0, 1.0),
    ("imagenet", "moco"): (0.3, 3e-5, 0.1, 0.99, 0.999, 1.0, 1.0),
}


def test_presets_hold_the_published_numbers():
    assert {
        (preset, method) for preset, methods in PRESETS.items() for method in methods
        if preset not in ("digits", "fashion_mnist")
    } == set(PUBLISHED)
    for (preset, method), published in PUBLISHED.items():
        config = preset_config(method, preset)
        names = ("lr", "wd", "probe_lr", "ema", "ema_end", "tau", "tau_teacher")
        here = [
            None if name.startswith("ema") and not METHODS[method].has_teacher else config[name]
            for name in names
        ]
        assert tuple(here) == published, (preset, method)
        assert config["last_norm_emb"] is True
        assert config["lars_clip"] is (preset == "cifar100") or config["optimizer"] != "LARS"
        assert config["exclude_bias_norm"] is (method != "swav")
        assert config["crop_min"] == (0.2 if method == "vicreg" else 0.08)
        assert config["optimizer"] == ("SGD" if method == "moco" else "LARS")


def test_a_plan_says_that_the_temperatures_of_two_settings_were_searched(tmp_path, capsys):
    for preset, said in (("imagenet", True), ("imagenet200", False)):
        assert main(
            [
                "pretrain", "byol", "--preset", preset, "--dry_run", "--image_size", "32", "--data_path",
                str(tmp_path)
            ]
        ) == 0
        assert ("are not published" in capsys.readouterr().out) is said


def test_the_last_batchnorm_of_the_encoder_stands_before_its_pool():
    torch.manual_seed(0)
    images = torch.randn(64, 1, 64, 64)
    z = CNN(1, 4, 16, last_enc_bn=True)(images)
    assert z.std() < 0.9  # a BatchNorm after the pool makes it 1


def test_a_two_valued_factor_is_fitted_at_c_and_a_missing_class_is_left_out():
    from sklearn.linear_model import LogisticRegression

    from soft_ssl.factors import Factors

    rng = np.random.default_rng(0)
    factors = Factors(("side", "kind"), (2, 5), classes=("side", "kind"))
    values = np.stack([rng.integers(0, 2, 400), rng.integers(0, 4, 400)], 1)  # kind 4 never occurs
    x = values @ rng.normal(size=(2, 6)) + 2 * rng.normal(size=(400, 6))
    probes = LogisticProbes(factors, strength=0.01)
    probes.add(torch.from_numpy(x[:300]), values[:300])
    said = probes.solve().predict(torch.from_numpy(x[300:]))
    for f, name in enumerate(factors.names):
        best = LogisticRegression(C=0.01, tol=1e-8).fit(x[:300], values[:300, f])
        assert (said[name] == best.predict(x[300:])).all()


def test_constant_features_of_any_size_are_left_as_they_are_when_standardizing():
    rng = np.random.default_rng(0)
    from references import WORLD

    values = WORLD.values(rng.integers(0, len(WORLD), 300))
    x = np.concatenate([values + rng.normal(size=(300, 3)), np.full((300, 2), 0.1) * [1, 1e8]], 1)
    for dtype in (torch.float32, torch.float64):
        for probes in (RidgeProbes(WORLD, standardize=True), LogisticProbes(WORLD, standardize=True)):
            predictions = []
            for width in (3, 5):
                probes.add(torch.from_numpy(x[:, :width]).to(dtype), values)
                predictions.append(probes.solve().predict(torch.from_numpy(x[:, :width]).to(dtype))["kind"])
            assert (predictions[0] == predictions[1]).mean() > 0.99


# --- metrics


def test_dsprites_has_39_distinct_angles():
    assert torch.equal(draw_pose(1, 2, 0), draw_pose(1, 2, 39))
    assert FULL_FACTORS.periods == (3, 6, 39, 32, 32)
    pose = np.zeros((4, 5), int)
    other = pose.copy()
    other[:, 2] = (0, 39, 38, 1)
    assert factor_distance(pose, other, FULL_FACTORS)[:2].tolist() == [0, 0]
    assert factor_distance(pose, other, FULL_FACTORS)[2] == factor_distance(pose, other, FULL_FACTORS)[3]
    assert FULL_FACTORS.target(other, "orientation").tolist() == [0, 0, 38, 1]


# --- quantizers, and what codes are called


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from fuzz import make_data

    folder = tmp_path_factory.mktemp("small")
    make_data(folder)
    return folder / "data"


def trained(data, folder, method, *words):
    line = [
        "train", method, "--dataset", "mpi3d_toy", "--dataset_K", "3", "--data_path", str(data),
        "--root_path", str(folder), *SMALL, *words
    ]
    assert main(line) == 0
    (run,) = folder.glob("default/*")
    return run


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("rule", ["ema", "loss"])
def test_vq_byol_trains_in_bf16(rule, hard, data, tmp_path):
    run = trained(
        data, tmp_path, "vq-byol", "--precision", "bf16", "--vq_update_rule", rule, "--vq_warmup_steps", "1",
        *(["--hard"] if hard else [])
    )
    assert np.isfinite(pd.read_csv(run / "metrics.csv")["loss"]).all()


def test_simclr_with_a_codebook_trains_in_bf16(data, tmp_path):
    run = trained(
        data, tmp_path, "moco-simclr", "--precision", "bf16", "--bottleneck", "vq", "--queue_size", "2",
        "--lr", "1e-4"
    )
    assert np.isfinite(pd.read_csv(run / "metrics.csv")["loss"]).all()


@pytest.mark.parametrize("rule", ["ema", "loss"])
def test_codewords_under_bf16_are_those_of_fp32(rule):
    torch.manual_seed(0)
    plain, half = (VQ(8, 256, dim=8, update_rule=rule, hard=True) for _ in range(2))
    half.load_state_dict(plain.state_dict())
    x = plain.codebook.detach()[torch.randint(256, (512, 8))].flatten(1) + 0.05 * torch.randn(512, 64)
    nearest = torch.cdist(x.view(-1, 8), plain.codebook.detach()).argmin(1).view(512, 8)
    with torch.autocast("cpu", torch.bfloat16):
        symbols = half(x).symbols
    assert (symbols == nearest).float().mean() > 0.999
    assert torch.equal(plain(x).symbols, symbols) and torch.equal(plain.codebook, half.codebook)


@pytest.mark.parametrize(("method", "words", "logged"), [
    ("byol", [], {"entropy_given_x"}),
    ("byol", ["--hard"], {"entropy_given_x"}),
    ("vq-byol", ["--vq_dimz", "8"], {"entropy_given_x", "codebook_entropy"}),
])
def test_entropies_have_one_meaning_each_and_hard_codes_are_not_called_certain(
    method, words, logged, data, tmp_path
):
    run = trained(data, tmp_path, method, *words)
    columns = set(pd.read_csv(run / "metrics.csv"))
    assert logged <= columns and "entropy" not in columns
    assert main(
        [
            "evaluate", method, "disentanglement", "--run_path", str(run), "--data_path", str(data),
            "--n_images", "100"
        ]
    ) == 0
    scores = pd.read_csv(run / "disentanglement.csv").set_index("metric")["score"]
    assert 0 < scores["entropy_given_x"] <= 3  # bits of 8 symbols; dim equals V in the third case
    assert json.loads((run / "config.json").read_text())["method"]["method"] == method

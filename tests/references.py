"""Losses, settings and probes of the kit beside an independent computation: loops, formulas, scikit-learn.

`python tests/references.py --before CHECKOUT` prints a table with the values of another checkout as well.
"""

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from torch import nn

from soft_ssl.experiment import build_method
from soft_ssl.factors import Factors
from soft_ssl.learner import make_optimizer
from soft_ssl.method import Progress, make_parts
from soft_ssl.pictures import views
from soft_ssl.probes import LogisticProbes, RidgeProbes
from soft_ssl.scale import cost, plan_in_words, preset_config
from soft_ssl.simclr import SimCLR

Row = tuple[str, float, float]  # what, the kit's value, the independent one
TINY = dict(h_dim=2, n_groups=2, n_symbols=2, predictor="Identity", embedder="Linear")


def contrast(queries: list, keys: list, queue: list, temperature: float) -> torch.Tensor:
    "One direction of the contrastive loss, a query at a time, without a matrix."
    cosine = lambda a, b: (a @ b) / (a.norm() * b.norm()) / temperature
    losses = []
    for i, query in enumerate(queries):
        others = [other for j, other in enumerate(queries) if j != i] + list(keys) + list(queue)
        losses.append(
            torch.stack([cosine(query, other) for other in others]).exp().sum().log() - cosine(query, keys[i])
        )
    return torch.stack(losses).mean()


def small_contrast(
    one: torch.Tensor, two: torch.Tensor, teachers: tuple, queue_size: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    "The kit's small SimCLR or MoCo on given projections, and the same by loops."
    parts = make_parts((64, 64, 1), torch.zeros(1), torch.ones(1), feature_dim=one.shape[1], **TINY)
    method = SimCLR(*parts, temperature=temperature, queue_size=queue_size)
    method.queue = torch.randn(
        2 * queue_size * len(one), one.shape[1], generator=torch.Generator().manual_seed(3)
    )
    queue = method.queue.clone()
    keys = teachers if queue_size else (one, two)
    by_kit = method.loss([one, two], list(keys), Progress())
    return (
        by_kit, (contrast(one, keys[1], queue, temperature) + contrast(two, keys[0], queue, temperature)) / 2
    )


def small_losses() -> list[Row]:
    "SimCLR and MoCo at small scale."
    aligned = torch.eye(64)
    kit, loops = small_contrast(aligned, aligned.clone(), (), 0, 0.1)
    rows = [("SimCLR, 64 orthogonal images, equal views, temperature 0.1", kit.item(), loops.item())]
    for name, queue_size in (("SimCLR", 0), ("MoCo", 2)):
        torch.manual_seed(0)
        one, two = (torch.randn(8, 16, requires_grad=True) for _ in range(2))
        kit, loops = small_contrast(one, two, (torch.randn(8, 16), torch.randn(8, 16)), queue_size, 0.5)
        gradients = [
            torch.cat(torch.autograd.grad(loss, [one, two], allow_unused=True)) for loss in (kit, loops)
        ]
        rows.append((f"{name}, random views, temperature 0.5", kit.item(), loops.item()))
        rows.append((f"{name}, the same: size of the gradient", *(g.norm().item() for g in gradients)))
        rows.append((f"{name}, the same: one number of it", *(g[3, 5].item() for g in gradients)))
    return rows


def large_losses() -> list[Row]:
    "What each large-scale method makes of random answers, and what the formulas say."
    torch.manual_seed(1)
    one, two = (torch.randn(6, 12, requires_grad=True) for _ in range(2))
    unit = lambda x: x / x.norm(dim=1, keepdim=True)
    small = dict(
        encoder="ResNet10", image_size=16, n_groups=2, n_symbols=2, projector_hidden=8, projection_dim=12
    )
    build = lambda name, **more: build_method(preset_config(name, "", small | more), (16, 16, 3))
    spread = lambda x: (1 - (x.var(0) + 1e-4).sqrt()).relu().mean()
    together = lambda x: (torch.cov(x.T) - torch.diag(x.var(0))).square().sum() / 12
    standard = lambda x: (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    correlation = standard(one).T @ standard(two) / 6
    distance = lambda a, b: (2 - 2 * (unit(a) * unit(b.detach())).sum(1)).mean()
    diagonal = correlation.diagonal()
    beside = (correlation - torch.diag(diagonal)).square().sum()
    spreads = spread(one) + spread(two)
    formulas = {
        "byol": distance(one, two) + distance(two, one),
        "simclr": (contrast(one, two, [], 0.2) + contrast(two, one, [], 0.2)) / 2,
        "barlow": 0.1 * ((1 - diagonal).square().sum() + 0.0051 * beside),
        "vicreg": 25 * (one - two).square().mean() + 25 * spreads + together(one) + together(two),
    }
    rows = []
    for name, by_hand in formulas.items():
        kit = build(
            name, **({"predictor_hidden": 8} if name == "byol" else {})
        ).loss([one, two], [one, two], Progress())
        gradients = [
            torch.cat(torch.autograd.grad(loss, [one, two], retain_graph=True)).norm().item()
            for loss in (kit, by_hand)
        ]
        rows += [
            (f"{name} at large scale", kit.item(), by_hand.item()),
            (f"{name} at large scale: size of the gradient", *gradients)
        ]
    for name in ("moco", "simclr"):
        embedder = build(name, **({"queue_size": 8} if name == "moco" else {})).student.embedder
        norms = sum(isinstance(layer, nn.BatchNorm1d) for layer in embedder)
        rows.append((f"{name} at large scale: BatchNorms after the embedder", norms, 1))
    return rows


JITTER = {
    "byol": (0.4, 0.4, 0.2, 0.1), "barlow": (0.4, 0.4, 0.2, 0.1), "dino": (0.4, 0.4, 0.2, 0.1),
    "vicreg": (0.4, 0.4, 0.2, 0.1), "moco": (0.4, 0.4, 0.4, 0.1), "simclr": (0.8, 0.8, 0.8, 0.2),
    "swav": (0.8, 0.8, 0.8, 0.2)
}
SOLARIZE = {
    "byol": (0, 0.2), "barlow": (0, 0.2), "dino": (0, 0.2), "vicreg": (0.1, 0.1), "moco": (0, 0),
    "simclr": (0, 0), "swav": (0, 0)
}


def view_numbers(preset: str, method: str) -> dict[str, list[float]]:
    """Jitter of the first view, and the probabilities of blur and solarize of both, read off the transforms
    of a preset."""
    from soft_ssl.experiment import options_of

    config = preset_config(method, preset)
    both = views(**{name: config[name] for name in options_of(views)})[:2]
    parts = [
        {
            type(part).__name__ + type(getattr(part, "transforms", [None])[0]).__name__: part
            for part in view.transforms
        }
        for view in both
    ]
    jitter = parts[0]["RandomApplyColorJitter"].transforms[0]
    strengths = [
        getattr(jitter, name)[1] - (name != "hue") for name in ("brightness", "contrast", "saturation", "hue")
    ]
    return {"jitter": strengths, "blur": [part["RandomApplyGaussianBlur"].p for part in parts],
            "solarize": [part["RandomSolarizeNoneType"].p for part in parts]}


def settings() -> list[Row]:
    "What presets come to, beside the published numbers."
    rows = []
    for name, jitter in JITTER.items():
        numbers = view_numbers("cifar100", name)
        rows.append((f"{name} on CIFAR-100: jitter of saturation", numbers["jitter"][2], jitter[2]))
        rows.append((f"{name} on CIFAR-100: solarize, first view", numbers["solarize"][0], SOLARIZE[name][0]))
        rows.append(
            (f"{name} on CIFAR-100: solarize, second view", numbers["solarize"][1], SOLARIZE[name][1])
        )
    for name in ("byol", "moco"):
        numbers = view_numbers("imagenet", name)
        rows += [
            (f"{name} on ImageNet: blur, {which} view", numbers["blur"][i], p)
            for i, (which, p) in enumerate((("first", 1.0), ("second", 0.1)))
        ]
    # the learning rate that a run says, and the first step of a layer at that rate, as a part of its weights
    for preset, method, lr, eta, clip in (
        ("imagenet", "byol", 0.45, 0.001, False), ("cifar100", "byol", 1.0, 0.02, True),
        ("cifar100", "swav", 0.6, 0.02, True)
    ):
        config = preset_config(method, preset)
        said = plan_in_words(config, cost(config, 50_000, 2), 50_000, 2)
        rate = float(re.search(r"learning rate .* = ([0-9.e-]+)", said).group(1))
        rows.append((f"{method}, {preset}: learning rate", rate, lr))
        torch.manual_seed(0)
        layer = nn.Linear(64, 64)
        layer.bias.data.fill_(0.5)
        chosen = {
            name: config[name] for name in ("optimizer", "wd", "lars_eta", "lars_clip", "exclude_bias_norm")
        }
        optimizer = make_optimizer(layer, **chosen)
        before = [p.detach().clone() for p in layer.parameters()]
        for p in layer.parameters():
            p.grad = torch.randn_like(p)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        for part, p, w in zip(("weights", "biases"), layer.parameters(), before):
            adapted, wd = (True, config["wd"]) if part == "weights" or method == "swav" else (False, 0.0)
            trust = eta * w.norm() / (p.grad.norm() + wd * w.norm()) if adapted else torch.tensor(1.0)
            trust = min(trust / lr, torch.tensor(1.0)) if adapted and clip else trust
            step = (lr * trust * (p.grad + wd * w)).norm() / w.norm()
            rows.append(
                (
                    f"{method}, {preset}: relative step of the {part}",
                    ((p.detach() - w).norm() / w.norm()).item(), step.item()
                )
            )
    return rows


WORLD = Factors(("kind", "side", "place"), (5, 2, 9), classes=("kind", "side", "place"))


def world(n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    "Features `(n, 20)` that depend on three factors, and the values of those."
    rng = np.random.default_rng(0)
    values = WORLD.values(rng.integers(0, len(WORLD), n))
    told = sum(np.eye(size)[v] @ rng.normal(size=(size, 20)) for v, size in zip(values.T, WORLD.sizes))
    return told + 0.7 * rng.normal(size=(n, 20)), values


def weights_of(probes: LogisticProbes, f: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and intercept of one factor, relative to centred features; earlier checkouts keep those of all
    factors side by side."""
    if hasattr(probes, "probes"):
        return tuple(part.numpy() for part in probes.probes[WORLD.names[f]][1:])
    columns = slice(sum(WORLD.sizes[:f]), sum(WORLD.sizes[: f + 1]))
    weights = probes.weights.double().numpy()[:, columns]
    return weights, probes.intercept.double().numpy()[columns]


def probe_rows() -> list[Row]:
    "Logistic and ridge probes beside scikit-learn's."
    x, values = world()
    mixed, train, rows = x * np.logspace(-3, 3, 20), slice(1000), []
    mixed = mixed - mixed[train].mean(0)
    for C in (1e-3, 1.0, 1e3):
        probes = LogisticProbes(WORLD, C)
        probes.add(torch.from_numpy(mixed[train]), values[train])
        with contextlib.redirect_stderr(io.StringIO()):
            said = probes.solve().predict(torch.from_numpy(mixed[1000:]))
        for f, name in enumerate(WORLD.names):
            y = values[:, f]
            best = LogisticRegression(
                C=C, solver="newton-cholesky", tol=1e-10, max_iter=5000
            ).fit(mixed[train], y[train])
            weights, intercept = weights_of(probes, f)
            if y.max() == 1 and weights.shape[1] == 2:  # two columns where one is enough: what they come to
                weights, intercept = weights[:, 1:] - weights[:, :1], intercept[1:] - intercept[:1]
            objectives = []
            for w, b in ((weights, intercept), (best.coef_.T, best.intercept_)):
                logits = mixed[train] @ w + b
                logits = np.concatenate([-logits, logits], 1) / 2 if w.shape[1] == 1 else logits
                objectives.append(
                    -log_softmax(logits, 1)[np.arange(1000), y[train]].sum() + (w**2).sum() / (2 * C)
                )
            rows.append((f"logistic probe of {name}, mixed scale, C {C:g}: objective", *objectives))
            if C == 1.0:
                rows.append(
                    (
                        f"logistic probe of {name}, mixed scale: accuracy", (said[name] == y[1000:]).mean(),
                        best.score(mixed[1000:], y[1000:])
                    )
                )
    for name, new in (
        ("logistic", lambda: LogisticProbes(WORLD, standardize=True)),
        ("ridge", lambda: RidgeProbes(WORLD, 1.0, standardize=True))
    ):
        for change, features in (("x 1e-7", x * 1e-7), ("+ 1e7", x + 1e7)):
            probes, expected = new(), new()
            probes.add(torch.from_numpy(features[train]), values[train])
            said = probes.solve().predict(torch.from_numpy(features[1000:]))["kind"]
            scaled = (x - x[train].mean(0)) / x[train].std(0)
            best = (
                LogisticRegression(tol=1e-8, max_iter=5000) if name == "logistic" else RidgeClassifier()
            ).fit(scaled[train], values[train, 0])
            expected = best.predict(scaled[1000:])
            rows.append(
                (
                    f"{name} probe, standardized, features {change}: accuracy",
                    (said == values[1000:, 0]).mean(), (expected == values[1000:, 0]).mean()
                )
            )
            rows.append(
                (
                    f"{name} probe, standardized, features {change}: share of labels that differ",
                    (said != expected).mean(), 0.0
                )
            )
    x_far = x + 1e7
    probes = RidgeProbes(WORLD)
    probes.add(torch.from_numpy(x_far[train]), values[train])
    said = probes.solve().predict(torch.from_numpy(x_far[1000:]))["kind"]
    rows.append(
        (
            "ridge probe, features + 1e7: share of labels that differ",
            (said != RidgeClassifier().fit(x[train], values[train, 0]).predict(x[1000:])).mean(), 0.0
        )
    )
    return rows


def all_rows() -> list[Row]:
    "Everything."
    return [
        (name, float(kit), float(other)) for part in (small_losses, large_losses, settings, probe_rows)
        for name, kit, other in part()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="another checkout, whose values are shown as well")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = all_rows()
    if args.json:
        print(json.dumps(rows))
        sys.exit()
    table = pd.DataFrame(rows, columns=["what", "kit", "independent"])
    if args.before:
        command = [sys.executable, str(Path(__file__).resolve()), "--json"]
        folder = str(Path(args.before).resolve())
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": folder}, capture_output=True, text=True,
            check=True
        )
        before = {name: kit for name, kit, _ in json.loads(done.stdout.splitlines()[-1])}
        table.insert(1, "before", [before.get(name, float("nan")) for name in table["what"]])
    print(table.to_markdown(index=False, floatfmt=".6g"))

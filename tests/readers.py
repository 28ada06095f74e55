"""Every evaluation on a run on factors, a pretrained run, pixels and a network of timm: one table. `python
tests/readers.py` prints it."""

import contextlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import timm
import torch
from torch import Tensor, nn

from soft_ssl.experiment import EVALUATIONS, evaluate, load_run, options_of, train
from soft_ssl.probes import FeatureFunction

SMALL = dict(
    n_groups=8, n_symbols=4, h_dim=8, feature_dim=16, max_steps=5, train_batch_size=16, n_sub_train=200,
    n_sub_test=100, show_progress=False
)
QUICK = {
    "linear": dict(taus="1", lrs="1", l1s="0", l2s="0", epochs=2),
    "tau_transfer": dict(taus="0.1,1", lrs="1", l1s="0", l2s="0", epochs=2),
    "top_k": dict(taus="1", lrs="1", l1s="0", l2s="0", epochs=2), "knn": dict(taus="1", k=5),
    "finetune": dict(epochs=1, fraction=0.5), "umap": dict(n_images=60),
    "few_labels": dict(n_labels=[60], n_sub_test=100), "toposim": dict(n_pairs=100),
    "disentanglement": dict(n_images=200),
}


class Pixels(nn.Module):
    "Mean-pooled pixels."

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images.float() / 255, 8).flatten(1)


class Timm(nn.Module):
    "A ResNet of timm with random weights, and 32 numbers at its end: SAP fits a reader for each."

    def __init__(self):
        super().__init__()
        self.network = timm.create_model("resnet10t", num_classes=32, in_chans=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.float() / 255)


def said(work) -> str:
    "What becomes of an evaluation: the number of finite scores, or the sentence that refuses it."
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            table = work()
        except ValueError as error:
            return f"refused: {error}"[:90]
    column = "score" if "score" in table else "x"
    return f"{len(table)} rows" if table[column].notna().all() else "NOT A NUMBER"


def readings(folder: Path) -> pd.DataFrame:
    "Every evaluation on everything that can be read."
    places = dict(data_path=str(folder), root_path=str(folder / "runs"))
    factors = train("byol", run_id="factors", **SMALL, **places)
    digits = SMALL | dict(h_dim=64, encoder="ResNet10", dataset="digits", image_size=16, workers=0)
    pictures = train("byol", run_id="pictures", **digits, **places, select_on="iid")
    _, data, _ = load_run(factors.path)
    rows = {}
    for name, evaluation in EVALUATIONS.items():
        few = QUICK.get(name, {})
        rows[name] = [
            said(lambda run=run, e=evaluation, few=few: evaluate(run.path, e, **few))
            for run in (factors, pictures)
        ]
        smaller = {
            option: value for option, value in dict(n_sub_train=200, n_sub_test=100).items()
            if option in options_of(evaluation)
        } | few
        for network in (Pixels().eval(), Timm().eval()):
            rows[name].append(
                said(
                    lambda e=evaluation, network=network, some=smaller: e(
                        FeatureFunction(network), data, **some
                    )
                )
            )
    return pd.DataFrame(rows, index=["run on factors", "run on pictures", "pixels", "timm ResNet"]).T


if __name__ == "__main__":
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        print(readings(Path(folder)).to_markdown())
